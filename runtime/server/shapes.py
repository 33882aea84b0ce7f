"""What the routes answer, as records: the schemas of /openapi.json, and nothing that runs.

No answer is made from these. The tests hold every answer against the document that they are in.
Programs have theirs in `program_shapes.py`, other dialects in `openai/shapes.py`.
"""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

Absent: TypeAlias = SkipJsonSchema[None]
"""Beside a type: the field may be missing. It is never null."""


def _may_be_missing(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class Shape(BaseModel):
    """Fields with a default may be missing; there are no others."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra=_may_be_missing, use_attribute_docstrings=True
    )


# -- errors


class Mistake(Shape):
    """A mistake of a program, with its place: in a source, or in a graph."""

    message: str
    line: int | Absent = None
    column: int | Absent = None
    source: str | Absent = None
    """The line."""
    node: int | Absent = None
    path: str | Absent = None


class Problem(Shape):
    """What is wrong, and what to change."""

    message: str
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "conflict_error",
        "run_error",
        "rate_limit_error",
        "cancelled_error",
        "server_error",
        "overloaded_error",
    ]
    param: str | None
    """The field that it is about."""
    code: str | None
    """For machines."""
    diagnostics: list[Mistake] | Absent = None
    limit: str | Absent = None
    """The limit that is exceeded."""
    most: float | Absent = None
    """What it allows."""


class Error(Shape):
    """The answer to whatever is refused, or fails."""

    error: Problem


class Health(Shape):
    """`ok`, or what is wrong."""

    status: str


# -- programs that do not run


class Parameter(Shape):
    """What a program takes. One without a default has to be given."""

    name: str
    type: str | None
    default: Any = None


class ProgramSignature(Shape):
    name: str
    parameters: list[Parameter]


class Checked(Shape):
    """The programs of a source, or all of its mistakes."""

    ok: bool
    programs: list[ProgramSignature]
    mistakes: list[Mistake]


class SharedPrefix(Shape):
    """What every run begins with."""

    tokens: int
    text: str


class Bound(Shape):
    """At most this much whatever a run sees; null: nobody can say."""

    generated: int | None
    branches: int | None
    turns: int | None
    """Of loops."""


class StateBound(Shape):
    """One state: the program's own, a branch, or that of a program that is called."""

    begins: int
    """The node it begins with."""
    ends: int
    own: int
    """Tokens that its own nodes append."""
    context: int
    uses: int
    """Draws that read what it began on."""
    next_use: int | None


class Planned(Shape):
    """What a run can take at most, in tokens and blocks, and what is known of it ahead."""

    program: str
    stops: Mistake | None
    """Where planning stops: behind it the program looks at values that nobody knows yet."""
    shared_prefix: SharedPrefix
    most: Bound | None
    states: list[StateBound]
    inputs: list[str]
    """Arguments that are not given, and that the bounds leave out."""
    prompt: int
    prompt_alone: int
    """The same without sharing."""
    generated: int
    context: int
    context_least: int
    branches: int
    branches_live: int
    """There at once."""
    block_size: int
    """Tokens of a block."""
    blocks: int
    blocks_alone: int
    """The same without sharing."""
    critical: list[int]
    """The longest row of draws that wait for each other, by node."""
    critical_tokens: int
    uses: list[int]
    next_use: list[int | None]


# -- the library


class StoredProgram(Shape):
    """A program that is stored under a name."""

    name: str
    object: Literal["library.program"]
    program: str
    parameters: list[Parameter]
    created: int


class StoredWhole(StoredProgram):
    """The same with its plan, which knows no arguments."""

    plan: Planned


class StoredList(Shape):
    object: Literal["list"]
    data: list[StoredProgram]


class StoredDeleted(Shape):
    name: str
    deleted: Literal[True]


# -- the cache


class CacheSpan(Shape):
    """Cached blocks behind each other, without a branch."""

    id: int
    above: int | None
    """The span that it goes on from."""
    start: int
    """Tokens before it."""
    tokens: int
    text: str
    """How it begins."""
    blocks: int
    held: int
    """Blocks that are in use; the others could be evicted."""
    found: int
    """Tokens that were found here, and not computed."""
    maker: str
    """The variable, or the program, that computed it."""
    public: bool
    """Whether all tenants share it."""


class CacheWindow(Shape):
    block_size: int
    spans: list[CacheSpan]
    left_out: int
    """Ways on that were too many to show."""


class Wanted(Shape):
    """Where a prompt leaves what is cached."""

    tokens: list[int]
    text: str


class CachedNear(Shape):
    """How cached text goes on there."""

    tokens: list[int]
    text: str
    maker: str
    whole: bool
    """Of a full block; else of one that is being filled."""


class Explained(Shape):
    tokens: int
    found: int
    text_found: str
    """The end of what was found."""
    wanted: Wanted
    evicted: bool
    """Whether what was wanted had been there."""
    nearest: list[CachedNear]


class Forgotten(Shape):
    blocks: int


class PinAnswer(Shape):
    id: str
    tokens: int
    blocks: int
    seconds_left: float = Field(ge=0)


class PinList(Shape):
    pins: list[PinAnswer]


class PinEnded(Shape):
    id: str
