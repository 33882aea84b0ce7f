"""The nodes of a request graph, and what a program returns: frozen records, nothing else.

A node's id is its place in the graph. Every node but `Root` continues one *state*: the id of the
node after which it comes. Knows no law (`ramet.verify`) and no text form (`ramet.render`).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ramet.errors import Span
from ramet.params import SamplingParams

Role: TypeAlias = Literal["system", "user", "assistant"]
Method: TypeAlias = Literal["mean_logprob", "sum_logprob", "greedy", "unconditional"]

GREEDY = SamplingParams()
ROLES: tuple[Role, ...] = get_args(Role)
METHODS: tuple[Method, ...] = get_args(Method)
ATTRIBUTES = ("finish_reason", "logprobs", "prob", "probs", "text", "tokens")
"""What can be asked of a value besides the value itself; each says whether the node has it."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that a node binds, or one of its `ATTRIBUTES`."""

    node: int
    attribute: str | None = None


Part: TypeAlias = str | Ref
"""A piece of a text: written out, or the value of a node as text."""


@dataclass(frozen=True, slots=True)
class Node:
    """What all nodes have. Where a node was written is no part of what it is."""

    span: Span | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Root(Node):
    """The empty state. Node 0, and only node 0."""


@dataclass(frozen=True, slots=True)
class Step(Node):
    """A node that continues a state."""

    state: int


@dataclass(frozen=True, slots=True)
class Text(Step):
    """Append a text."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Open(Step):
    """A turn of the chat begins."""

    role: Role


@dataclass(frozen=True, slots=True)
class Close(Step):
    """The turn of that role ends."""

    role: Role


@dataclass(frozen=True, slots=True)
class Gen(Step):
    """Draw tokens, append them, bind their text; with `n` over 1 bind the list, append nothing."""

    name: str
    params: SamplingParams = GREEDY


@dataclass(frozen=True, slots=True)
class Select(Step):
    """Score all options on the context, append and bind one: the best, or one that is drawn."""

    name: str
    options: tuple[str, ...]
    by: Method = "mean_logprob"
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Fork(Step):
    """From here, `count` branches share what there is; the state itself goes on from here, too."""

    count: int


@dataclass(frozen=True, slots=True)
class Branch(Step):
    """The beginning of one branch; its state is the `Fork`."""

    index: int


KINDS: dict[str, type[Node]] = {
    kind.__name__.lower(): kind for kind in (Root, Text, Open, Close, Gen, Select, Fork, Branch)
}


def kind_of(node: Node) -> str:
    """The name of the node's kind, as the JSON and the text form spell it."""
    return type(node).__name__.lower()


@dataclass(frozen=True, slots=True)
class TextOf:
    """A text made of parts."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list."""

    items: "tuple[Result, ...]"


@dataclass(frozen=True, slots=True)
class TupleOf:
    """A tuple."""

    items: "tuple[Result, ...]"


@dataclass(frozen=True, slots=True)
class MapOf:
    """A dictionary, in its order."""

    items: "tuple[tuple[str, Result], ...]"


Result: TypeAlias = bool | int | float | str | Ref | TextOf | ListOf | TupleOf | MapOf | None
"""What a program returns. None at the top means all variables of the root's chain."""
