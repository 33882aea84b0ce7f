"""The loop: schedule, run, commit, draw, tell. Synchronous, one thread, token ids only.

Sequences are opened, extended, forked and closed at once; tasks on them run when `step` is called,
and each tells its `on_done` when it ended, in whatever way. A step is reserve → run → commit: one
that raises is rolled back, fails the tasks that were in it and nobody else.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence as Tokens
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from torch import Tensor

from ramet.cache import AuditError, BlockPool, BlockTable, CacheStats, Expectation
from ramet.errors import RametError
from ramet.params import SamplingParams
from ramet.runtime.batch import Batch
from ramet.runtime.config import EngineConfig
from ramet.runtime.devices import kv_dtype_of
from ramet.runtime.errors import (
    Aborted,
    CapacityError,
    ContextLengthError,
    PromptError,
    StepError,
)
from ramet.runtime.grammar import Grammar, GrammarCompiler
from ramet.runtime.memory import blocks_for
from ramet.runtime.models import Model
from ramet.runtime.outputs import Outputs
from ramet.runtime.runner import Runner
from ramet.runtime.sampling import Healing, SamplingRow, Spellings
from ramet.runtime.scheduler import Scheduler
from ramet.runtime.sequence import Expansion, Generation, Scoring, Sequence, Task, TrieScoring
from ramet.runtime.text import TextStream
from ramet.runtime.tokenizer import Tokenizer
from ramet.runtime.trie import Trie

AnyTask = TypeVar("AnyTask", bound=Task)

# More than tasks will ever arrive: what is only expected comes after everything that has arrived.
LATER = 1 << 62
# Of one trie. Every row has its logits: 256 rows of 50,000 tokens are 50 MB.
MOST_ROWS = 256


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started, and what it holds now."""

    steps: int  # forward passes that were committed
    failed_steps: int  # that raised and were rolled back
    tokens: int  # tokens run through the model
    preemptions: int
    yielded: int  # preemptions of a scope that had more than its share
    waiting: int  # tasks now
    running: int
    sequences: int  # open now, idle ones too
    cache: CacheStats


class EngineCore:
    """One model, one block pool, one scheduler."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: EngineConfig) -> None:
        shape = model.shape
        self.model = model
        self.tokenizer = tokenizer
        self.context = min(shape.context, config.max_context or shape.context)
        blocks = blocks_for(model, config)
        kv_dtype = kv_dtype_of(config.kv_dtype, shape.dtype, shape.device)
        fingerprint = f"{shape.name}:{shape.dtype}:{kv_dtype}:{config.block_size}".encode()
        self.pool = BlockPool(
            blocks, config.block_size, fingerprint=fingerprint, sharing=config.sharing
        )
        self.runner = Runner(model, blocks, config.block_size, config.models / "kernels", kv_dtype)
        if config.cuda_graphs:
            self.runner.use_graphs(config.max_sequences)
        self.scheduler = Scheduler(
            self.pool,
            step_tokens=config.step_tokens,
            chunk=config.prefill_chunk,
            max_sequences=config.max_sequences,
            share=config.share,
        )
        self.grammars = GrammarCompiler(tokenizer, shape.vocab, self.eos)
        self.spellings = Spellings(tokenizer, shape.vocab, self.eos)
        self._outputs = Outputs(self._end, late=shape.device.type != "cpu")
        self._sequences: dict[Sequence, None] = {}
        self._ids = count()
        self._ended: deque[Task] = deque()
        self._steps = self._failed = self._tokens = self._preemptions = 0
        self.failing = 0
        """Steps that failed since one did not."""

    # -- sequences

    def open(self, tokens: Tokens[int] = (), scope: bytes = b"", maker: str = "") -> Sequence:
        """A new context over these tokens; nothing is computed yet. `maker` is written down on the
        blocks that it will publish."""
        sequence = Sequence(list(tokens), BlockTable(self.pool, scope, maker))
        self._sequences[sequence] = None
        return sequence

    def fork(self, sequence: Sequence) -> Sequence:
        """A context that shares all blocks of an idle one. No tensor work."""
        assert sequence.idle and not sequence.closed, "only an idle sequence is forked"
        child = Sequence(list(sequence.tokens), sequence.table.fork())
        self._sequences[child] = None
        self.scheduler.rest(child)
        return child

    def cut(self, sequence: Sequence, length: int) -> None:
        """Let an idle sequence end after that many tokens."""
        assert sequence.idle and not sequence.closed, "only an idle sequence is cut"
        del sequence.tokens[length:]
        self._fit(sequence)
        self.scheduler.rest(sequence)

    def close(self, sequence: Sequence) -> None:
        """Give all blocks back; a task on it is aborted. Closing twice is fine."""
        if sequence.closed:
            return
        sequence.closed = True
        if sequence.task is not None:
            self.abort(sequence.task)
        self.scheduler.forget(sequence)
        sequence.table.release()
        del self._sequences[sequence]

    @property
    def crowded(self) -> bool:
        """Whether blocks are so few that the next step may evict some."""
        return self.scheduler.crowded

    def expect(self, tokens: Tokens[int], when: int, scope: bytes = b"") -> Expectation:
        """Say that a sequence over `tokens` will come, so that blocks it can use are evicted late.

        `when` is its place among all that are to come; all of them come after the tasks that
        arrived already. Drop the expectation when the sequence is there, or will not come.
        """
        return self.pool.expect(tokens, LATER + when, scope)

    # -- tasks

    def generate(
        self,
        sequence: Sequence,
        params: SamplingParams,
        *,
        key: int,
        on_done: Callable[[Task], None],
        on_text: Callable[[str], None] | None = None,
        on_token: Callable[[], None] | None = None,
        grammar: Grammar | None = None,
        healing: Healing | None = None,
    ) -> Generation:
        """Draw tokens after an idle sequence and append them; `key` is `sample_key`'s.

        With a `grammar`, which is the task's own from now on, the tokens obey it. With a `healing`
        they begin with the text that it took back, which is not told; a grammar says so itself.
        What `on_token`
        raises, when told of a token, ends the task.

        Raises:
            PromptError: the sequence has no token to start from.
            ContextLengthError: it leaves no room in the context.
            CapacityError: with `max_tokens` more it would never fit the pool.
        """
        limit = self.limit(sequence, params)
        task = Generation(
            id=next(self._ids),
            sequence=sequence,
            prompt=len(sequence.tokens),
            on_done=on_done,
            row=self.row(sequence, params, key, grammar, healing if grammar is None else None),
            text=TextStream(
                self.tokenizer, params, sequence.tokens, "" if healing is None else healing.text
            ),
            eos=self.eos,
            limit=limit,
            on_text=on_text,
            on_token=on_token,
        )
        self._submit(task)
        self._outputs.begin(task)
        return task

    def score(
        self, sequence: Sequence, start: int, *, on_done: Callable[[Task], None], top: int = 0
    ) -> Scoring:
        """Log-probability of each of an idle sequence's tokens from `start` on, given those before.

        With `start` at the end nothing is scored, and the sequence is just computed. In each place
        scored, so many of the likeliest tokens are told, too.

        Raises:
            PromptError, ContextLengthError, CapacityError: as for `generate`.
        """
        self._check_tokens(sequence.tokens)
        assert 1 <= start <= len(sequence.tokens), "the first token has nothing before it"
        if len(sequence.tokens) > self.context:
            raise ContextLengthError(len(sequence.tokens), self.context)
        self._check_room(len(sequence.tokens))
        task = Scoring(
            id=next(self._ids),
            sequence=sequence,
            prompt=len(sequence.tokens),
            on_done=on_done,
            start=start,
            top=top,
        )
        return self._submit(task)

    def score_trie(
        self, sequence: Sequence, trie: Trie, *, on_done: Callable[[Task], None]
    ) -> TrieScoring:
        """Log-probability of each edge of a trie behind an idle sequence, which stays as it is.

        Reused is, besides what was cached, what each continuation would have run on its own. The
        trie has at most `trie_rows` rows. An empty sequence will do; then the edges that follow
        the context have none, that is 0.

        Raises:
            PromptError, ContextLengthError, CapacityError: as for `generate`.
        """
        length = len(sequence.tokens)
        self._check_tokens([*sequence.tokens, *(token for _, token in trie.edges)])
        if length + trie.depth > self.context:
            raise ContextLengthError(length + trie.depth, self.context)
        self._check_room(length + len(trie.rows))
        task = TrieScoring(
            id=next(self._ids),
            sequence=sequence,
            prompt=length + len(trie.rows),
            on_done=on_done,
            trie=trie,
            logprobs=[0.0] * len(trie.edges),
        )
        apart = sum(length + len(path) - 1 for path in trie.paths.values())
        task.usage.prompt_reused = apart - task.prompt
        return self._submit(task)

    def trie_rows(self, sequence: Sequence) -> int:
        """Most rows that a trie behind this sequence can have: they run in one step, however many
        others draw a token in it."""
        size = self.pool.block_size
        room = (self.pool.num_blocks - 1) * size - len(sequence.tokens)
        return max(0, min(MOST_ROWS, self.scheduler.sure_tokens, room))

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens can be computed at all."""
        blocks = -(-tokens // self.pool.block_size) + 1
        return tokens <= self.context and blocks <= self.pool.num_blocks

    def expand(
        self,
        sequence: Sequence,
        row: SamplingRow,
        width: int,
        *,
        on_done: Callable[[Task], None],
        after: Expansion | None = None,
    ) -> Expansion:
        """The `width` likeliest next tokens of an idle sequence, as its row has them.

        Whether there is room is `limit`'s to say, once, before the first of many.

        Args:
            after: an ended expansion that this one goes on from, of the same sequence or of the one
                it was forked from; it takes over the place in the queue.
        """
        task = Expansion(
            id=next(self._ids) if after is None else after.id,
            sequence=sequence,
            prompt=len(sequence.tokens) if after is None else after.prompt,
            counted=0 if after is None else after.counted,
            on_done=on_done,
            row=row,
            width=width,
        )
        return self._submit(task, resumed=after is not None)

    def limit(self, sequence: Sequence, params: SamplingParams) -> int:
        """Most tokens that can follow: `max_tokens`, or what the context leaves.

        Raises:
            PromptError, ContextLengthError, CapacityError: as for `generate`; beams have to fit
                the pool together, parting at the first token.
        """
        self._check_tokens(sequence.tokens)
        prompt = len(sequence.tokens)
        if prompt >= self.context:
            raise ContextLengthError(prompt, self.context)
        limit = min(params.max_tokens, self.context - prompt)
        self._check_room(prompt + limit, prompt, params.beams)
        return limit

    def row(
        self,
        sequence: Sequence,
        params: SamplingParams,
        key: int,
        grammar: Grammar | None = None,
        healing: Healing | None = None,
    ) -> SamplingRow:
        """The sampling state of what is to follow these tokens."""
        return SamplingRow(
            params,
            key=key,
            vocab_size=self.model.shape.vocab,
            prompt=sequence.tokens,
            eos_ids=self.eos,
            grammar=grammar,
            healing=healing,
        )

    def abort(self, task: Task) -> None:
        """End a task now; it gets `Aborted` as its error. Fine at any moment, and twice."""
        if not task.done:
            self._end(task, Aborted("the request was cancelled"))

    @property
    def eos(self) -> frozenset[int]:
        return self.tokenizer.eos_ids | self.model.shape.eos

    # -- the loop

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self.scheduler.running or self.scheduler.waiting or self._ended)

    def step(self) -> None:
        """Run one batch and tell the tasks that ended.

        What is no `Exception`, a KeyboardInterrupt, goes through; the tasks of the step stay and
        are run again.
        """
        try:
            batch = self.scheduler.schedule()
            logits = None if batch is None else self._run(batch)
            outputs = [] if batch is None else batch.outputs
            self._outputs.tell()  # while the device runs
            if logits is not None:
                self._outputs.hand_out(outputs, logits)
        except BaseException:
            self.scheduler.rollback()
            raise
        self._tell()

    def _run(self, batch: Batch) -> Tensor | None:
        """Logits of the batch, or None if it failed and is undone."""
        try:
            logits = self.runner.run(batch)
        except Exception as error:
            self.scheduler.rollback()
            self._outputs.tell()
            self._failed += 1
            self.failing += 1
            for entry in batch.entries:
                if entry.task.done:
                    continue
                failure = StepError(f"the forward pass raised {type(error).__name__}: {error}")
                failure.__cause__ = error
                self._end(entry.task, failure)
            return None
        self.scheduler.commit(batch)
        self._steps += 1
        self.failing = 0
        self._tokens += batch.tokens
        return logits

    def _submit(self, task: AnyTask, *, resumed: bool = False) -> AnyTask:
        assert task.sequence.idle and not task.sequence.closed, "one task at a time"
        task.sequence.task = task
        (self.scheduler.resume if resumed else self.scheduler.submit)(task)
        return task

    def _end(self, task: Task, error: RametError | None = None) -> None:
        """The task is over; its sequence is idle and holds what belongs to it."""
        sequence = task.sequence
        task.done = True
        task.error = error
        if isinstance(task, Generation):
            task.drop_untold()
            task.usage.generated = len(task.drawn)
            kept = task.kept if error is None else len(task.drawn)
            del sequence.tokens[task.prompt + kept :]
        self._fit(sequence)
        sequence.task = None
        self._preemptions += task.usage.preemptions
        self.scheduler.remove(task)
        self._ended.append(task)

    def _fit(self, sequence: Sequence) -> None:
        """Give back what is computed past the sequence's tokens."""
        sequence.table.truncate(min(sequence.table.length, len(sequence.tokens)))

    def _tell(self) -> None:
        """Outside the bookkeeping, since whoever is told may submit, abort and close."""
        for _ in range(len(self._ended)):
            task = self._ended.popleft()
            task.on_done(task)

    # -- checks

    def _check_tokens(self, tokens: list[int]) -> None:
        if not tokens:
            raise PromptError("there is no text to continue: the prompt is empty")
        vocab = self.model.shape.vocab
        if not 0 <= min(tokens) <= max(tokens) < vocab:
            wrong = next(token for token in tokens if not 0 <= token < vocab)
            raise PromptError(f"token {wrong} is not in the vocabulary, which has {vocab} tokens")

    def _check_room(self, tokens: int, shared: int = 0, sequences: int = 1) -> None:
        """Of so many sequences that have their first `shared` tokens in common, at once. One block
        more than the tokens fill: a shared tail may have to be copied."""
        common = shared // self.pool.block_size
        needed = common + sequences * (-(-tokens // self.pool.block_size) - common) + 1
        if needed > self.pool.num_blocks:
            raise CapacityError(tokens, needed, self.pool.num_blocks, sequences)

    def audit(self) -> None:
        """Check every bookkeeping law, in time linear in blocks and references.

        Raises:
            AuditError: names the law and who broke it.
        """
        self.pool.audit([sequence.table for sequence in self._sequences])
        tasks = [*self.scheduler.waiting, *self.scheduler.running]
        busy, idle = {task.sequence for task in tasks}, self.scheduler.idle.keys()
        laws = {
            "a task and its sequence agree": all(t.sequence.task is t for t in tasks),
            "a task waits or runs, once": len(set(tasks)) == len(tasks),
            "tasks are counted by scope": (
                self.scheduler.scopes == Counter(task.sequence.table.scope for task in tasks)
            ),
            "a task's sequence is open": busy <= self._sequences.keys(),
            "an idle sequence has no task": not busy & idle,
            "an idle sequence is open": idle <= self._sequences.keys(),
            "a task expects only while it waits": (
                self.scheduler.expected.keys() <= set(self.scheduler.waiting)
            ),
        }
        for law, holds in laws.items():
            if not holds:
                raise AuditError(law, f"{len(tasks)} tasks, {len(idle)} idle sequences")

    def stats(self) -> EngineStats:
        return EngineStats(
            steps=self._steps,
            failed_steps=self._failed,
            tokens=self._tokens,
            preemptions=self._preemptions,
            yielded=self.scheduler.yielded,
            waiting=len(self.scheduler.waiting),
            running=len(self.scheduler.running),
            sequences=len(self._sequences),
            cache=self.pool.stats(),
        )
