"""Ramet: write language-model programs, run them on shared key/value blocks."""

from typing import TYPE_CHECKING

from ramet.codec import from_json, to_json
from ramet.errors import (
    AppendError,
    ArgumentError,
    Diagnostic,
    EvaluationError,
    GraphError,
    LanguageError,
    LimitError,
    NoRunner,
    ParameterError,
    RametError,
    SourceError,
    Span,
    TraceError,
    UnknownVariable,
)
from ramet.expressions import assistant, gen, join, score, select, system, user
from ramet.gathering import argmax, argmin, majority
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.params import SamplingParams
from ramet.program import Program, program
from ramet.state import Branches, State
from ramet.types import Type
from ramet.values import Gathered, Value
from ramet.verify import verify

if TYPE_CHECKING:
    from ramet.syntax.load import library, load, loads

__all__ = [
    "AppendError",
    "ArgumentError",
    "Branches",
    "Diagnostic",
    "EvaluationError",
    "Gathered",
    "Graph",
    "GraphError",
    "LanguageError",
    "LimitError",
    "Limits",
    "NoRunner",
    "ParameterError",
    "Program",
    "RametError",
    "SamplingParams",
    "SourceError",
    "Span",
    "State",
    "TraceError",
    "Type",
    "UnknownVariable",
    "Value",
    "argmax",
    "argmin",
    "assistant",
    "from_json",
    "gen",
    "join",
    "library",
    "load",
    "loads",
    "majority",
    "program",
    "score",
    "select",
    "system",
    "to_json",
    "user",
    "verify",
]


def __getattr__(name: str) -> object:
    """Programs in text are read by a package of its own, which is loaded when one is."""
    if name not in ("library", "load", "loads"):
        raise AttributeError(f"module 'ramet' has no attribute {name!r}")
    from ramet.syntax import load

    return getattr(load, name)
