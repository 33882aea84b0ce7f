"""The command line. Only to run a program, or to count its tokens, it loads the engine."""

from ramet.runtime.cli.app import main

__all__ = ["main"]
