"""The order in which cached blocks are reused. Knows ids and numbers; no tokens and no plan.

A block's turn is its next expected use, farthest first and none before all, then when it was given
up. Blocks that nobody ever expected stand in a queue. The others lie in a heap, those that are
expected no more too. A turn that no longer counts stays in the heap until it comes up, or until
more than half of the heap is such; so every call but iteration takes O(log blocks), amortised.
"""

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

# Minus the next use, or -inf if there is none; when the block was given up; its id.
Turn = tuple[float, int, int]

NEVER = float("-inf")
SLACK = 64


class EvictionOrder:
    """Ids of cached blocks; iterating gives them in the order in which they will be reused."""

    __slots__ = ("_clock", "_heap", "_queue", "_ranked")

    def __init__(self) -> None:
        self._clock = 0
        self._queue: OrderedDict[int, int] = OrderedDict()  # id -> when it was given up
        self._ranked: dict[int, Turn] = {}
        self._heap: list[Turn] = []

    def __len__(self) -> int:
        return len(self._queue) + len(self._ranked)

    def __contains__(self, id: int) -> bool:
        return id in self._queue or id in self._ranked

    def __iter__(self) -> Iterator[int]:
        return (id for _, _, id in self.turns())

    def turns(self) -> list[Turn]:
        """All of them, the next one first."""
        queued = [(NEVER, age, id) for id, age in self._queue.items()]
        return sorted([*queued, *self._ranked.values()])

    def add(self, id: int, use: int | None) -> None:
        """A block was given up; `use` is the place of its next expected use, smaller is sooner."""
        self._clock += 1
        if use is None:
            self._queue[id] = self._clock
        else:
            self._rank((-use, self._clock, id))

    def move(self, id: int, use: int | None) -> None:
        """Its next expected use changed. Among equals it keeps its age. Not cached: nothing."""
        age = self._queue.pop(id, 0) or (self._ranked[id][1] if id in self._ranked else 0)
        if age:
            self._rank((NEVER if use is None else -use, age, id))

    def discard(self, id: int) -> bool:
        """Take a block out, wherever it stands; False if it is not cached."""
        return bool(self._queue.pop(id, 0) or self._ranked.pop(id, 0))

    def pop(self) -> int:
        """Take out the block whose turn it is. There must be one."""
        heap, queue = self._heap, self._queue
        while heap and self._ranked.get(heap[0][2]) != heap[0]:
            heappop(heap)
        if queue:
            id, age = next(iter(queue.items()))
            if not heap or (NEVER, age, id) < heap[0]:
                del queue[id]
                return id
        id = heappop(heap)[2]
        del self._ranked[id]
        return id

    def _rank(self, turn: Turn) -> None:
        self._ranked[turn[2]] = turn
        if len(self._heap) > 2 * len(self._ranked) + SLACK:
            self._heap = [*self._ranked.values()]
            heapify(self._heap)
        else:
            heappush(self._heap, turn)

    def faults(self) -> Iterator[str]:
        """What is wrong with the queue and the heap, for the audit. O(blocks log blocks)."""
        heap, ages = self._heap, [*self._queue.values()]
        if ages != sorted(ages):
            yield f"the queue is out of order: {ages}"
        if self._queue.keys() & self._ranked.keys():
            yield "a block stands in the queue and in the heap"
        if lost := set(self._ranked.values()) - set(heap):
            yield f"{lost} not in the heap"
        if any(heap[(place - 1) // 2] > heap[place] for place in range(1, len(heap))):
            yield "the heap is out of order"
