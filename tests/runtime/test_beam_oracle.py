"""Beam search finds what `transformers.generate(num_beams=…)` finds: the same hypotheses in the
same order, scores within 1e-4."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, EngineConfig
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.runtime.values import GenInfo
from tests.runtime.beams import Scored, Tokens, plainly
from tests.runtime.conftest import all_back
from tests.runtime.models.tiny import saved, transformers_model

WITHIN = 1e-4  # scores, and how near to a tie a decision must be for either way to be right
# Some of the byte tokenizer's tokens, ASCII letters among them: texts stop at them soon enough.
STOPS = (3, 17, 44, 61, 72, 90, 111, 140, 170, 199, 222, 250)
ALPHABET = "abcdefghijklmnopqrstuvwxyz ,."


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tiny models' products are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@ramet.program
def searched(s: ramet.State, prompt: str, settings: Any) -> None:
    s += prompt
    s += ramet.gen("best", **settings)


def by_ramet(engine: Engine, prompts: Sequence[str], params: SamplingParams) -> list[list[Scored]]:
    """All prompts together."""
    settings = params.to_dict()
    settings["n"] = params.beams
    items = [{"prompt": prompt, "settings": settings} for prompt in prompts]
    found: list[list[Scored]] = []
    for done in engine.run_batch(searched, items):
        assert not isinstance(done, Exception), done
        infos: Any = done.info("best")
        samples: tuple[GenInfo, ...] = infos.samples
        found.append([Scored(each.tokens, each.score or 0.0) for each in samples])
    assert all_back(engine.core)
    return found


def by_transformers(
    module: Any, prompts: Sequence[Tokens], params: SamplingParams, eos: Sequence[int]
) -> list[list[Scored]]:
    """Prompts of one length run together, so nothing is padded."""
    lengths: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(index)
    found: dict[int, list[Scored]] = {}
    for length, members in lengths.items():
        batch = torch.tensor([prompts[index] for index in members])
        module.generation_config.eos_token_id = None
        out = module.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            do_sample=False,
            num_beams=params.beams,
            num_return_sequences=params.beams,
            max_new_tokens=params.max_tokens,
            min_new_tokens=params.min_tokens or None,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            repetition_penalty=params.repetition_penalty,
            eos_token_id=list(eos) or None,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        texts = out.sequences[:, length:].tolist()
        scored = [
            Scored(_until(text, eos), score)
            for text, score in zip(texts, out.sequences_scores.tolist(), strict=True)
        ]
        for place, index in enumerate(members):
            found[index] = scored[place * params.beams : (place + 1) * params.beams]
    return [found[index] for index in range(len(prompts))]


def _until(text: list[int], eos: Sequence[int]) -> Tokens:
    """Without what fills the row up behind its end."""
    at = next((at for at, token in enumerate(text) if token in eos), len(text))
    return tuple(text[: at + 1])


@dataclass
class Oracle:
    """Compares with a module, and counts what was excused."""

    module: Any = field(repr=False)
    excused: int = 0
    hypotheses: int = 0
    ended: int = 0  # before the limit
    worst: float = 0.0  # difference of scores

    def check(self, engine: Engine, prompts: Sequence[str], params: SamplingParams) -> None:
        """
        Raises:
            AssertionError: the hypotheses differ where no decision was all but a tie.
        """
        eos = [] if params.ignore_eos else sorted({*engine.core.eos, *params.stop_tokens})
        tokens = [tuple(encoded(engine, prompt)) for prompt in prompts]
        expected = by_transformers(self.module, tokens, params, eos)
        got = by_ramet(engine, prompts, params)
        for prompt, ours, theirs in zip(tokens, got, expected, strict=True):
            self.hypotheses += len(theirs)
            self.ended += sum(len(each.tokens) < params.max_tokens for each in theirs)
            if [each.tokens for each in ours] != [each.tokens for each in theirs]:
                margin = self.margin(prompt, params, eos)
                assert margin < WITHIN, (params, ours, theirs, margin)
                self.excused += 1
                continue
            for one, other in zip(ours, theirs, strict=True):
                self.worst = max(self.worst, abs(one.score - other.score))
        assert self.worst < WITHIN
        print(self)

    @torch.inference_mode()
    def margin(self, prompt: Tokens, params: SamplingParams, eos: Sequence[int]) -> float:
        """How near to a tie the module's own search comes."""
        assert params.repetition_penalty == 1, "a penalised search is not worked out here"

        @cache
        def logprobs(tokens: Tokens) -> list[float]:
            found = self.module(torch.tensor([prompt + tokens])).logits[0, -1].log_softmax(-1)
            if len(tokens) < params.min_tokens:
                found[list(eos)] = -torch.inf
            return found.tolist()

        return plainly(logprobs, lambda t: t[-1] in eos, params, params.max_tokens).margin


def encoded(engine: Engine, text: str) -> list[int]:
    return engine.tokenizer.encode([Piece(text, control=False)], start=True)


def random_prompts(count: int, lengths: Sequence[int] = (1, 17)) -> list[str]:
    """Half of them begin alike."""
    rng = random.Random(3)
    stem = "".join(rng.choices(ALPHABET, k=32))
    prompts: list[str] = []
    for index in range(count):
        length = lengths[index % len(lengths)]
        alike = min(length - 1, len(stem)) if index % 4 > 1 else 0
        prompts.append(stem[:alike] + "".join(rng.choices(ALPHABET, k=length - alike)))
    return prompts


@cache
def tiny(family: str) -> tuple[Model, Any]:
    model = load_model(str(saved(family)), dtype="float32", cache=saved(family))[0]
    return model, transformers_model(saved(family))


def settings(**fields: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 14, "stop_tokens": STOPS} | fields)


def named(params: object) -> str | None:
    """A test's name."""
    if not isinstance(params, SamplingParams):
        return None
    fields = params.to_dict() | {"stop_tokens": len(params.stop_tokens)}
    return ",".join(f"{name}={value}" for name, value in fields.items())


EVERYDAY = [
    settings(beams=2, stop_tokens=()),
    settings(beams=2, stop_tokens=STOPS[:1], early_stopping="never"),
    settings(beams=4),
    settings(beams=4, length_penalty=0.0),
    settings(beams=4, length_penalty=2.0, early_stopping="never"),
    settings(beams=4, length_penalty=0.5, early_stopping=True),
    settings(beams=4, length_penalty=-0.5, min_tokens=6),
    settings(beams=4, length_penalty=2.0, ignore_eos=True, stop_tokens=()),
    settings(beams=4, repetition_penalty=1.3),
    settings(beams=8, length_penalty=0.0, early_stopping="never"),
    settings(beams=8, stop_tokens=STOPS[:3]),
]


@pytest.mark.parametrize("params", EVERYDAY, ids=named)
def test_a_tiny_model(
    params: SamplingParams,
    byte_tokenizer: Tokenizer,
    record_property: Callable[[str, object], None],
) -> None:
    model, module = tiny("llama")
    oracle = Oracle(module)
    oracle.check(
        Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000)), random_prompts(20), params
    )
    record_property("excused", oracle.excused)
    assert oracle.excused <= 1


@pytest.mark.parametrize("family", ["mistral", "qwen3", "gpt2"])
def test_other_families(family: str, byte_tokenizer: Tokenizer) -> None:
    model, module = tiny(family)
    engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000))
    Oracle(module).check(engine, random_prompts(6, (17,)), settings(beams=4))


@pytest.mark.parametrize(
    ("config", "least"),
    [
        ({"block_size": 1, "num_blocks": 400}, 10),  # a search takes up to 95
        ({"block_size": 4, "num_blocks": 60}, 10),  # up to 30
        ({"block_size": 4, "num_blocks": 40, "max_sequences": 3}, 0),  # one after the other
        ({"block_size": 32, "prefill_chunk": 5}, 0),
        ({"block_size": 8, "step_tokens": 7}, 0),
        ({"block_size": 8, "sharing": False}, 0),
    ],
    ids=str,
)
def test_whatever_the_blocks_and_the_steps(
    config: Any, least: int, byte_tokenizer: Tokenizer
) -> None:
    """`least` preemptions."""
    model, module = tiny("llama")
    engine = Engine.of(model, byte_tokenizer, EngineConfig(**{"num_blocks": 2_000} | config))
    prompts = random_prompts(8, (17,)) + random_prompts(8, (38,))
    Oracle(module).check(engine, prompts, settings(beams=4, early_stopping="never"))
    assert engine.stats().preemptions >= least


PRODUCT = [
    settings(beams=beams, length_penalty=penalty, early_stopping=early, **ends)
    for beams, penalty, early, ends in itertools.product(
        (2, 4, 8),
        (0.0, 0.5, 1.0, 2.0),
        (False, True, "never"),
        ({"stop_tokens": (), "ignore_eos": True}, {}, {"min_tokens": 5}),
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("params", PRODUCT, ids=named)
def test_the_full_product(params: SamplingParams, byte_tokenizer: Tokenizer) -> None:
    """200 prompts of five lengths around the edges of blocks."""
    model, module = tiny("llama")
    oracle = Oracle(module)
    engine = Engine.of(model, byte_tokenizer, EngineConfig(num_blocks=2_000))
    oracle.check(engine, random_prompts(200, (1, 15, 16, 17, 40)), params)
    assert oracle.excused <= 2


@pytest.mark.parametrize(("beams", "penalty"), [(4, 1.0), (8, 0.0)])
def test_smollm2(beams: int, penalty: float, smollm2: tuple[Any, Path]) -> None:
    """With a penalty of 0 short texts win, and some end by themselves."""
    model, folder = smollm2
    oracle = Oracle(AutoModelForCausalLM.from_pretrained(folder).eval())
    tokenizer = Tokenizer.load(folder, eos_ids=model.shape.eos)
    engine = Engine.of(model, tokenizer, EngineConfig(num_blocks=200))
    params = SamplingParams(beams=beams, max_tokens=10, length_penalty=penalty)
    oracle.check(engine, ["The capital of France is"], params)
    assert (oracle.ended > 0) == (penalty == 0)
