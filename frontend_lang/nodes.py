"""The nodes of a request graph, and what a program returns: frozen records, nothing else.

A node's id is its place in the graph. A `Step` names a *state* by the id of the node after which it
comes: it continues that state, or (a `Branch`, a `Call`) begins one there. Knows no law
(`ramet.laws`) and no text form (`ramet.render`).
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ramet.errors import Span
from ramet.params import SamplingParams
from ramet.types import Type

Role: TypeAlias = Literal["system", "user", "assistant"]
Method: TypeAlias = Literal["mean_logprob", "sum_logprob", "greedy", "unconditional"]

GREEDY = SamplingParams()
ROLES: tuple[Role, ...] = get_args(Role)
METHODS: tuple[Method, ...] = get_args(Method)
TYPES = ("str", "int", "float", "bool", "list", "map")
"""The types that a parameter of a program can have, as the language spells them."""


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
    """Draw tokens, append them, bind their text, or what a type makes of it.

    With `n` over 1 bind the list, append nothing.
    """

    name: str
    params: SamplingParams = GREEDY
    type: Type | None = None


@dataclass(frozen=True, slots=True)
class Select(Step):
    """Score all options on the context, append and bind one: the best, or one that is drawn."""

    name: str
    options: tuple[str, ...]
    by: Method = "mean_logprob"
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Score(Step):
    """Bind the log-probability of a text as the continuation of the context; append nothing."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Fork(Step):
    """From here, `count` branches share what there is; the state itself goes on from here, too."""

    count: int


@dataclass(frozen=True, slots=True)
class Sample(Step):
    """Draw several continuations (`n` samples, or the beams); each goes on as a branch of its own.

    A branch binds the name to its own continuation. The state itself goes on without any.
    """

    name: str
    params: SamplingParams = GREEDY
    type: Type | None = None

    @property
    def count(self) -> int:
        """How many branches there are."""
        return self.params.n if self.params.n > 1 else self.params.beams


@dataclass(frozen=True, slots=True)
class Branch(Step):
    """The beginning of one branch; its state is the `Fork` or the `Sample`."""

    index: int


@dataclass(frozen=True, slots=True)
class Keep(Step):
    """The state becomes that branch, as it is after the node `branch`; the others are released."""

    branch: int


@dataclass(frozen=True, slots=True)
class Call(Step):
    """The beginning of an empty state, for another program that is called from this one."""

    program: str


@dataclass(frozen=True, slots=True)
class Input(Node):
    """An argument that is not known yet; its value is given when the graph is run."""

    name: str
    takes: str = "str"  # one of `TYPES`


Binding: TypeAlias = Gen | Select | Score | Sample
"""The nodes with the name of a variable. A `Sample` binds it on its branches only."""

COUNTED = (Gen, Select, Sample, Fork)
"""The nodes that give a state its steps: where a draw is made is told by how many came before."""

KINDS: dict[str, type[Node]] = {
    kind.__name__.lower(): kind
    for kind in (
        Root,
        Input,
        Text,
        Open,
        Close,
        Gen,
        Select,
        Score,
        Fork,
        Sample,
        Branch,
        Keep,
        Call,
    )
}

GEN_ATTRIBUTES = ("finish_reason", "logprobs", "prob", "score", "scores", "text", "texts", "tokens")
SELECT_ATTRIBUTES = ("entropy", "logprobs", "prob", "probs", "scores", "text", "tokens")
SCORE_ATTRIBUTES = ("logprobs", "mean", "prob", "text", "tokens")
ATTRIBUTES = tuple(sorted({*GEN_ATTRIBUTES, *SELECT_ATTRIBUTES, *SCORE_ATTRIBUTES}))
"""What can be asked of a value besides the value itself."""
ATTRIBUTES_OF: dict[type[Node], tuple[str, ...]] = {
    Gen: GEN_ATTRIBUTES,
    Sample: GEN_ATTRIBUTES,
    Select: SELECT_ATTRIBUTES,
    Score: SCORE_ATTRIBUTES,
    Input: (),
}
"""Those that each kind of node gives its value."""
SCALARS = ("entropy", "finish_reason", "mean", "prob", "score", "text")
"""The attributes that are a text or a number, and so can be part of a text."""


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


@dataclass(frozen=True, slots=True)
class Object:
    """An instance of a class, as JSON; a run of the program itself returns the instance."""

    json: str
    value: object = field(compare=False, repr=False)


Result: TypeAlias = (
    bool | int | float | str | Ref | TextOf | ListOf | TupleOf | MapOf | Object | None
)
"""What a program returns. None at the top means all variables of the root's chain."""
