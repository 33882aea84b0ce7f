"""Runs the nodes of a program: one method for each kind, on states that go on side by side.

Knows graphs, and of the engine sequences and tasks; no tensors, no blocks. Each state is a
generator that yields what it waits for, so a waiting program costs an object and no thread.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import ClassVar

from ramet.errors import LanguageError
from ramet.nodes import (
    Branch,
    Close,
    Fork,
    Gen,
    Node,
    Open,
    Part,
    Ref,
    Root,
    Select,
    Step,
    Text,
)
from ramet.runtime.chat import ChatFormat
from ramet.runtime.choice import Scored, choose
from ramet.runtime.context import Context, ForNodes, ForTasks, ForValue, Process
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import PromptError
from ramet.runtime.events import Event, TextDelta, ValueBound
from ramet.runtime.sampling import sample_key
from ramet.runtime.sequence import Generation, Scoring, Sequence as EngineSequence, Task
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import (
    GenInfo,
    Info,
    SamplesInfo,
)


class Interpreter:
    """The states of one program run. `accept` takes nodes; `pump` runs what can run."""

    def __init__(
        self,
        core: EngineCore,
        chat: ChatFormat,
        seed: int,
        on_event: Callable[[Event], None] | None = None,
        scope: bytes = b"",
    ) -> None:
        self._core = core
        self._seed = seed
        self._scope = scope
        self._on_event = on_event
        self._chat = chat
        self.root = Context(chat.start())
        self.error: Exception | None = None
        self._values: dict[int, object] = {}
        self._infos: dict[int, Info] = {}
        self._context_of: dict[int, Context] = {}
        self._branches: dict[tuple[int, int], Context] = {}
        self._readers: dict[int, list[Context]] = {}
        self._ready: deque[Context] = deque()
        self._sequences: set[EngineSequence] = set()
        self.whole = False

    # -- what a run sees

    def accept(self, id: int, node: Node) -> None:
        """Take the next node of the program."""
        if isinstance(node, Root):
            self._context_of[id] = self.root
            self._start(self.root)
            return
        assert isinstance(node, Step), "only the root continues nothing"
        if isinstance(node, Branch):
            context = self._branch(node.state, node.index)
        else:
            context = self._context_of[node.state]
        self._context_of[id] = context
        context.queue.append((id, node))
        if isinstance(context.waits, ForNodes):
            self._wake(context)

    def close(self) -> None:
        """The program appends no more: states give their blocks back as soon as they end."""
        self.whole = True
        for context in self._contexts():
            self._release_if_over(context)

    def pump(self) -> None:
        """Run every state until it waits for the engine, or the program."""
        while self._ready and self.error is None:
            self._resume(self._ready.popleft())

    def has_value(self, node: int) -> bool:
        return node in self._values

    def value(self, node: int) -> object:
        return self._values[node]

    def info(self, node: int) -> Info:
        return self._infos[node]

    @property
    def over(self) -> bool:
        """Whether every state ran all its nodes and no more will come."""
        return self.whole and not self._ready and all(c.resting for c in self._contexts())

    def fail(self, error: Exception, node: Node | None = None) -> None:
        """End the run: abort its tasks, give all its blocks back, keep what was written."""
        if self.error is None:
            if node is not None and node.span is not None and not isinstance(error, LanguageError):
                error.add_note(f"in the program at {node.span}")
            self.error = error
        self.whole = True
        for sequence in list(self._sequences):
            self._close(sequence)

    # -- states

    def _contexts(self) -> list[Context]:
        found = [self.root]
        for context in found:
            found += context.children
        return found

    def _start(self, context: Context) -> None:
        context.process = self._process(context)
        self._ready.append(context)

    def _wake(self, context: Context) -> None:
        context.waits = None
        self._ready.append(context)

    def _resume(self, context: Context) -> None:
        assert context.process is not None, "only started states are ready"
        try:
            context.waits = next(context.process)
        except Exception as error:
            self.fail(error, context.queue[0][1])
            return
        match context.waits:
            case ForTasks(tasks):
                context.missing = len(tasks)
            case ForValue(value):
                self._readers.setdefault(value, []).append(context)
            case ForNodes():
                self._release_if_over(context)

    def _process(self, context: Context) -> Process:
        """The life of a state."""
        while True:
            while context.queue:
                id, node = context.queue[0]
                context.steps += 1
                yield from self._run[type(node)](self, context, id, node)
                context.queue.popleft()
            yield ForNodes()

    def _release_if_over(self, context: Context) -> None:
        if self.whole and context.resting and context.sequence is not None:
            self._close(context.sequence)

    def _close(self, sequence: EngineSequence) -> None:
        self._sequences.discard(sequence)
        self._core.close(sequence)

    def _fork_sequence(self, sequence: EngineSequence) -> EngineSequence:
        child = self._core.fork(sequence)
        self._sequences.add(child)
        return child

    def _branch(self, fork: int, index: int) -> Context:
        """The state of a branch; made when its fork runs, or its first node comes, if earlier."""
        key = (fork, index)
        if key not in self._branches:
            parent = self._context_of[fork]
            self._branches[key] = Context(self._chat.start())
            parent.children.append(self._branches[key])
        return self._branches[key]

    # -- nodes

    def _text(self, context: Context, id: int, node: Text) -> Process:
        for part in node.parts:
            if isinstance(part, Ref) and part.node not in self._values:
                yield ForValue(part.node)
        context.write("".join(map(self._shown, node.parts)))

    def _open(self, context: Context, id: int, node: Open) -> Process:
        yield from ()
        piece, context.conversation = context.conversation.open(node.role)
        context.write_template(piece)
        context.turn = ""

    def _close_role(self, context: Context, id: int, node: Close) -> Process:
        yield from ()
        piece, context.conversation = context.conversation.close(context.turn)
        context.write_template(piece)

    def _fork(self, context: Context, id: int, node: Fork) -> Process:
        yield from ()
        for index in range(node.count):
            child = self._branch(id, index)
            child.begin(context, index)
            if context.sequence is not None:
                child.sequence = self._fork_sequence(context.sequence)
            self._start(child)

    def _begin_branch(self, context: Context, id: int, node: Branch) -> Process:
        yield from ()

    def _gen(self, context: Context, id: int, node: Gen) -> Process:
        sequence = self._encoded(context)
        if node.params.n > 1:
            yield from self._samples(context, sequence, id, node)
            return
        task = self._generate(context, sequence, id, node, 0)
        yield ForTasks((task,))
        self._settle(context, (task,))
        context.generated(task.text.text, task.text.leftover)
        self._bind(context, id, node, task.text.text, _gen_info(task))

    def _samples(self, context: Context, sequence: EngineSequence, id: int, node: Gen) -> Process:
        """n samples side by side on forks; the state itself appends nothing."""
        forks = [self._fork_sequence(sequence) for _ in range(node.params.n)]
        tasks = tuple(
            self._generate(context, fork, id, node, index) for index, fork in enumerate(forks)
        )
        yield ForTasks(tasks)
        self._settle(context, tasks)
        for fork in forks:
            self._close(fork)
        infos = tuple(map(_gen_info, tasks))
        self._bind(context, id, node, [info.text for info in infos], SamplesInfo(infos))

    def _generate(
        self, context: Context, sequence: EngineSequence, id: int, node: Gen, sample: int
    ) -> Generation:
        def tell(text: str) -> None:
            self._emit(TextDelta(id, node.name, context.path, text, sample))

        seed = self._seed if node.params.seed is None else node.params.seed
        task = self._core.generate(
            sequence,
            node.params,
            key=sample_key(seed, _place(context), sample),
            on_done=partial(self._ended, context),
            on_text=tell if self._on_event is not None else None,
        )
        return task

    def _select(self, context: Context, id: int, node: Select) -> Process:
        sequence = self._opened(context)
        known = list(sequence.tokens)
        ways = [self._encode(context, [*context.pending, Piece(o, False)]) for o in node.options]
        at = _agreed([self._encode(context, context.pending), *ways], [len(w) - 1 for w in ways])
        if len(known) + at == 0:
            raise PromptError("select needs some text before it to score its options on")
        start = len(known) + at
        sequence.tokens += ways[0][:at]
        scored = self._score(context, sequence, start)
        yield ForTasks((scored,))
        self._settle(context, (scored,))
        forks = [self._fork_sequence(sequence) for _ in ways]
        for fork, way in zip(forks, ways, strict=True):
            fork.tokens += way[at:]
        tasks = tuple(self._score(context, fork, start) for fork in forks)
        yield ForTasks(tasks)
        self._settle(context, tasks)
        logprobs = [task.logprobs for task in tasks]
        alone = [[0.0] * len(each) for each in logprobs]
        if node.by == "unconditional":
            alone = yield from self._alone(context, [way[at:] for way in ways])
        seed = self._seed if node.seed is None else node.seed
        scored = Scored([way[at:] for way in ways], logprobs, alone)
        info = choose(node, scored, sample_key(seed, _place(context), 0))
        chosen = node.options.index(info.text)
        for index, fork in enumerate(forks):
            if index != chosen:
                self._close(fork)
        self._close(sequence)
        context.sequence = forks[chosen]
        context.pending = []
        context.generated(info.text, "")
        self._bind(context, id, node, info.text, info)

    def _alone(
        self, context: Context, options: Sequence[list[int]]
    ) -> Generator[ForTasks, None, list[list[float]]]:
        """Log-probabilities of each option's tokens without the context; 0 for the first."""
        sequences = [self._core.open(option, self._scope) for option in options]
        self._sequences.update(sequences)
        tasks = tuple(self._score(context, sequence, 1) for sequence in sequences)
        yield ForTasks(tasks)
        self._settle(context, tasks)
        for sequence in sequences:
            self._close(sequence)
        return [[0.0, *task.logprobs] for task in tasks]

    _run: ClassVar[dict[type[Node], Callable[..., Process]]] = {
        Text: _text,
        Open: _open,
        Close: _close_role,
        Fork: _fork,
        Branch: _begin_branch,
        Gen: _gen,
        Select: _select,
    }

    # -- helpers of nodes

    def _shown(self, part: Part) -> str:
        if isinstance(part, str):
            return part
        if part.attribute is None:
            return str(self._values[part.node])
        return str(getattr(self._infos[part.node], part.attribute))

    def _opened(self, context: Context) -> EngineSequence:
        if context.sequence is None:
            context.sequence = self._core.open(scope=self._scope)
            self._sequences.add(context.sequence)
        return context.sequence

    def _encode(self, context: Context, pieces: Sequence[Piece]) -> list[int]:
        start = not self._opened(context).tokens
        return self._core.tokenizer.encode(pieces, start=start)

    def _encoded(self, context: Context) -> EngineSequence:
        """The state's sequence with all its text turned into tokens."""
        sequence = self._opened(context)
        sequence.tokens += self._encode(context, context.pending)
        context.pending = []
        return sequence

    def _score(self, context: Context, sequence: EngineSequence, start: int) -> Scoring:
        task = self._core.score(sequence, start, on_done=partial(self._ended, context))
        return task

    def _settle(self, context: Context, tasks: Sequence[Task]) -> None:
        """Count what the tasks used; raise the first error among them."""
        for task in tasks:
            context.usage.add(task.usage)
        for task in tasks:
            if task.error is not None:
                raise task.error

    def _bind(
        self, context: Context, id: int, node: Gen | Select, value: object, info: Info
    ) -> None:
        self._values[id] = value
        self._infos[id] = info
        context.values[node.name] = value
        context.infos[node.name] = info
        self._emit(ValueBound(id, node.name, context.path, value))
        for reader in self._readers.pop(id, []):
            self._wake(reader)

    def _emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _ended(self, context: Context, task: Task) -> None:
        """The engine says that a task is over."""
        context.missing -= 1
        if context.missing == 0 and self.error is None:
            self._wake(context)


def _place(context: Context) -> str:
    """Where in the program a draw is made: the state's path, and the step on it."""
    return f"{context.path}:{context.steps}"


def _agreed(ways: Sequence[list[int]], most: Sequence[int]) -> int:
    """How many leading tokens all the ways share, and no more than any of `most`."""
    shared = min(most)
    for at, column in enumerate(zip(*ways, strict=False)):
        if at == shared or len(set(column)) > 1:
            return at
    return min(shared, *map(len, ways))


def _gen_info(task: Generation) -> GenInfo:
    return GenInfo(
        text=task.text.text,
        tokens=tuple(task.drawn),
        finish_reason=task.finish_reason,
        stop=task.text.stopped_by,
        logprobs=tuple(task.draws),
        usage=task.usage,
    )
