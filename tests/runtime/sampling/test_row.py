"""A row counts what it has drawn, and refuses tokens that do not exist."""

import pytest

from ramet.params import SamplingParams
from ramet.runtime.errors import RequestError
from ramet.runtime.sampling.row import SamplingRow, Tally


def row(params: SamplingParams, prompt: list[int] | None = None) -> SamplingRow:
    return SamplingRow(params, key=1, vocab_size=100, prompt=prompt or [], eos_ids={2})


def test_a_greedy_row_with_nothing_set_is_plain() -> None:
    assert row(SamplingParams()).plain
    assert row(SamplingParams(temperature=1e-9)).plain
    assert row(SamplingParams(logprobs=3, top_k=5, stop="x")).plain


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.5),
        SamplingParams(repetition_penalty=1.1),
        SamplingParams(presence_penalty=0.1),
        SamplingParams(frequency_penalty=-0.1),
        SamplingParams(logit_bias={3: 1.0}),
        SamplingParams(allowed_tokens=[3]),
    ],
)
def test_a_row_with_something_set_is_not(params: SamplingParams) -> None:
    assert not row(params).plain


def test_a_row_is_plain_once_it_may_end() -> None:
    short = row(SamplingParams(min_tokens=2, stop_tokens=[7, 500]))
    assert short.ends.tolist() == [2, 7]
    for _ in range(2):
        assert not short.plain
        short.accept(1)
    assert short.plain


@pytest.mark.parametrize(
    "params",
    [SamplingParams(logit_bias={100: 1.0}), SamplingParams(allowed_tokens=[1, 100])],
)
def test_a_token_outside_the_vocabulary_is_refused(params: SamplingParams) -> None:
    with pytest.raises(RequestError, match="token 100 is not in the vocabulary"):
        row(params)


def test_a_tally_counts_the_output_and_knows_the_prompt() -> None:
    tally = Tally([5, 3, 5])
    for token in [7, 5, *range(10, 60), 7, 7]:
        tally.add(token)
    counted = dict(zip(tally.ids.tolist(), tally.counts.tolist(), strict=True))
    assert counted == {5: 1, 3: 0, 7: 3} | dict.fromkeys(range(10, 60), 1)


def test_a_fork_has_the_past_and_its_own_future() -> None:
    first = row(SamplingParams(repetition_penalty=2.0), prompt=[1])
    first.accept(2)
    second = first.fork(key=9)
    first.accept(3)
    second.accept(4)
    assert (first.key, second.key) == (1, 9)
    assert (first.drawn, second.drawn) == (2, 2)
    assert first.tally.ids.tolist() == [1, 2, 3]
    assert second.tally.ids.tolist() == [1, 2, 4]
