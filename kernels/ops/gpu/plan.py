"""What all layers of one step share on a GPU: its metadata, in one buffer, and how large that is.

Knows runs and rooms; launches nothing. A plan can be filled again for another step that fits its
room. Then all its tensors stay where they are and all launches as large as they were, as a CUDA
graph that was captured with the plan needs it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.gpu.attention import Work
from ramet.kernels.gpu.runs import ITEM_FIELDS, ROW_FIELDS, Runs, row_facts, tree_masks
from ramet.kernels.gpu.sheet import Sheet
from ramet.kernels.layout import KVLayout, Step

Ints = NDArray[np.int64]

_LEVELS = 7  # shared runs that a row of a decode step passes over, on average, where there is room


class DoesNotFit(ValueError):
    """A step is larger than the room of a plan."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Layers that read alike."""

    window: int | None
    groups: int  # query heads of a key head


@dataclass(frozen=True, slots=True)
class Room:
    """The largest step that a plan holds; from `narrow` on, for each reader."""

    tokens: int
    sequences: int
    blocks: int  # of a block table
    masks: int  # words of tree masks; 0: no trees
    narrow: int  # items, see `Runs`
    wide: int
    entries: int
    merged: int
    partials: int
    lanes: int  # of an item

    @classmethod
    def of(cls, step: Step, cuts: Mapping[Reader, Runs]) -> "Room":
        """Just enough."""
        runs = cuts.values()
        return cls(
            tokens=step.tokens,
            sequences=step.block_tables.shape[0],
            blocks=step.block_tables.shape[1],
            masks=len(tree_masks(step, None)),
            narrow=max((len(each.narrow) for each in runs), default=0),
            wide=max((len(each.wide) for each in runs), default=0),
            entries=max((len(each.rows) for each in runs), default=0),
            merged=max((len(each.merged) for each in runs), default=0),
            partials=max((int(each.starts[-1]) for each in runs), default=0),
            lanes=max((each.lanes for each in runs), default=1),
        )

    @classmethod
    def for_decoding(
        cls, sequences: int, blocks: int, programs: int, lanes: int, groups: Collection[int]
    ) -> "Room":
        """For one query token of each of n sequences whose rows, on average, pass over up to
        `_LEVELS` shared runs.

        Before long runs are split, rows then have n (1 + `_LEVELS`) entries. A forest over n rows
        has up to n - 1 nodes, and one of m rows comes in up to 1 + m / r items, where a program
        holds r rows. Splitting adds up to `programs` items, each with up to r of the n rows. A step
        whose forest is deeper may not fit; `Plan.fill` refuses it.

        Args:
            programs: that fill the device, by key head.
            lanes: of an item, at most.
            groups: of each reader.
        """
        rows = [max(1, lanes // each) for each in groups]
        nodes = [sequences * (_LEVELS + each) // each for each in rows if each > 1]
        items = sequences + max(nodes, default=0) + programs
        entries = sequences * (1 + _LEVELS) + min(sequences, max(rows, default=1)) * programs
        return cls(
            tokens=sequences,
            sequences=sequences,
            blocks=blocks,
            masks=0,
            narrow=items,
            wide=items,
            entries=entries,
            merged=sequences,
            partials=entries,
            lanes=max([lanes, *groups]),
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """A step cut for one reader."""

    work: Work
    merged: Tensor  # [R]
    starts: Tensor  # [R + 1]
    partials: int  # partial results, at most


_BASE = 3  # sub-buffers that all readers share: slots, rows, tables
_OF_A_READER = 8  # and of one: counts, narrow, wide, entry rows and slots, merged, starts, masks


@dataclass(slots=True)
class Plan:
    """Metadata of a step on the device."""

    step: Step
    room: Room
    layout: KVLayout
    readers: tuple[Reader, ...]
    cuts: dict[Reader, Cut] = field(init=False)
    slots: Tensor = field(init=False)  # [tokens] int32
    _sheet: Sheet = field(init=False)

    def __post_init__(self) -> None:
        room = self.room
        base: list[tuple[int, ...]] = [
            (room.tokens,),
            (room.tokens, ROW_FIELDS),
            (room.sequences, room.blocks),
        ]
        each: list[tuple[int, ...]] = [
            (3,),
            (room.narrow, ITEM_FIELDS),
            (room.wide, ITEM_FIELDS),
            (room.entries,),
            (room.entries,),
            (room.merged,),
            (room.merged + 1,),
            (room.masks,),
        ]
        self._sheet = Sheet(base + each * len(self.readers), self.layout.device)
        self.slots = self._sheet.part(0)
        self.cuts = {reader: self._cut(index) for index, reader in enumerate(self.readers)}

    def fill(self, step: Step, runs: Mapping[Reader, Runs]) -> None:
        """Write a step's metadata, without waiting for the device.

        Raises:
            DoesNotFit: the plan is as it was.
        """
        self._check(step, runs)
        slots = np.full(self.room.tokens, -1, np.int64)
        slots[: step.tokens] = step.slots.numpy()
        arrays: list[Ints] = [slots, row_facts(step), step.block_tables.numpy()]
        for reader in self.readers:
            cut = runs[reader]
            counts = np.array([len(cut.narrow), len(cut.wide), len(cut.merged)])
            arrays += [counts, cut.narrow, cut.wide, cut.rows, cut.slots, cut.merged, cut.starts]
            arrays.append(tree_masks(step, reader.window))
        self._sheet.fill(arrays)
        self.step = step

    def _check(self, step: Step, runs: Mapping[Reader, Runs]) -> None:
        needed = Room.of(step, {reader: runs[reader] for reader in self.readers})
        for name in Room.__dataclass_fields__:
            has, needs = getattr(self.room, name), getattr(needed, name)
            if needs > has:
                raise DoesNotFit(f"the step needs room for {needs} {name}, and the plan has {has}")

    def _cut(self, index: int) -> Cut:
        part = self._sheet.part
        first = _BASE + index * _OF_A_READER
        work = Work(
            counts=part(first),
            narrow=part(first + 1),
            wide=part(first + 2),
            entry_rows=part(first + 3),
            entry_slots=part(first + 4),
            rows=part(1),
            masks=part(first + 7),
            tables=part(2),
            lanes=self.room.lanes,
        )
        return Cut(
            work=work,
            merged=part(first + 5),
            starts=part(first + 6),
            partials=self.room.partials,
        )
