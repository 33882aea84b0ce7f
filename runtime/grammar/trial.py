"""Compiles a type in a process of its own first, which is stopped if that takes too long.

The engine's fuel bounds what its lexer does. It does not bound what comes before: whether an
intersection of patterns is empty (`allOf`, `&`, `~`), what the multiples of several numbers have in
common, how deep the rules lead. What certainly needs none of it (`hazards.py`) is not tried out.

As a script, it is that process: it reads the engine's source, and ends with 0 when it is compiled.
It imports nothing of ramet, so that it starts in a tenth of a second.
"""

import resource
import signal
import subprocess
import sys
from typing import IO

SECONDS = 0.4
MIB = 128
STACK = 1 << 20  # bytes; a thread has at least twice that


class Trial:
    """One trial at a time; `stop` ends the one that is under way, from another thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def survives(self, source: str) -> bool:
        """Whether compiling it takes at most 0.4 s of CPU time and 128 MiB."""
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-P", __file__]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet
        ) as self._process:
            self._process.communicate(source.encode())
        return self._process.returncode >= 0  # negative: a signal ended it

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()


def _compile(source: IO[str]) -> None:
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    most = size + (MIB << 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of CPU time; then SIGPROF ends the process
    matcher = LLMatcher(tokenizer, source.read(), log_level=0)
    matcher.compute_bitmask()


if __name__ == "__main__":
    _compile(sys.stdin)
