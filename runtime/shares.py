"""How much of the pool each scope has, where several want some. Moves nothing, and knows no tenant.

What counts are the blocks of running tasks: those of idle sequences are anybody's who needs them.
Blocks that tasks of one scope have in common count once, those that two scopes have in each.
"""

from collections import defaultdict
from collections.abc import Iterable

from ramet.cache import BlockPool
from ramet.runtime.sequence import Task


class Shares:
    """What the running tasks of each scope have at this moment.

    Args:
        running: by arrival.
        blocks: the most of one scope.
        places: the most tasks of one scope in a step.
    """

    def __init__(
        self, running: Iterable[Task], pool: BlockPool, *, blocks: int, places: int
    ) -> None:
        self._pool = pool
        self._blocks = blocks
        self._places = places
        self._tasks: dict[bytes, list[Task]] = defaultdict(list)
        self._held: dict[bytes, set[int]] = {}  # of scopes that somebody asked about
        for task in running:
            self.add(task)

    def add(self, task: Task) -> None:
        """It runs, too."""
        table = task.sequence.table
        self._tasks[table.scope].append(task)
        if (held := self._held.get(table.scope)) is not None:
            held.update(table.blocks)

    def holds(self, task: Task, needed: int) -> bool:
        """Whether the scope keeps to its share with one task more, that needs so many blocks
        besides those of its table."""
        table = task.sequence.table
        if len(self._tasks[table.scope]) >= self._places:
            return False
        held = self._pool.num_blocks - self._pool.available  # by everybody: at least as many
        if held + needed <= self._blocks:
            return True
        mine = self._held_by(table.scope)
        return len(mine) + sum(id not in mine for id in table.blocks) + needed <= self._blocks

    def begins(self, task: Task) -> bool:
        """Whether nothing of its scope runs."""
        return not self._tasks[task.sequence.table.scope]

    def victim(self) -> Task | None:
        """The latest arrival of the scope that has most blocks over its share; a scope's first one
        is none."""
        most, found = self._blocks, None
        if self._pool.num_blocks - self._pool.available <= most:
            return None
        for scope, tasks in self._tasks.items():
            if len(tasks) > 1 and (held := len(self._held_by(scope))) > most:
                most, found = held, tasks[-1]
        return found

    def _held_by(self, scope: bytes) -> set[int]:
        if scope not in self._held:
            tables = (task.sequence.table for task in self._tasks[scope])
            self._held[scope] = {id for table in tables for id in table.blocks}
        return self._held[scope]
