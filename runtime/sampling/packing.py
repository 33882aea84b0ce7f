"""What the rows of a step ask of their draw, as arrays, in one buffer on their way to a device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.kernels.gpu.penalties import NONE
from ramet.kernels.memory import staging
from ramet.runtime.sampling.processors import Rows, packed_mask, penalty
from ramet.runtime.sampling.row import SamplingRow

_WORD = 2**64 - 1
_ALIGNED = 16  # bytes that a part begins at a multiple of: what the widest loads want

Entries = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What R rows ask, as the kernels of `ramet.kernels.gpu` take it, which say what each is."""

    places: Tensor  # [R, 4]
    temperatures: Tensor  # [R]
    top_k: Tensor  # [R]
    top_p: Tensor  # [R]
    below: Tensor  # [R]
    bounds: Tensor  # [R, 5]
    ids: Tensor  # [N]
    values: Tensor  # [N]
    masks: Tensor  # [M, ceil(V / 8)]
    which: Tensor  # [R, 2]
    ends: Tensor  # [R]
    logprobs: Tensor  # [L] int64: the rows that want log-probabilities

    @classmethod
    def of(cls, rows: Rows, positions: Sequence[int], size: int) -> Self:
        """On the host; of logits [R, size]. Raises `ConstraintError` where a mask does."""
        sampled = [None if row.greedy else row.params for row in rows]
        bounds, ids, values = _cells(rows)
        masks, which, ends = _masks(rows, size)
        return cls(
            places=_places(rows, positions),
            temperatures=torch.tensor([each.temperature if each else 0.0 for each in sampled]),
            top_k=torch.tensor([each.top_k if each else 0 for each in sampled], dtype=torch.int32),
            top_p=torch.tensor([each.top_p if each else 1.0 for each in sampled]),
            below=torch.tensor([_log(each.min_p) if each else -math.inf for each in sampled]),
            bounds=bounds,
            ids=ids,
            values=values,
            masks=masks,
            which=which,
            ends=ends,
            logprobs=torch.tensor(
                [i for i, row in enumerate(rows) if row.params.logprobs is not None],
                dtype=torch.int64,
            ),
        )

    def on(self, device: torch.device) -> Self:
        """The same on that device, by one copy that nobody waits for."""
        parts = [getattr(self, field.name) for field in fields(self)]
        sizes = [part.nbytes for part in parts]
        starts = np.cumsum([0, *(-(-each // _ALIGNED) * _ALIGNED for each in sizes)]).tolist()
        buffer = staging(starts[-1], torch.uint8, device)
        packed = buffer.numpy()
        for part, at, each in zip(parts, starts, sizes, strict=False):
            packed[at : at + each] = part.numpy().ravel().view(np.uint8)
        there = buffer.to(device, non_blocking=True)
        columns = zip(parts, starts, sizes, strict=False)
        return self.__class__(
            *(there[at : at + each].view(part.dtype).view(part.shape) for part, at, each in columns)
        )


def _places(rows: Rows, positions: Sequence[int]) -> Tensor:
    places = [
        (row.key & _WORD, row.key >> 64, position, row.attempt)
        for row, position in zip(rows, positions, strict=True)
    ]
    return torch.from_numpy(np.array(places, np.uint64).reshape(-1, 4).view(np.int64))


def _log(min_p: float) -> float:
    return math.log(min_p) if min_p > 0 else -math.inf


def _cells(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds, ids and values for `penalise`."""
    stages = [stage for row in rows for stage in _stages(row)]
    starts = np.cumsum([0, *(len(ids) for ids, _ in stages)])
    bounds = starts[4 * np.arange(len(rows))[:, None] + np.arange(5)]
    ids = np.concatenate([ids for ids, _ in stages]).astype(np.int32)
    values = np.concatenate([values for _, values in stages])
    return (
        torch.from_numpy(bounds.astype(np.int32)),
        torch.from_numpy(ids),
        torch.from_numpy(values),
    )


def _stages(row: SamplingRow) -> list[Entries]:
    """Tokens and values of the four stages of `penalise`."""
    none = np.empty(0, np.int64), np.empty(0, np.float32)
    seen = row.tally.ids
    return [
        (row.bias_ids, row.bias),
        (seen, _full(seen, row.params.repetition_penalty)) if row.repeats else none,
        (seen, -penalty(row).astype(np.float32)) if row.penalises else none,
        (row.ends, _full(row.ends, -math.inf)) if row.too_short else none,
    ]


def _full(ids: NDArray[np.int64], value: float) -> NDArray[np.float32]:
    return np.full(len(ids), value, np.float32)


def _masks(rows: Rows, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks, which of them each row has, and the ends, for `rule_out`."""
    masks: list[NDArray[np.uint8]] = []
    which = np.full((len(rows), 2), NONE, np.int32)
    ends = np.full(len(rows), NONE, np.int32)
    for i, row in enumerate(rows):
        allowed, grammar = row.allowed, row.grammar
        if allowed is not None:
            which[i, 0] = len(masks)
            bits = np.zeros(size, np.bool_)
            bits[allowed] = True
            masks.append(np.packbits(bits, bitorder="little"))
        if grammar is not None and not row.tries:
            which[i, 1] = len(masks)
            masks.append(packed_mask(row, grammar))
            ends[i] = grammar.ends[0] if grammar.ends else NONE
    packed = np.stack(masks) if masks else np.empty((0, -(-size // 8)), np.uint8)
    return torch.from_numpy(packed), torch.from_numpy(which), torch.from_numpy(ends)
