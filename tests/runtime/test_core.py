"""Generations and scores on the engine core: what they give, and what a sequence is afterwards."""

import itertools
import random
from typing import Any

import pytest
import torch

from ramet.params import SamplingParams
from ramet.runtime.core import EngineCore
from ramet.runtime.sampling import sample_key
from ramet.runtime.sequence import Generation, Task, Usage
from tests.runtime.conftest import (
    TOY_EOS,
    TOY_VOCAB,
    ToyCore,
    all_back,
    drive,
    toy_logits,
    toy_model,
    toy_text,
)

PROMPT = [7, 8, 9, 10, 11]


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def start(core: EngineCore, prompt: list[int], key: int = 0, **sampling: Any) -> Generation:
    sampling.setdefault("ignore_eos", True)
    params = SamplingParams(**sampling)
    return core.generate(core.open(prompt), params, key=key, on_done=ignored)


def logits_after(tokens: list[int]) -> torch.Tensor:
    return toy_logits([(token, place) for place, token in enumerate(tokens)])


SETTINGS = [
    {},
    {"sharing": False},
    {"block_size": 1},
    {"block_size": 8, "num_blocks": 12},
    {"block_size": 8, "num_blocks": 12, "prefill_chunk": 5},
    {"block_size": 32, "num_blocks": 8, "max_sequences": 3},
    {"step_tokens": 7},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_text_does_not_depend_on_the_settings(
    toy_core: ToyCore, settings: dict[str, int]
) -> None:
    rng = random.Random(1)
    stem = [rng.randrange(256) for _ in range(20)]
    prompts = [
        [*(stem if index % 2 else []), *(rng.randrange(256) for _ in range(1 + index))]
        for index in range(10)
    ]
    core = toy_core(**settings)

    tasks = [start(core, prompt, max_tokens=12) for prompt in prompts]
    drive(core)

    assert [task.drawn for task in tasks] == [toy_text(prompt, 12) for prompt in prompts]
    for task in tasks:
        core.close(task.sequence)
    assert all_back(core)


def test_a_sequence_goes_on_after_a_generation(toy_core: ToyCore) -> None:
    core = toy_core()
    first = start(core, PROMPT, max_tokens=5)
    drive(core)
    sequence = first.sequence
    assert sequence.tokens == PROMPT + first.drawn
    assert sequence.idle

    sequence.tokens += [1, 2]
    second = core.generate(
        sequence, SamplingParams(max_tokens=4, ignore_eos=True), key=0, on_done=ignored
    )
    drive(core)

    assert second.drawn == toy_text([*PROMPT, *first.drawn, 1, 2], 4)
    # The last token of a generation is drawn and never run: with the two new ones that makes 3.
    assert second.usage == Usage(prompt_computed=3, prompt_reused=9, generated=4)


def test_the_model_ends_its_text_itself(toy_core: ToyCore) -> None:
    """The end is drawn, but belongs neither to the text nor to the sequence."""
    core = toy_core(block_size=2)
    prompt = next(
        [seed, 1] for seed in itertools.count() if TOY_EOS in toy_text([seed, 1], 60)[3:50]
    )
    wanted = toy_text(prompt, 60)
    end = wanted.index(TOY_EOS)

    task = start(core, prompt, max_tokens=60, ignore_eos=False)
    through = start(core, prompt, max_tokens=60, ignore_eos=True)
    drive(core)

    assert task.drawn == wanted[: end + 1]
    assert task.sequence.tokens == prompt + wanted[:end]
    assert (task.finish_reason, through.finish_reason) == ("eos", "length")
    assert through.drawn == wanted
    again = core.generate(
        task.sequence, SamplingParams(max_tokens=1, ignore_eos=True), key=0, on_done=ignored
    )
    drive(core)
    assert again.drawn == [TOY_EOS]


def test_no_end_before_min_tokens(toy_core: ToyCore) -> None:
    core = toy_core()
    prompt = next([seed] for seed in range(256) if TOY_EOS in toy_text([seed], 10))
    at = toy_text(prompt, 10).index(TOY_EOS)

    task = start(core, prompt, max_tokens=at + 30, min_tokens=at + 5, ignore_eos=False)
    drive(core)

    assert len(task.sequence.tokens) - 1 >= at + 5
    assert TOY_EOS not in task.sequence.tokens
    tokens = list(prompt)
    for token in task.drawn[: at + 5]:
        logits = logits_after(tokens)
        logits[TOY_EOS] = -torch.inf
        assert token == int(logits.argmax())
        tokens.append(token)


@pytest.mark.parametrize("least", [0, 3])
def test_a_stop_token_ends_after_min_tokens(toy_core: ToyCore, least: int) -> None:
    wanted = toy_text(PROMPT, 6)
    core = toy_core()

    task = start(core, PROMPT, max_tokens=20, min_tokens=least, stop_tokens=[wanted[5]])
    drive(core)

    assert task.finish_reason == "stop"
    assert task.drawn == wanted
    assert task.sequence.tokens == PROMPT + wanted[:5]


def test_max_tokens_of_one(toy_core: ToyCore) -> None:
    core = toy_core()
    task = start(core, PROMPT, max_tokens=1)
    drive(core)
    assert (task.drawn, task.finish_reason) == (toy_text(PROMPT, 1), "length")


@pytest.mark.parametrize("left", [1, 2, 9])
def test_the_end_of_the_context_is_an_end_by_length(toy_core: ToyCore, left: int) -> None:
    core = toy_core(context=24)
    prompt = list(range(24 - left))

    task = start(core, prompt, max_tokens=50)
    drive(core)

    assert (task.drawn, task.finish_reason) == (toy_text(prompt, left), "length")
    assert len(task.sequence.tokens) == 24


def test_max_context_is_lower_than_the_models_own(toy_core: ToyCore) -> None:
    core = toy_core(context=100, max_context=10)
    task = start(core, PROMPT, max_tokens=50)
    drive(core)
    assert len(task.drawn) == 5


def test_log_probabilities_are_the_models_own(toy_core: ToyCore) -> None:
    """Of the logits before any bias."""
    core = toy_core()
    task = start(core, PROMPT, max_tokens=4, logprobs=3, logit_bias={5: 100.0})
    drive(core)

    assert task.drawn == [5, 5, 5, 5]
    for at, draw in enumerate(task.draws):
        expected = logits_after(PROMPT + [5] * at).log_softmax(-1)
        best = expected.topk(3)
        assert draw.logprob == pytest.approx(float(expected[5]))
        assert [token for token, _ in draw.top] == best.indices.tolist()
        assert [value for _, value in draw.top] == pytest.approx(best.values.tolist())


def test_scores_are_the_models_own(toy_core: ToyCore) -> None:
    core = toy_core(prefill_chunk=3)
    tokens = [*PROMPT, 1, 2, 3, 4]

    scores = [core.score(core.open(tokens), start, on_done=ignored) for start in (1, 5, 8, 9)]
    drive(core)

    wanted = [
        float(logits_after(tokens[:at]).log_softmax(-1)[tokens[at]]) for at in range(1, len(tokens))
    ]
    for score, start in zip(scores, (1, 5, 8, 9), strict=True):
        assert score.logprobs == pytest.approx(wanted[start - 1 :])


def test_a_token_that_is_only_predicted_is_not_run(toy_core: ToyCore) -> None:
    core = toy_core()
    core.score(core.open(PROMPT), 2, on_done=ignored)
    drive(core)
    assert toy_model(core).tokens_run == len(PROMPT) - 1


def test_usage_adds_up(toy_core: ToyCore) -> None:
    core = toy_core()
    tasks = [start(core, [*PROMPT * 8, index], max_tokens=6) for index in range(6)]
    drive(core)

    for task in tasks:
        usage = task.usage
        assert usage.prompt_computed + usage.prompt_reused == task.prompt == 41
        assert usage.generated == len(task.drawn) == 6
    computed = sum(task.usage.prompt_computed for task in tasks)
    assert toy_model(core).tokens_run == core.stats().tokens == computed + 6 * 5
    total = Usage()
    for task in tasks:
        total.add(task.usage)
    assert total.copied_blocks == core.stats().cache.copies
    assert total.generated == 36


SAMPLED: dict[str, Any] = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 12}


def alone(toy_core: ToyCore, key: int) -> list[int]:
    core = toy_core()
    task = start(core, PROMPT, key, **SAMPLED)
    drive(core)
    return task.drawn


def test_the_same_key_draws_the_same_in_any_company(toy_core: ToyCore) -> None:
    key = sample_key(5, "/:2", 0)
    wanted = alone(toy_core, key)

    crowd = toy_core()
    others = [start(crowd, [index], index, **SAMPLED) for index in range(5)]
    task = start(crowd, PROMPT, key, **SAMPLED)
    more = [start(crowd, [99, index], index, **SAMPLED) for index in range(5)]
    drive(crowd)

    assert task.drawn == wanted
    assert all(other.error is None for other in (*others, *more))


def test_the_same_key_draws_the_same_after_a_preemption(toy_core: ToyCore) -> None:
    key = sample_key(5, "/:2", 0)
    wanted = alone(toy_core, key)

    core = toy_core(num_blocks=6, block_size=4)
    start(core, [1, 2, 3], max_tokens=14)
    task = start(core, PROMPT, key, **SAMPLED)
    drive(core)

    assert task.usage.preemptions > 0
    assert task.drawn == wanted


def test_another_key_draws_something_else(toy_core: ToyCore) -> None:
    drawn = [tuple(alone(toy_core, sample_key(5, "/:2", branch))) for branch in range(6)]
    other_place = alone(toy_core, sample_key(5, "/:3", 0))
    assert len({*drawn, tuple(other_place)}) == 7


def test_penalties_count_what_was_drawn_before_a_preemption(toy_core: ToyCore) -> None:
    penalised: dict[str, Any] = {"max_tokens": 12, "frequency_penalty": 2.0, "top_k": 3}
    plain = toy_core()
    wanted = start(plain, PROMPT, **penalised)
    drive(plain)

    core = toy_core(num_blocks=6, block_size=4)
    start(core, [1, 2, 3], max_tokens=14)
    task = start(core, PROMPT, **penalised)
    drive(core)

    assert task.usage.preemptions > 0
    assert task.drawn == wanted.drawn


def test_closing_twice_is_fine(toy_core: ToyCore) -> None:
    core = toy_core()
    task = start(core, PROMPT, max_tokens=2)
    drive(core)
    core.close(task.sequence)
    core.close(task.sequence)
    assert all_back(core)


def test_an_empty_core_is_not_busy(toy_core: ToyCore) -> None:
    core = toy_core()
    assert not core.busy
    core.step()
    stats = core.stats()
    assert (stats.steps, stats.tokens, stats.sequences) == (0, 0, 0)
    assert stats.cache.free == 256


def test_whoever_is_told_may_ask_for_more(toy_core: ToyCore) -> None:
    """`on_done` comes when the bookkeeping is done."""
    core = toy_core()
    told: list[list[int]] = []

    def on_done(task: Task) -> None:
        assert isinstance(task, Generation)
        core.audit()
        told.append(task.drawn)
        if len(told) < 4:
            core.generate(
                task.sequence, SamplingParams(max_tokens=2, ignore_eos=True), key=0, on_done=on_done
            )
        else:
            core.close(task.sequence)

    core.generate(
        core.open(PROMPT), SamplingParams(max_tokens=2, ignore_eos=True), key=0, on_done=on_done
    )
    drive(core)

    assert [token for drawn in told for token in drawn] == toy_text(PROMPT, 8)
    assert all_back(core)


def test_the_toy_models_vocabulary_is_all_there(toy_core: ToyCore) -> None:
    """Token 256 is the end of text; 255 is the last byte."""
    core = toy_core()
    task = start(core, [0, 255, TOY_VOCAB - 1], max_tokens=1)
    drive(core)
    assert task.drawn == toy_text([0, 255, TOY_EOS], 1)
