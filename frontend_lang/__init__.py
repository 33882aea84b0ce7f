"""Ramet: write language-model programs, run them on shared key/value blocks."""

from importlib import import_module
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
    from ramet.client import AsyncClient, Client
    from ramet.syntax.load import library, load, loads

__all__ = [
    "AppendError",
    "ArgumentError",
    "AsyncClient",
    "Branches",
    "Client",
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


_HOMES = {
    "AsyncClient": "ramet.client",
    "Client": "ramet.client",
    "library": "ramet.syntax.load",
    "load": "ramet.syntax.load",
    "loads": "ramet.syntax.load",
}


def __getattr__(name: str) -> object:
    """Programs in text are read, and servers are asked, by packages that are loaded then."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ramet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
