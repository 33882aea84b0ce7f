"""What all layers of one step share on a GPU: its metadata, in one buffer, and how large that is.

Knows runs and rooms; launches nothing. A plan can be filled again for another step that fits its
room. Then all its tensors stay where they are and all launches as large as they were, as a CUDA
graph that was captured with the plan needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.gpu.attention import Work
from ramet.kernels.gpu.runs import ITEM_FIELDS, ROW_FIELDS, Runs, row_facts, tree_masks
from ramet.kernels.gpu.sheet import Sheet
from ramet.kernels.layout import KVLayout, Step

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reader:
    """Layers that read alike."""

    window: int | None
    groups: int  # query heads of a key head


@dataclass(frozen=True, slots=True)
class Room:
    """The largest step that a plan holds; the last six for each reader."""

    tokens: int
    sequences: int
    blocks: int  # of a block table
    masks: int  # words of tree masks; 0: no trees
    items: int
    entries: int
    merged: int
    partials: int
    widest: int  # entries of an item

    @classmethod
    def of(cls, step: Step, cuts: Mapping[Reader, Runs]) -> "Room":
        """Just enough."""
        runs = cuts.values()
        return cls(
            tokens=step.tokens,
            sequences=step.block_tables.shape[0],
            blocks=step.block_tables.shape[1],
            masks=len(tree_masks(step, None)),
            items=max((len(each.items) for each in runs), default=0),
            entries=max((len(each.rows) for each in runs), default=0),
            merged=max((len(each.merged) for each in runs), default=0),
            partials=max((int(each.starts[-1]) for each in runs), default=0),
            widest=max((each.widest for each in runs), default=1),
        )

    @classmethod
    def for_decoding(cls, sequences: int, blocks: int, programs: int) -> "Room":
        """For one query token of each of so many sequences; generous, and not a bound.

        A step whose forest is so deep that it does not fit is refused by `Plan.fill`.
        """
        parts = 4 * sequences + programs
        return cls(
            tokens=sequences,
            sequences=sequences,
            blocks=blocks,
            masks=0,
            items=parts,
            entries=4 * parts,
            merged=sequences,
            partials=4 * parts,
            widest=16,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """A step cut for one reader."""

    work: Work
    merged: Tensor  # [R]
    starts: Tensor  # [R + 1]
    partial: Tensor  # [P, heads, head_dim] float32, for one layer after the other
    sums: Tensor  # [P, heads] float32


_BASE = 3  # sub-buffers that all readers share: slots, rows, tables
_OF_A_READER = 7  # and those of one: counts, items, entry rows, entry slots, merged, starts, masks


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
        base = [room.tokens, room.tokens * ROW_FIELDS, room.sequences * room.blocks]
        each = [
            2,
            room.items * ITEM_FIELDS,
            room.entries,
            room.entries,
            room.merged,
            room.merged + 1,
            room.masks,
        ]
        self._sheet = Sheet(base + each * len(self.readers), self.layout.device)
        self.slots = self._sheet.part(0, -1)
        self.cuts = {reader: self._cut(index) for index, reader in enumerate(self.readers)}

    def fill(self, step: Step, runs: Mapping[Reader, Runs]) -> None:
        """Write a step's metadata, without waiting for the device.

        Raises:
            ValueError: the step does not fit; the plan is as it was.
        """
        self._check(step, runs)
        tables = np.full((self.room.sequences, self.room.blocks), -1, np.int64)
        sequences, blocks = step.block_tables.shape
        tables[:sequences, :blocks] = step.block_tables.numpy()
        arrays: list[Ints] = [step.slots.numpy(), row_facts(step), tables]
        for reader in self.readers:
            cut = runs[reader]
            counts = np.array([len(cut.items), len(cut.merged)])
            arrays += [counts, cut.items, cut.rows, cut.slots, cut.merged, cut.starts]
            arrays.append(tree_masks(step, reader.window))
        self._sheet.fill(arrays)
        self.step = step

    def _check(self, step: Step, runs: Mapping[Reader, Runs]) -> None:
        needed = Room.of(step, {reader: runs[reader] for reader in self.readers})
        for name in Room.__dataclass_fields__:
            has, needs = getattr(self.room, name), getattr(needed, name)
            if needs > has:
                raise ValueError(f"the step needs room for {needs} {name}, and the plan has {has}")

    def _cut(self, index: int) -> Cut:
        room, reader = self.room, self.readers[index]
        first = _BASE + index * _OF_A_READER
        part = self._sheet.part
        heads = self.layout.kv_heads * reader.groups
        device = self.layout.device
        work = Work(
            counts=part(first, 2),
            items=part(first + 1, room.items, ITEM_FIELDS),
            entry_rows=part(first + 2, -1),
            entry_slots=part(first + 3, -1),
            rows=part(1, room.tokens, ROW_FIELDS),
            masks=part(first + 6, -1),
            tables=part(2, room.sequences, room.blocks),
            widest=room.widest,
        )
        return Cut(
            work=work,
            merged=part(first + 4, -1),
            starts=part(first + 5, -1),
            partial=torch.empty(room.partials, heads, self.layout.head_dim, device=device),
            sums=torch.empty(room.partials, heads, device=device),
        )
