"""Who runs in the next step. Policy only: tokens, blocks and budgets; no tensor, no text.

One queue, first come first served, every step a fresh choice (continuous batching, Orca, OSDI '22):

1. Sequences that decode get their one token, then those in the middle of their prompt a chunk, in
   order of arrival, within the step's token budget.
2. Where blocks run out, idle sequences give theirs back first, then the latest arrival is
   preempted: its blocks go and it is computed again later (recomputation, arXiv 2309.06180,
   section 4.5). The earliest arrival is never preempted for a later one, and a task that needs
   more than the whole pool is refused, so somebody always moves on.
3. Waiting tasks are let in while there is room for their whole prompt. One whose next block is
   being computed by somebody else, or whose next token is in this very step, waits for that instead
   of computing it again, and lets others by. What a waiting task will find in the cache is expected
   there in its order of arrival, so that it is evicted late.
4. Where there is work of several scopes, one that would have more than its share of the pool lets
   the others in first, and is preempted first: for one that keeps to its share also to be let in.
   Its first task is left alone, so what is larger than a share goes by arrival, as ever.
"""

import time
from bisect import insort
from collections import Counter
from collections.abc import Iterable

from ramet.cache import BlockPool, BlockTable, Expectation, OutOfBlocks
from ramet.runtime.batch import Batch, Entry
from ramet.runtime.sequence import Sequence, Task
from ramet.runtime.shares import Shares

Head = tuple[bytes, int, int]


class Scheduler:
    """Holds the tasks of an engine and the idle sequences that still have blocks."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        step_tokens: int,
        chunk: int | None,
        max_sequences: int,
        share: float = 1.0,
    ) -> None:
        """`share` is of the pool, and of the places in a step, for one scope while others wait."""
        self.pool = pool
        self.waiting: list[Task] = []  # by arrival
        self.running: list[Task] = []  # by arrival
        self.idle: dict[Sequence, None] = {}  # least recently used first
        self.expected: dict[Task, Expectation] = {}  # of waiting tasks, once it matters
        self._step_tokens = step_tokens
        self._chunk = chunk or step_tokens
        # What a task can have of a step even if all others draw a token in it.
        self.sure_tokens = max(0, step_tokens - max_sequences)
        self._max_sequences = max_sequences
        self._share = share
        self.yielded = 0  # preemptions of a scope over its share
        self.scopes: Counter[bytes] = Counter()  # of the tasks that wait or run
        self._entries: dict[Task, Entry] = {}
        self._preempted: set[Task] = set()

    # -- coming and going

    def submit(self, task: Task) -> None:
        self.idle.pop(task.sequence, None)
        self.scopes[task.sequence.table.scope] += 1
        insort(self.waiting, task, key=_arrival)

    def resume(self, task: Task) -> None:
        """A task that goes on where another ended: it does not queue again if it just decodes."""
        table = task.sequence.table
        if table.length < task.wanted or len(self.running) >= self._max_sequences:
            self.submit(task)
            return
        self.idle.pop(task.sequence, None)
        self.scopes[table.scope] += 1
        task.cursor = task.wanted
        insort(self.running, task, key=_arrival)

    def remove(self, task: Task) -> None:
        """The task ended, in whatever way; its sequence is idle."""
        (self.running if task in self.running else self.waiting).remove(task)
        scope = task.sequence.table.scope
        self.scopes[scope] -= 1
        if not self.scopes[scope]:
            del self.scopes[scope]
        self._expect_no_more(task)
        self.rest(task.sequence)

    def rest(self, sequence: Sequence) -> None:
        """An idle sequence; its blocks may be taken when they are needed."""
        self.idle.pop(sequence, None)
        if sequence.table.blocks:
            self.idle[sequence] = None

    def forget(self, sequence: Sequence) -> None:
        """The sequence is closed."""
        self.idle.pop(sequence, None)

    @property
    def crowded(self) -> bool:
        """Whether the next step may evict: it takes a block for each full one of tokens, and for
        each sequence the one begun and a copy."""
        most = self._step_tokens // self.pool.block_size + 2 * self._max_sequences
        return len(self.pool.free) < most

    # -- one step

    def schedule(self) -> Batch | None:
        """Reserve blocks for the next step; None if there is nothing to run."""
        self._entries = {}
        self._preempted = set()
        if self.waiting and self.crowded:
            self._expect_waiting()
        budget = self._step_tokens
        for task in self._by_need():
            if budget and task not in self._preempted:
                budget -= self._run(task, budget)
        self._admit(budget)
        entries = tuple(self._entries.values())
        return Batch(entries) if entries else None

    def commit(self, batch: Batch) -> None:
        """The step ran: its keys and values are there to be found."""
        for entry in batch.entries:
            task = entry.task
            table = task.sequence.table
            table.commit(task.sequence.tokens[table.length : entry.end])
            task.cursor = entry.end
            task.counted = max(task.counted, entry.end)
            task.usage.prompt_computed += max(0, min(entry.end, task.prompt) - entry.start)
            task.usage.copied_blocks += len(entry.copies)

    def rollback(self) -> None:
        """The step came to nothing: all of it is to be run again, and nothing is reserved for it.

        What was committed all the same stays; to run it again writes nothing.
        """
        for entry in self._entries.values():
            entry.task.cursor = entry.start
        for task in self.running:
            task.sequence.table.rollback()

    # -- how

    def _by_need(self) -> Iterable[Task]:
        """Running tasks: those that need one token first."""
        decoding = [task for task in self.running if task.end - task.cursor == 1]
        return decoding + [task for task in self.running if task.end - task.cursor != 1]

    def _run(self, task: Task, budget: int) -> int:
        """Put the task into the step; how many tokens that takes, 0 if it lost its blocks."""
        count = self._count(task, budget)
        table = task.sequence.table
        while True:
            try:
                copies = table.reserve(max(0, task.cursor + count - table.length))
            except OutOfBlocks:
                if self._make_room(task):
                    continue
                return 0
            self._entries[task] = Entry(task, task.cursor, count, tuple(copies))
            return count

    def _count(self, task: Task, budget: int) -> int:
        """How many tokens the task runs in this step: of those behind its sequence, all or none."""
        behind = task.behind
        own = task.end - behind - task.cursor
        count = min(budget, self._chunk, own)
        return own + behind if behind and count == own and own + behind <= budget else count

    def _make_room(self, task: Task) -> bool:
        """Take blocks from whoever needs them least; False if that is the task itself."""
        if self._drop_one(keep=task):
            return True
        victim = self._over_its_share()
        self.yielded += victim is not None
        victim = victim or self.running[-1]
        self._preempt(victim)
        return victim is not task

    def _drop_one(self, keep: Task) -> bool:
        """Release the blocks of an idle sequence, or of one that waits."""
        if self.idle:
            sequence = next(iter(self.idle))
            del self.idle[sequence]
            sequence.table.release()
            return True
        for task in reversed(self.waiting):
            if task.sequence.table.blocks and task is not keep:
                task.sequence.table.release()
                return True
        return False

    def _preempt(self, task: Task) -> None:
        if self._entries.pop(task, None) is not None:
            task.sequence.table.rollback()
        task.sequence.table.release()
        task.cursor = 0
        task.usage.preemptions += 1
        self.running.remove(task)
        insort(self.waiting, task, key=_arrival)
        self._preempted.add(task)

    def _expect_waiting(self) -> None:
        for task in self.waiting[: 2 * self._max_sequences]:
            if task not in self.expected:
                scope = task.sequence.table.scope
                self.expected[task] = self.pool.expect(_to_run(task), task.id, scope)

    def _expect_no_more(self, task: Task) -> None:
        if expectation := self.expected.pop(task, None):
            expectation.drop()

    def _admit(self, budget: int) -> None:
        heads = self._heads() if self.waiting else {}
        shares = self._shares() if len(self.scopes) > 1 else None
        left, late = self._let_in(self._first(), budget, heads, shares)
        self._let_in(late, left, heads, None)

    def _let_in(
        self,
        tasks: Iterable[Task],
        budget: int,
        heads: dict[Head, list[Entry]],
        shares: Shares | None,
    ) -> tuple[int, list[Task]]:
        """Let them in, in their order; what is left of the budget, and those whose scopes would
        have more than their shares. Once nobody else can come in, nothing is left."""
        late: list[Task] = []
        behind: set[bytes] = set()
        for task in tasks:
            if not budget or self._preempted or len(self.running) >= self._max_sequences:
                return 0, []
            table = task.sequence.table
            if table.scope in behind:
                late.append(task)
                continue
            tokens = _to_run(task)
            table.adopt(tokens)
            if table.awaits(tokens) or _is_computed(task, heads.get(_head(table), ())):
                continue
            if shares and not (shares.begins(task) or shares.holds(task, _needed(task))):
                behind.add(table.scope)
                late.append(task)
                continue
            if not self._fits(task):
                return 0, []
            self._enter(task)
            budget -= self._run(task, budget)
            if shares:
                shares.add(task)
        return budget, late

    def _first(self) -> list[Task]:
        """Those that wait for longest; so many of each scope, that none is out of sight."""
        most = 2 * self._max_sequences
        if len(self.scopes) < 2 or len(self.waiting) <= most:
            return self.waiting[:most]
        seen: Counter[bytes] = Counter()
        found: list[Task] = []
        for task in self.waiting:
            scope = task.sequence.table.scope
            seen[scope] += 1
            if seen[scope] <= most:
                found.append(task)
        return found

    def _heads(self) -> dict[Head, list[Entry]]:
        """What this step computes of prompts, by where in the tree of prefixes it goes on."""
        heads: dict[Head, list[Entry]] = {}
        for entry in self._entries.values() if self.pool.sharing else ():
            if entry.start < entry.task.prompt:
                heads.setdefault(_head(entry.task.sequence.table), []).append(entry)
        return heads

    def _fits(self, task: Task) -> bool:
        """Whether there is room for all that is left of the prompt, making some if need be."""
        while _needed(task) > self.pool.available:
            if not self._drop_one(keep=task) and not self._give_way(task):
                return False
        return True

    def _give_way(self, task: Task) -> bool:
        """Preempt one of a scope over its share, for a task whose scope keeps to its own."""
        victim = self._over_its_share()
        if victim is None or not self._shares().holds(task, _needed(task)):
            return False
        self.yielded += 1
        self._preempt(victim)
        return True

    def _over_its_share(self) -> Task | None:
        """Whom to preempt, where scopes compete and one has too much."""
        return self._shares().victim() if len(self.scopes) > 1 else None

    def _shares(self) -> Shares:
        return Shares(
            self.running,
            self.pool,
            blocks=max(1, int(self._share * self.pool.num_blocks)),
            places=max(1, int(self._share * self._max_sequences)),
        )

    def _enter(self, task: Task) -> None:
        table = task.sequence.table
        table.announce(_to_run(task))
        task.cursor = min(table.length, task.wanted)
        task.entered = task.entered or time.monotonic()
        task.usage.prompt_reused += max(0, min(task.cursor, task.prompt) - task.counted)
        task.counted = max(task.counted, task.cursor)
        self.waiting.remove(task)
        self._expect_no_more(task)
        insort(self.running, task, key=_arrival)


def _needed(task: Task) -> int:
    """Blocks that all that is left of its prompt takes."""
    table = task.sequence.table
    return table.blocks_needed(max(0, task.end - table.length))


def _head(table: BlockTable) -> Head:
    """Where a table goes on: its scope, the number of the block, and the block before."""
    number = table.length // table.pool.block_size
    return table.scope, number, table.blocks[number - 1] if number else -1


def _is_computed(task: Task, entries: Iterable[Entry]) -> bool:
    """Whether one of the entries, which go on in the task's own block, runs its next token.

    Prompt tokens only: what somebody is generating comes one by one, and is not waited for.
    """
    tokens, length = task.sequence.tokens, task.sequence.table.length
    begin = length - length % task.sequence.table.pool.block_size
    path = tokens[begin : length + 1]
    return length < task.wanted and any(
        min(entry.end, entry.task.prompt) > length
        and entry.task.sequence.tokens[begin : length + 1] == path
        for entry in entries
    )


def _to_run(task: Task) -> list[int]:
    """The tokens up to the task's end, or as many as there are already."""
    return task.sequence.tokens[: max(task.end, task.sequence.table.length)]


def _arrival(task: Task) -> int:
    return task.id
