"""One state of a running program: a chain of nodes over one engine sequence.

Text is collected until tokens are needed, so that neighbours are tokenized together; generated
tokens stay tokens. A branch takes over the tokens, the uncollected text and the open turn.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from ramet.nodes import Node
from ramet.runtime.chat import Conversation
from ramet.runtime.sequence import Sequence, Task, Usage
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import Info


@dataclass(frozen=True, slots=True)
class ForTasks:
    """Wait until these tasks ended."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class ForValue:
    """Wait until this node has a value."""

    node: int


@dataclass(frozen=True, slots=True)
class ForNodes:
    """Wait until the program appends something to this state."""


@dataclass(frozen=True, slots=True)
class ForRest:
    """Wait until that state has run all it has, or ended."""

    state: "Context"


@dataclass(frozen=True, slots=True)
class ForWork:
    """Wait until another state has done the same work."""


@dataclass(frozen=True, slots=True)
class ForGrammar:
    """Wait until a type is compiled."""


Wait = ForTasks | ForValue | ForNodes | ForRest | ForWork | ForGrammar
Process = Generator[Wait, None, None]


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a state's text, and whether the model wrote it."""

    text: str
    generated: bool


@dataclass(eq=False, slots=True)
class Context:
    """What a state has so far, and the nodes it still has to run."""

    conversation: Conversation
    path: str = ""  # its place among the forks: "/2.0" is branch 0 of its second draw or fork
    sequence: Sequence | None = None
    pending: list[Piece] = field(default_factory=list)  # text not yet turned into tokens
    queue: deque[tuple[int, Node]] = field(default_factory=deque)
    steps: int = 0  # draws and forks so far
    process: Process | None = None  # set when the state starts to run
    waits: Wait | None = None
    missing: int = 0  # tasks it still waits for
    usage: Usage = field(default_factory=Usage)
    written: list[Span] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)
    infos: dict[str, Info] = field(default_factory=dict)
    children: "list[Context]" = field(default_factory=list)
    family: "dict[int, Context]" = field(default_factory=dict)  # the branches of its fork, by index
    calls: int = 0  # programs called from here
    drawn: tuple[str, object, Info] | None = None  # what a branch of a sample begins with
    owned: set[Sequence] = field(default_factory=set)  # to be closed when the state ends
    watchers: "list[Context]" = field(default_factory=list)  # that wait for this one to rest
    retired: bool = False  # the program will append nothing more
    ended: bool = False  # released; it runs no more
    wanted: bool = False  # a keep is going to take over what it has

    @property
    def resting(self) -> bool:
        """Nothing to do until the program appends something."""
        return self.ended or (not self.queue and isinstance(self.waits, ForNodes))

    @property
    def place(self) -> str:
        """Where in the program a draw is made: the state's path, and the step on it."""
        return f"{self.path}:{self.steps}"

    @property
    def plain(self) -> str:
        """The end of the uncollected text that no template wrote."""
        pieces = takewhile(lambda piece: not piece.control, reversed(self.pending))
        return "".join(piece.text for piece in reversed([*pieces]))

    def walk(self) -> "Iterator[Context]":
        """This state and all under it, parents first."""
        found = [self]
        for context in found:
            found += context.children
        return iter(found)

    def write(self, text: str) -> None:
        """The program appends text."""
        self.pending.append(Piece(text, control=False))
        self.written.append(Span(text, generated=False))

    def write_template(self, piece: Piece) -> None:
        """The chat template appends what surrounds a turn."""
        self.pending.append(piece)
        self.written.append(Span(piece.text, generated=False))

    def generated(self, text: str, leftover: str) -> None:
        """The model appended text; its last piece, `leftover`, has no tokens of its own."""
        self.written.append(Span(text, generated=True))
        if leftover:
            self.pending = [Piece(leftover, control=False)]

    def own(self, sequence: Sequence) -> None:
        """Go on with that sequence."""
        self.sequence = sequence
        self.owned.add(sequence)

    def become(self, branch: "Context") -> None:
        """Go on with all that the branch has; it is left without a sequence."""
        self.conversation = branch.conversation
        self.pending = list(branch.pending)
        self.values = dict(branch.values)
        self.infos = dict(branch.infos)
        self.written += branch.written
        self.sequence = None
        if branch.sequence is not None:
            branch.owned.discard(branch.sequence)
            self.own(branch.sequence)
        branch.sequence = None

    def begin(self, parent: "Context", index: int) -> None:
        """Start as a branch: with what the parent has now. It has no sequence yet."""
        self.path = f"{parent.path}/{parent.steps}.{index}"
        self.conversation = parent.conversation
        self.pending = list(parent.pending)
        self.values = dict(parent.values)
        self.infos = dict(parent.infos)
