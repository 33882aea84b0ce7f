"""Ramet: write language-model programs, run them on shared key/value blocks."""

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
from ramet.expressions import assistant, gen, score, select, system, user
from ramet.gathering import argmax, argmin, join, majority
from ramet.graph import Graph
from ramet.limits import Limits
from ramet.params import SamplingParams
from ramet.program import Program, program
from ramet.state import Branches, State
from ramet.syntax.load import library, load, loads
from ramet.types import Type
from ramet.values import Gathered, Value
from ramet.verify import verify

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
