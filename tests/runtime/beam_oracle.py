"""What `transformers.generate(num_beams=…)` finds, beside what a search here finds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine
from ramet.runtime.errors import GenerationError
from ramet.runtime.models import Model, load_model
from ramet.runtime.tokenizer import Piece
from ramet.runtime.values import GenInfo
from tests.runtime.beams import Scored, Tokens, plainly
from tests.runtime.conftest import all_back
from tests.runtime.models.tiny import saved, transformers_model

WITHIN = 1e-4  # scores, and how near to a tie a decision must be for either way to be right
# Some of the byte tokenizer's tokens, ASCII letters among them: texts stop at them soon enough.
STOPS = (3, 17, 44, 61, 72, 90, 111, 140, 170, 199, 222, 250)
ALPHABET = "abcdefghijklmnopqrstuvwxyz ,."


@ramet.program
def searched(s: ramet.State, prompt: str, settings: Any) -> None:
    s += prompt
    s += ramet.gen("best", **settings)


def by_ramet(
    engine: Engine, prompts: Sequence[str], params: SamplingParams, n: int, **fields: Any
) -> list[list[Scored]]:
    """The `n` best for each prompt, all of them together; without a score if it is no search. None
    where every text was cut before it was whole. `fields` are more of the gen's."""
    settings = params.to_dict() | {"n": n} | fields
    items = [{"prompt": prompt, "settings": settings} for prompt in prompts]
    found: list[list[Scored]] = []
    for done in engine.run_batch(searched, items):
        if isinstance(done, GenerationError) and "before it was a whole" in str(done):
            found.append([])
            continue
        assert not isinstance(done, Exception), done
        info: Any = done.info("best")
        samples: tuple[GenInfo, ...] = (info,) if n == 1 else info.samples
        found.append([Scored(each.tokens, each.score or 0.0) for each in samples])
    assert all_back(engine.core)
    return found


def by_transformers(
    module: Any,
    prompts: Sequence[Tokens],
    params: SamplingParams,
    eos: Sequence[int],
    **options: Any,
) -> list[list[Scored]]:
    """All hypotheses for each prompt; those of one length run together, so nothing is padded."""
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
            **options,
        )
        texts = out.sequences[:, length:].tolist()
        scored = [
            Scored(_until(text, eos), score)
            for text, score in zip(texts, _scores(out, len(texts)), strict=True)
        ]
        for place, index in enumerate(members):
            found[index] = scored[place * params.beams : (place + 1) * params.beams]
    return [found[index] for index in range(len(prompts))]


def _scores(out: Any, count: int) -> list[float]:
    """Without beams there is none."""
    scores = getattr(out, "sequences_scores", None)
    return [0.0] * count if scores is None else scores.tolist()


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

    def check(
        self,
        engine: Engine,
        prompts: Sequence[str],
        params: SamplingParams,
        wanted: Sequence[int] = (),
    ) -> None:
        """The `n` best, for each n that is `wanted`; all of them in any case.

        Raises:
            AssertionError: the hypotheses differ where no decision was all but a tie.
        """
        eos = [] if params.ignore_eos else sorted({*engine.core.eos, *params.stop_tokens})
        tokens = [tuple(encoded(engine, prompt)) for prompt in prompts]
        expected = by_transformers(self.module, tokens, params, eos)
        for n in sorted({*wanted, params.beams}):
            got = by_ramet(engine, prompts, params, n)
            for prompt, ours, theirs in zip(tokens, got, expected, strict=True):
                self.hypotheses += n
                self.ended += sum(len(each.tokens) < params.max_tokens for each in theirs[:n])
                self._compare(prompt, ours, theirs[:n], params, eos)
        assert self.worst < WITHIN
        print(self)

    def _compare(
        self,
        prompt: Tokens,
        ours: Sequence[Scored],
        theirs: Sequence[Scored],
        params: SamplingParams,
        eos: Sequence[int],
    ) -> None:
        if [each.tokens for each in ours] != [each.tokens for each in theirs]:
            margin = self.margin(prompt, params, eos)
            assert margin < WITHIN, (params, ours, theirs, margin)
            self.excused += 1
            return
        for one, other in zip(ours, theirs, strict=True):
            self.worst = max(self.worst, abs(one.score - other.score))

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
