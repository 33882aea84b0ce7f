"""Ramet: write language-model programs, run them on shared key/value blocks."""

from ramet.codec import from_json, to_json
from ramet.errors import (
    AppendError,
    ArgumentError,
    GraphError,
    LanguageError,
    NoRunner,
    ParameterError,
    RametError,
    Span,
    TraceError,
    UnknownVariable,
)
from ramet.expressions import assistant, gen, score, select, system, user
from ramet.graph import Graph
from ramet.params import SamplingParams
from ramet.program import Program, program
from ramet.state import Branches, State
from ramet.types import Type
from ramet.values import Gathered, Value
from ramet.verify import verify

__all__ = [
    "AppendError",
    "ArgumentError",
    "Branches",
    "Gathered",
    "Graph",
    "GraphError",
    "LanguageError",
    "NoRunner",
    "ParameterError",
    "Program",
    "RametError",
    "SamplingParams",
    "Span",
    "State",
    "TraceError",
    "Type",
    "UnknownVariable",
    "Value",
    "assistant",
    "from_json",
    "gen",
    "program",
    "score",
    "select",
    "system",
    "to_json",
    "user",
    "verify",
]
