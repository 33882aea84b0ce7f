"""What changes the logits before a token is drawn, one small function each.

Every function takes logits [R, V] (float32) and the R rows they belong to, and changes in place
the logits of the rows that ask for it. A row's result is a function of its own logits and state:
nothing elementwise and inexact runs over several rows at once, because vectorised kernels may
round the last elements of a chunk differently.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ramet.runtime.grammar.state import Grammar, Mask
from ramet.runtime.sampling.row import SamplingRow

Rows = Sequence[SamplingRow]
_NEVER = -math.inf
# Guesses at how many tokens a nucleus has, before all are sorted. Of 49,152 on two CPU cores, the
# likeliest 64 cost 0.04 ms a row, 1,024 cost 0.2 ms, all of them 2 ms.
_NUCLEUS_GUESSES = (64, 1024)


def allow(logits: Tensor, rows: Rows) -> None:
    """`allowed_tokens`, and what spells a text that was taken back: nothing else can be drawn."""
    found = ((i, row.allowed) for i, row in enumerate(rows))
    allowed = {i: tokens for i, tokens in found if tokens is not None}
    if allowed:
        index = list(allowed)
        cells = _cells(logits, index, list(allowed.values()))
        kept = logits[cells]
        logits[index] = _NEVER
        logits[cells] = kept


def add_bias(logits: Tensor, rows: Rows) -> None:
    """`logit_bias`: added to the logits of these tokens."""
    index = [i for i, row in enumerate(rows) if row.bias_ids.size]
    if index:
        cells = _cells(logits, index, [rows[i].bias_ids for i in index])
        logits[cells] += _tensor(logits, np.concatenate([rows[i].bias for i in index]))


def penalise_repetition(logits: Tensor, rows: Rows) -> None:
    """`repetition_penalty`: divides positive logits, multiplies negative ones, of every token of
    prompt and output (arXiv 1909.05858; `transformers.RepetitionPenaltyLogitsProcessor`).
    """
    index = [i for i, row in enumerate(rows) if row.repeats]
    if index:
        seen = [rows[i].tally.ids for i in index]
        cells = _cells(logits, index, seen)
        penalties = [rows[i].params.repetition_penalty for i in index]
        penalty = _tensor(logits, np.repeat(penalties, [len(ids) for ids in seen]))
        found = logits[cells]
        logits[cells] = torch.where(found < 0, found * penalty, found / penalty)


def penalise_presence(logits: Tensor, rows: Rows) -> None:
    """`presence_penalty` once, `frequency_penalty` for each time, for the tokens of the output
    (OpenAI's API: logit - count * frequency - (count > 0) * presence).
    """
    index = [i for i, row in enumerate(rows) if row.penalises]
    if index:
        cells = _cells(logits, index, [rows[i].tally.ids for i in index])
        logits[cells] -= _tensor(logits, np.concatenate([penalty(rows[i]) for i in index]))


def keep_to_grammar(logits: Tensor, rows: Rows) -> None:
    """The grammar: only tokens that it allows. Where the text can end, a model that would rather
    leave the grammar ends it: the end of text gets the mass of all tokens that are ruled out. So
    a greedy text is the free text as far as that obeys the grammar. Beams weigh both, so they are
    no greedy rows here. Not for rows that `tries`.
    """
    index = [i for i, row in enumerate(rows) if row.grammar is not None and not row.tries]
    if index:
        some, bound = take(logits, index), [rows[i] for i in index]
        allowed = torch.from_numpy(_allowed(bound, logits.shape[-1])).to(logits.device)
        greedy = _ends(some, allowed, bound, _is_greedy)
        others = _ends(some, allowed, bound, lambda row: not _is_greedy(row))
        peaks, masses = some.amax(-1), _masses(some, allowed, bound, others)
        some.masked_fill_(~allowed, _NEVER)
        some[others] = masses
        wishes = torch.where(peaks > some.amax(-1), peaks, _NEVER)
        some[greedy] = torch.maximum(some[greedy], wishes[greedy.rows])
        _give(logits, index, some)


def forbid_ends(logits: Tensor, rows: Rows) -> None:
    """`min_tokens`: no end of sequence and no stop token while there are fewer."""
    index = [i for i, row in enumerate(rows) if row.too_short]
    if index:
        logits[_cells(logits, index, [rows[i].ends for i in index])] = _NEVER


def divide_by_temperature(logits: Tensor, rows: Rows) -> None:
    """`temperature`, for the rows that are not greedy."""
    if not all(row.greedy or row.params.temperature == 1 for row in rows):
        divisors = [1.0 if row.greedy else row.params.temperature for row in rows]
        logits /= logits.new_tensor(divisors)[:, None]


def keep_top_k(logits: Tensor, rows: Rows) -> None:
    """`top_k`: the k likeliest, and what ties with the last of them (`TopKLogitsWarper`)."""
    size = logits.shape[-1]
    index = [i for i, row in enumerate(rows) if not row.greedy and 0 < row.params.top_k < size]
    if index:
        some, ks = take(logits, index), [rows[i].params.top_k for i in index]
        best = some.topk(max(ks)).values
        last = torch.tensor(ks, device=logits.device)[:, None] - 1
        _give(logits, index, some.masked_fill_(some < best.gather(1, last), _NEVER))


def keep_top_p(logits: Tensor, rows: Rows) -> None:
    """`top_p`: the likeliest tokens until they sum to p, the one that crosses it included
    (arXiv 1904.09751; `TopPLogitsWarper`, but a tie at the edge keeps all that tie).
    """
    index = [i for i, row in enumerate(rows) if not row.greedy and row.params.top_p < 1]
    if index:
        some = take(logits, index)
        probabilities = some.softmax(-1)
        masses = logits.new_tensor([rows[i].params.top_p for i in index])
        least = _least_of_nucleus(probabilities, masses)
        _give(logits, index, some.masked_fill_(probabilities < least[:, None], _NEVER))


def keep_min_p(logits: Tensor, rows: Rows) -> None:
    """`min_p`: tokens at least this likely, relative to the likeliest (arXiv 2407.01082;
    `MinPLogitsWarper`).
    """
    index = [i for i, row in enumerate(rows) if not row.greedy and row.params.min_p > 0]
    if index:
        some = take(logits, index)
        below = logits.new_tensor([math.log(rows[i].params.min_p) for i in index])
        least = some.amax(-1) + below
        _give(logits, index, some.masked_fill_(some < least[:, None], _NEVER))


PROCESSORS: tuple[Callable[[Tensor, Rows], None], ...] = (
    allow,
    add_bias,
    penalise_repetition,
    penalise_presence,
    keep_to_grammar,
    forbid_ends,
    divide_by_temperature,
    keep_top_k,
    keep_top_p,
    keep_min_p,
)
"""In the order in which they apply: that of `transformers`, with bias and penalties before."""


class _Cells(NamedTuple):
    """Places in logits [R, V], each at most once; indexes the tensor as a tuple does."""

    rows: Tensor
    ids: Tensor


def take(logits: Tensor, index: list[int]) -> Tensor:
    """These rows of logits [R, V]; the logits themselves, not a copy, where it is all of them."""
    if len(index) == len(logits):
        return logits
    return logits.index_select(0, torch.tensor(index, device=logits.device))


def _give(logits: Tensor, index: list[int], some: Tensor) -> None:
    """Puts back what `take` took."""
    if some is not logits:
        logits.index_copy_(0, torch.tensor(index, device=logits.device), some)


def _cells(logits: Tensor, index: list[int], ids: Sequence[NDArray[np.int64]]) -> _Cells:
    rows = torch.from_numpy(np.repeat(index, [len(each) for each in ids]))
    return _Cells(rows.to(logits.device), torch.from_numpy(np.concatenate(ids)).to(logits.device))


def _tensor(logits: Tensor, values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(logits.device)


def penalty(row: SamplingRow) -> NDArray[np.floating]:
    """What presence and frequency take from the logit of each token of the row's tally."""
    counts = row.tally.counts
    return row.params.presence_penalty * (counts > 0) + row.params.frequency_penalty * counts


def packed_mask(row: SamplingRow, grammar: Grammar) -> Mask:
    """What the row's grammar allows next, packed as its mask; no end while the text goes on."""
    mask = grammar.mask()
    if row.goes_on and not grammar.finished:
        mask = mask.copy()
        for end in grammar.ends:
            mask[end // 8] &= ~(1 << end % 8) & 255
    return mask


def _allowed(rows: Rows, size: int) -> NDArray[np.bool_]:
    """What each row's grammar allows next [R, V]."""
    packed = np.stack([packed_mask(row, row.grammar) for row in rows if row.grammar is not None])
    return np.unpackbits(packed, axis=1, count=size, bitorder="little").view(np.bool_)


def _ends(
    logits: Tensor, allowed: Tensor, rows: Rows, which: Callable[[SamplingRow], bool]
) -> _Cells:
    """The end of text that stands for all of them, in such rows as may draw it."""
    ends = {
        i: row.grammar.ends[0]
        for i, row in enumerate(rows)
        if row.grammar is not None and row.grammar.ends and which(row)
    }
    cells = _Cells(_index(logits, ends), _index(logits, ends.values()))
    may = allowed[cells] & (logits[cells] > _NEVER)
    return _Cells(cells.rows[may], cells.ids[may])


def _masses(logits: Tensor, allowed: Tensor, rows: Rows, ends: _Cells) -> Tensor:
    """For each end [N] the logit that has the mass of it and of all that its row rules out, at the
    row's temperature. By `log_softmax`: it does one row at a time, and `logsumexp` does not.
    """
    index = ends.rows.tolist()
    if not index:
        return logits.new_empty(0)
    outside = logits[ends.rows].masked_fill_(allowed[ends.rows], _NEVER)
    outside[torch.arange(len(index), device=logits.device), ends.ids] = logits[ends]
    temperatures = logits.new_tensor([_temperature(rows[i]) for i in index])
    outside /= temperatures[:, None]
    return (outside.amax(-1) - outside.log_softmax(-1).amax(-1)) * temperatures


def _is_greedy(row: SamplingRow) -> bool:
    """Whether the row takes the likeliest token only; a beam weighs several."""
    return row.greedy and row.params.beams == 1


def _temperature(row: SamplingRow) -> float:
    return 1.0 if row.params.beams > 1 else row.params.temperature


def _index(logits: Tensor, places: Collection[int]) -> Tensor:
    return torch.tensor(list(places), device=logits.device, dtype=torch.long)


def _least_of_nucleus(probabilities: Tensor, masses: Tensor) -> Tensor:
    """The least probability [R] in each row's nucleus; how far a row is sorted is its own affair.

    A token is in the nucleus while those before it sum to less than the mass.
    """
    least = torch.empty_like(masses)
    left = torch.arange(len(masses), device=masses.device)
    for guess in (*_NUCLEUS_GUESSES, probabilities.shape[-1]):
        best = probabilities[left].topk(min(guess, probabilities.shape[-1])).values
        sums = best.cumsum(-1)
        inside = 1 + (sums[:, :-1] < masses[left, None]).sum(-1, keepdim=True)
        least[left] = best.gather(1, inside - 1).squeeze(1)
        left = left[sums[:, -1] < masses[left]]
        if not len(left):
            break
    return least
