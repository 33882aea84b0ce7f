"""Constrained decoding: which tokens may come next so that the text obeys a type."""

from ramet.runtime.grammar.compilation import Compilation
from ramet.runtime.grammar.compiler import GrammarCompiler
from ramet.runtime.grammar.state import Grammar

__all__ = ["Compilation", "Grammar", "GrammarCompiler"]
