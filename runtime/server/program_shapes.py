"""What runs of programs are answered with, whole or as events, as records of /openapi.json."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ramet.runtime.server.shapes import Absent, Error, Problem, Shape


class RunUsage(Shape):
    """Tokens that were computed and that were not."""

    prompt_computed: int
    """Prompt tokens that the model ran, again after a preemption too."""
    prompt_reused: int
    """Prompt tokens that were in the cache."""
    generated: int
    forced: int
    """Of those generated, the ones that a grammar left no choice for."""
    copied_blocks: int
    """Copies on write."""
    preemptions: int


class GenDetail(Shape):
    """How a generation came about. `logprobs` where the node asks for them; `texts` and `scores`
    of the hypotheses or samples, the best first."""

    finish_reason: Literal["eos", "stop", "grammar", "length"]
    tokens: int
    logprobs: list[float | None] | Absent = None
    texts: list[str] | Absent = None
    scores: list[float | None] | Absent = None


class SelectDetail(Shape):
    """How the options of a select were scored. `entropy` is in nats."""

    probs: dict[str, float | None]
    scores: dict[str, float | None]
    entropy: float | None


class ScoreDetail(Shape):
    """How likely a text is, in the mean over its tokens."""

    mean: float | None
    tokens: int


Detail: TypeAlias = GenDetail | list[GenDetail] | SelectDetail | ScoreDetail


class BranchResult(Shape):
    """What a branch came to."""

    path: str
    text: str
    variables: dict[str, Any]
    details: dict[str, Detail]
    branches: list["BranchResult"]
    usage: RunUsage


class RunResult(Shape):
    """What a run came to: what the program returns, its text, its variables by name."""

    program: str
    value: Any
    text: str
    variables: dict[str, Any]
    details: dict[str, Detail]
    """What is known of each variable besides its value."""
    branches: list[BranchResult]
    usage: RunUsage


class ProgramAnswer(Shape):
    id: str
    object: Literal["program"]
    program: str
    """Its name."""
    created: int
    """Seconds since the epoch."""


class ProgramRunning(ProgramAnswer):
    """A program on its way."""

    status: Literal["running"]


class ProgramDone(ProgramAnswer):
    """A program that is over."""

    status: Literal["done"]
    result: RunResult


class ProgramFailed(ProgramAnswer):
    """A program that is over without a result."""

    status: Literal["failed", "cancelled"]
    error: Problem


class ItemDone(Shape):
    result: RunResult


class BatchDone(ProgramAnswer):
    """A batch that is over, a result or an error for each of its argument sets."""

    status: Literal["done", "cancelled"]
    results: list[ItemDone | Error]


RanAnswer: TypeAlias = ProgramDone | BatchDone
OverAnswer: TypeAlias = ProgramDone | ProgramFailed | BatchDone
AnyAnswer: TypeAlias = ProgramRunning | ProgramDone | ProgramFailed | BatchDone


# -- the data of events; in a batch each has its item


class RunEvent(Shape):
    item: int | Absent = None


class NodeEvent(RunEvent):
    """A state came to a node."""

    node: int
    kind: str
    name: str | None
    """Of its variable."""
    path: str
    """Of the state; empty for the program's own."""


class TextEvent(RunEvent):
    """Text that a generation released."""

    node: int
    name: str
    path: str
    sample: int
    text: str
    tokens: list[int] | Absent = None
    """Those drawn since the last one."""


class ValueEvent(RunEvent):
    """A variable got its value."""

    node: int
    name: str
    path: str
    value: Any
    details: Detail | None


class BranchEvent(RunEvent):
    path: str


class UsageEvent(RunEvent):
    usage: RunUsage


class ResultEvent(RunEvent):
    result: RunResult


class ErrorEvent(RunEvent):
    error: Problem


class DoneEvent(Shape):
    id: str
    status: Literal["done", "failed", "cancelled"]


EVENTS: Mapping[str, type[Shape]] = {
    "created": ProgramRunning,
    "node": NodeEvent,
    "text": TextEvent,
    "value": ValueEvent,
    "branch_opened": BranchEvent,
    "branch_kept": BranchEvent,
    "branch_released": BranchEvent,
    "usage": UsageEvent,
    "result": ResultEvent,
    "error": ErrorEvent,
    "done": DoneEvent,
}
"""By their names."""
