"""The states of one running program, and what they wait for. How a node runs is in `steps`.

Knows graphs, and of the engine sequences and tasks; no tensors, no blocks. Each state is a
generator that yields what it waits for, so a waiting program costs an object and no thread.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate

from ramet.errors import LanguageError
from ramet.meter import Meter
from ramet.nodes import (
    COUNTED,
    Binding,
    Branch,
    Call,
    Gen,
    Keep,
    Node,
    Part,
    Ref,
    Root,
    Sample,
    Step,
    kind_of,
)
from ramet.runtime.chat import ChatFormat
from ramet.runtime.context import (
    Context,
    ForGrammar,
    ForNodes,
    ForRest,
    ForTasks,
    ForValue,
    Process,
    Wait,
)
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import GenerationError
from ramet.runtime.events import BranchOpened, Event, NodeStarted, TextDelta, ValueBound
from ramet.runtime.grammar import Grammar
from ramet.runtime.sampling import Healing, SamplingRow, sample_key
from ramet.runtime.sequence import (
    Expansion,
    Generation,
    Scoring,
    Sequence as EngineSequence,
    Task,
    TrieScoring,
)
from ramet.runtime.tokenizer import Piece
from ramet.runtime.trie import Trie
from ramet.runtime.values import Info
from ramet.runtime.works import Works

Steps = Mapping[type[Node], Callable[..., Process]]


def _nothing() -> None:
    """Who need not be told."""


class Interpreter:
    """The states of one program run.

    `accept` takes nodes; `pump` runs what can run, and `on_ready` is told when there is something.
    """

    def __init__(
        self,
        core: EngineCore,
        chat: ChatFormat,
        steps: Steps,
        seed: int,
        meter: Meter,
        works: Works,
        on_event: Callable[[Event], None] | None = None,
        scope: bytes = b"",
        on_ready: Callable[[], None] = _nothing,
        name: str = "",
    ) -> None:
        self.core = core
        self.meter = meter
        self.works = works
        self._chat = chat
        self._steps = steps
        self._seed = seed
        self._scope = scope
        self._name = name
        self._on_event = on_event
        self._on_ready = on_ready
        self.root = Context(chat.start())
        self.error: Exception | None = None
        self.whole = False
        self._values: dict[int, object] = {}
        self._infos: dict[int, Info] = {}
        self._context_of: dict[int, Context] = {}
        self._branches: dict[int, dict[int, Context]] = {}  # of each fork, by index
        self._lost: dict[int, Node] = {}  # what was to bind the values that will never come
        self._readers: dict[int, list[Context]] = {}
        self._ready: deque[Context] = deque()

    # -- what a run sees

    def accept(self, id: int, node: Node) -> None:
        """Take the next node of the program."""
        match node:
            case Root():
                self._context_of[id] = self.root
                self.start(self.root)
                return
            case Branch(state=fork, index=index):
                context = self.branch(fork, index)
            case Call(state=state):
                context = self._called(self._context_of[state])
            case Step(state=state):
                context = self._context_of[state]
            case _:
                raise AssertionError(f"{type(node).__name__} has to be filled in before a run")
        if isinstance(node, Keep):
            self._context_of[node.branch].wanted = True
        self._context_of[id] = context
        context.queue.append((id, node))
        if isinstance(context.waits, ForNodes):
            self.wake(context)

    def close(self) -> None:
        """The program appends no more: states give their blocks back as soon as they end."""
        self.whole = True
        for context in self._contexts():
            self._release_if_over(context)

    def fall_silent(self) -> None:
        """Nobody is told anything any more. Whoever was refers to this object, which then goes with
        the last of them, and not when the garbage collector comes by."""
        self._on_event = None
        self._on_ready = _nothing

    def retire(self, node: int) -> None:
        """Nothing will follow that node: its state has no further use once it has run."""
        context = self._context_of[node]
        context.retired = True
        self._release_if_over(context)

    def pump(self) -> None:
        """Run every state until it waits for the engine, or the program."""
        while self._ready and self.error is None:
            self._resume(self._ready.popleft())

    def has_value(self, node: int) -> bool:
        """Whether it is there; `GenerationError` if it will never come."""
        if node in self._lost:
            lost = self._lost[node]
            value = f"the value of {lost.name!r}" if isinstance(lost, Binding) else "a value"
            raise GenerationError(
                f"{value} was not there yet when keep released its branch; look at it before"
            )
        return node in self._values

    def is_settled(self, node: int) -> bool:
        """Whether the value is there, or it is known that it will never come."""
        return node in self._values or node in self._lost

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
            placed = isinstance(error, LanguageError) and error.span is not None
            if node is not None and node.span is not None and not placed:
                error.add_note(f"in the program at {node.span}")
            self.error = error
        self.whole = True
        self.end(self.root)

    # -- states, as steps see them

    def start(self, context: Context) -> None:
        """The state begins to run its nodes."""
        if context is not self.root:
            self.tell(BranchOpened(context.path))
        context.process = self._process(context)
        self._ready.append(context)

    def branch(self, fork: int, index: int) -> Context:
        """The state of a branch; made when its fork runs, or its first node comes, if earlier."""
        made = self._branches.setdefault(fork, {})
        if index not in made:
            made[index] = Context(self._chat.start(), family=made)
            self._context_of[fork].children.append(made[index])
        return made[index]

    def context_of(self, node: int) -> Context:
        """The state on which the node runs."""
        return self._context_of[node]

    def end(self, context: Context) -> None:
        """The state runs no further, nor does any under it; its blocks go back at once."""
        for each in context.walk():
            self.leave(each)

    def leave(self, context: Context) -> None:
        """The state itself runs no further; values that it owes will never come."""
        if context.ended:
            return
        context.ended = True
        lost = {id: node for id, node in context.queue if id not in self._values}
        context.queue.clear()
        if context.process is not None and getgeneratorstate(context.process) != GEN_RUNNING:
            context.process.close()
        for sequence in list(context.owned):
            self.close_sequence(context, sequence)
        self._lost.update(lost)
        for reader in [reader for id in lost for reader in self._readers.pop(id, [])]:
            self.wake(reader)
        self._tell_watchers(context)

    # -- values, as steps see them

    def await_values(self, parts: Iterable[Part]) -> Process:
        """Wait until every value that the parts refer to is there."""
        for part in parts:
            if isinstance(part, Ref) and not self.has_value(part.node):
                yield ForValue(part.node)
                self.has_value(part.node)

    def spelled(self, parts: Iterable[Part]) -> str:
        """The parts as one text; all their values are there.

        Raises `LimitError` before it makes one that is longer than all that a run may make.
        """
        texts = [self._shown(part) for part in parts]
        self.meter.limits.hold("made", sum(map(len, texts)))
        return "".join(texts)

    def bind(self, context: Context, id: int, name: str, value: object, info: Info) -> None:
        """The node has a value: whoever waits for it goes on."""
        self._values[id] = value
        self._infos[id] = info
        context.values[name] = value
        context.infos[name] = info
        self.tell(ValueBound(id, name, context.path, value, info))
        for reader in self._readers.pop(id, []):
            self.wake(reader)

    def key(self, context: Context, seed: int | None, sample: int = 0) -> int:
        """What a draw depends on: the node's own seed, or the program's and the place."""
        if seed is not None:
            return sample_key(seed, "", sample)
        return sample_key(self._seed, context.place, sample)

    # -- the engine, as steps see it

    def opened(self, context: Context) -> EngineSequence:
        """The state's sequence."""
        if context.sequence is None:
            context.sequence = self.open_sequence(context, ())
        return context.sequence

    def encode(self, context: Context, pieces: Sequence[Piece]) -> list[int]:
        """The pieces as tokens that follow those of the state."""
        start = not self.opened(context).tokens
        return self.core.tokenizer.encode(pieces, start=start)

    def encoded(self, context: Context) -> EngineSequence:
        """The state's sequence with all its text turned into tokens."""
        sequence = self.opened(context)
        sequence.tokens += self.encode(context, context.pending)
        context.pending = []
        return sequence

    def open_sequence(self, context: Context, tokens: Sequence[int]) -> EngineSequence:
        sequence = self.core.open(tokens, self._scope, self._name)
        context.owned.add(sequence)
        return sequence

    def fork_sequence(self, owner: Context, sequence: EngineSequence) -> EngineSequence:
        """A sequence that shares all blocks, for that state."""
        child = self.core.fork(sequence)
        owner.owned.add(child)
        return child

    def close_sequence(self, owner: Context, sequence: EngineSequence) -> None:
        owner.owned.discard(sequence)
        self.core.close(sequence)

    def grammar(
        self, context: Context, node: Gen | Sample, after: str = ""
    ) -> Generator[Wait, None, Grammar | None]:
        """What a text of the node obeys, before its first token; None if it has no type. The tokens
        that it tells of begin with the text that it comes `after`. Waits while the type is
        compiled, on another thread."""
        if node.type is None:
            return None
        grammars = self.core.grammars
        compilation = grammars.compile(node.type, after)
        while not compilation.over:
            with grammars.telling(compilation, partial(self.wake, context)):
                yield ForGrammar()
        return compilation.start()

    def generate(
        self,
        context: Context,
        sequence: EngineSequence,
        id: int,
        node: Gen | Sample,
        sample: int,
        grammar: Grammar | None,
        *,
        healing: Healing | None = None,
        told: bool = True,
    ) -> Generation:
        """Draw on that sequence, for sample number `sample` of the node; who listens is `told` the
        text as it comes."""

        told_tokens = len(sequence.tokens)

        def tell(text: str) -> None:
            nonlocal told_tokens
            tokens = tuple(sequence.tokens[told_tokens:])
            told_tokens += len(tokens)
            self.tell(TextDelta(id, node.name, context.path, text, sample, tokens))

        sequence.table.maker = f"{self._name}.{node.name}"
        return self.core.generate(
            sequence,
            node.params,
            key=self.key(context, node.params.seed, sample),
            on_done=partial(self._ended, context),
            on_text=tell if told and self.listening else None,
            on_token=self.meter.token,
            grammar=grammar,
            healing=healing,
        )

    @property
    def listening(self) -> bool:
        """Whether anybody is told of events."""
        return self._on_event is not None

    def tell(self, event: Event) -> None:
        """Whoever listens is told."""
        if self._on_event is not None:
            self._on_event(event)

    def tell_text(
        self, context: Context, id: int, node: Gen | Sample, text: str, sample: int
    ) -> None:
        """Sample number `sample` of the node released that text."""
        self.tell(TextDelta(id, node.name, context.path, text, sample))

    def score(self, context: Context, sequence: EngineSequence, start: int) -> Scoring:
        """Score that sequence's tokens from `start` on."""
        return self.core.score(sequence, start, on_done=partial(self._ended, context))

    def score_trie(self, context: Context, sequence: EngineSequence, trie: Trie) -> TrieScoring:
        """Score a trie behind that sequence."""
        return self.core.score_trie(sequence, trie, on_done=partial(self._ended, context))

    def expand(
        self,
        context: Context,
        sequence: EngineSequence,
        row: SamplingRow,
        width: int,
        after: Expansion | None,
    ) -> Expansion:
        """The best next tokens of that sequence; see the core's `expand`."""
        on_done = partial(self._ended, context)
        return self.core.expand(sequence, row, width, on_done=on_done, after=after)

    def settle(self, context: Context, tasks: Sequence[Task]) -> None:
        """Count what the tasks used; raise the first error among them."""
        for task in tasks:
            context.usage.add(task.usage)
        for task in tasks:
            if task.error is not None:
                raise task.error

    # -- how

    def _contexts(self) -> Iterator[Context]:
        return self.root.walk()

    def _called(self, caller: Context) -> Context:
        """A state of its own for a program that is called; it waits for nobody."""
        context = Context(self._chat.start(), path=f"{caller.path}/call{caller.calls}")
        caller.calls += 1
        caller.children.append(context)
        self.start(context)
        return context

    def wake(self, context: Context) -> None:
        """The state goes on; what it waited for is there."""
        context.waits = None
        self._ready.append(context)
        self._on_ready()

    def _resume(self, context: Context) -> None:
        if context.ended:
            return
        assert context.process is not None, "only started states are ready"
        try:
            context.waits = next(context.process)
        except Exception as error:
            self.fail(error, context.queue[0][1] if context.queue else None)
            return
        match context.waits:
            case ForTasks(tasks):
                context.missing = len(tasks)
            case ForValue(value):
                self._readers.setdefault(value, []).append(context)
            case ForRest(other):
                other.watchers.append(context)
            case ForNodes():
                self._tell_watchers(context)
                self._release_if_over(context)

    def _tell_watchers(self, context: Context) -> None:
        while context.watchers:
            self.wake(context.watchers.pop())

    def _process(self, context: Context) -> Process:
        """The life of a state."""
        while True:
            while context.queue:
                id, node = context.queue[0]
                context.steps += isinstance(node, COUNTED)
                if self.listening:
                    name = node.name if isinstance(node, Binding) else None
                    self.tell(NodeStarted(id, kind_of(node), name, context.path))
                yield from self._steps[type(node)](self, context, id, node)
                context.queue.popleft()
            yield ForNodes()

    def _release_if_over(self, context: Context) -> None:
        over = (self.whole or context.retired) and context.resting and not context.wanted
        if over and context.sequence is not None:
            self.close_sequence(context, context.sequence)
            context.sequence = None

    def _shown(self, part: Part) -> str:
        if isinstance(part, str):
            return part
        if part.attribute is not None:
            return str(getattr(self._infos[part.node], part.attribute))
        return str(self._infos[part.node].text)

    def _ended(self, context: Context, task: Task) -> None:
        """The engine says that a task is over."""
        context.missing -= 1
        if context.missing == 0 and not context.ended:
            self.wake(context)


def agreed(ways: Sequence[list[int]], most: Sequence[int]) -> int:
    """How many leading tokens all the ways share, and no more than any of `most`."""
    shared = min(most)
    for at, column in enumerate(zip(*ways, strict=False)):
        if at == shared or len(set(column)) > 1:
            return at
    return min(shared, *map(len, ways))
