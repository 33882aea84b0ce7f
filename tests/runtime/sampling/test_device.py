"""The draw with the kernels of a device: the tokens that a CPU draws, from one copy there and back.

Rounding differs in sums and in the noise, so one token in a million may, too.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedTokenizerFast

from ramet.params import SamplingParams
from ramet.runtime.grammar import GrammarCompiler
from ramet.runtime.sampling import Healing, Sampler, SamplingRow, Spellings
from ramet.runtime.sampling.device import sample
from ramet.runtime.sampling.packing import Asked
from ramet.runtime.tokenizer import Piece, Tokenizer
from ramet.types import Type
from tests.runtime.conftest import byte_backend
from tests.runtime.grammar.walks import walk
from tests.runtime.sampling.test_sampler import random_logits, random_row, row

VOCAB, EOS = 257, 256
BYTES = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_backend(), eos_token="<eos>"))

# The interpreter computes with numpy, which tells of rows without numbers.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|All-NaN):RuntimeWarning")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def grammars() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(BYTES, VOCAB, {EOS})
    yield made
    made.close()


def agree(
    logits: Tensor, rows: list[SamplingRow], positions: list[int], device: torch.device
) -> int:
    """How many rows draw another token than on a CPU. All else is equal."""
    expected = Sampler().sample(logits.clone(), rows, positions)
    found = sample(logits.to(device, copy=True), rows, positions)
    differ = 0
    for want, got in zip(expected, found, strict=True):
        assert str(want.error) == str(got.error)
        differ += want.token != got.token
        if want.token == got.token:
            assert (want.logprob is None) == (got.logprob is None)
            assert [token for token, _ in want.top] == [token for token, _ in got.top]
            close = [(want.logprob or 0.0, got.logprob or 0.0)]
            close += [(a, b) for (_, a), (_, b) in zip(want.top, got.top, strict=True)]
            assert all(a == b or abs(a - b) < 1e-5 for a, b in close)
    return differ


@pytest.mark.parametrize("batches", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_rows_draw_what_they_draw_on_a_cpu(batches: int, device: torch.device) -> None:
    seed = random.randrange(2**32)
    rng, differ = random.Random(seed), 0
    for _ in range(batches):
        size = rng.randrange(1, 9)
        logits, rows = random_logits(rng, size), [random_row(rng) for _ in range(size)]
        for i in range(size):
            if rng.random() < 0.05:
                logits[i, rng.randrange(logits.shape[1])] = rng.choice((math.nan, math.inf))
            if rng.random() < 0.05:
                logits[i] = -math.inf
        differ += agree(logits, rows, [rng.randrange(2000) for _ in rows], device)
    assert differ <= 1, f"seed {seed}"


@pytest.mark.parametrize("batches", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_rows_with_a_grammar_draw_what_they_draw_on_a_cpu(
    batches: int, grammars: GrammarCompiler, device: torch.device
) -> None:
    """First tries and second ones, texts that can end and that cannot, at any temperature."""
    seed = random.randrange(2**32)
    rng, differ = random.Random(seed), 0
    for _ in range(batches):
        rows = [random_grammar_row(rng, grammars) for _ in range(rng.randrange(1, 6))]
        logits = random_logits(rng, len(rows), VOCAB)
        differ += agree(logits, rows, [rng.randrange(500) for _ in rows], device)
    assert differ <= 1, f"seed {seed}"


def random_grammar_row(rng: random.Random, grammars: GrammarCompiler) -> SamplingRow:
    chosen: dict[str, Any] = {
        "temperature": rng.choice((0.5, 1.0, 2.0)),
        "top_p": rng.choice((0.3, 0.9)),
        "logit_bias": {rng.randrange(VOCAB): rng.uniform(-9, 9) for _ in range(4)},
        "allowed_tokens": sorted(rng.sample(range(VOCAB), 200)),
        "min_tokens": 9,
        "ignore_eos": True,
        "repetition_penalty": 1.4,
        "logprobs": 2,
    }
    params = SamplingParams(**{name: chosen[name] for name in chosen if rng.random() < 0.25})
    pattern = rng.choice(("[a-z]*", "[0-9]+", "a+", "[^b]{2,9}", "(ab|[xyz])+"))
    grammar = grammars.start(Type("regex", pattern))
    made = SamplingRow(
        params,
        key=rng.getrandbits(128),
        vocab_size=VOCAB,
        prompt=[rng.randrange(VOCAB)],
        eos_ids={EOS},
        grammar=grammar,
    )
    for token in walk(grammars.start(Type("regex", pattern)), rng, rng.randrange(4)):
        if token == EOS:
            break
        grammar.accept(token)
        made.accept(token)
    made.attempt = rng.randrange(2)
    return made


def test_what_strays_is_drawn_again_with_the_mask(
    grammars: GrammarCompiler, device: torch.device
) -> None:
    """As the loop of a step does it: the first try knows no mask, the second has other noise."""
    params = SamplingParams(temperature=1.0)
    grammar = grammars.start(Type("regex", "[ab]{3}"))
    tried = SamplingRow(params, key=5, vocab_size=VOCAB, eos_ids={EOS}, grammar=grammar)
    logits = torch.zeros(1, VOCAB)
    (first,) = sample(logits.to(device, copy=True), [tried], [3])
    assert tried.strays(first.token)
    (second,) = sample(logits.to(device, copy=True), [tried], [3])
    assert (second.error, tried.strays(second.token)) == (None, False)
    assert second.token in BYTES.encode([Piece("ab")], start=False)


def test_what_heals_a_text_is_drawn_alone(device: torch.device) -> None:
    spellings = Spellings(BYTES, VOCAB, {EOS})
    tokens = np.array([5, 99, 256])
    healing = Healing("ab", 1, b"ab", tokens, spellings)
    asked = (
        SamplingParams(),
        SamplingParams(temperature=1),
        SamplingParams(allowed_tokens=[99, 100]),
    )
    rows = [
        SamplingRow(params, key=i, vocab_size=VOCAB, healing=healing)
        for i, params in enumerate(asked)
    ]
    logits = random_logits(random.Random(6), 3, VOCAB)
    draws = sample(logits.to(device, copy=True), rows, [0] * 3)
    assert all(draw.token in tokens for draw in draws)
    assert draws[2].token == 99
    assert agree(logits, rows, [0] * 3, device) == 0


def test_draws_need_no_other_copy_and_no_other_wait(device: torch.device) -> None:
    """Nothing asks a tensor for its numbers before the end, where one is copied."""
    rng = random.Random(8)
    rows = [random_row(rng) for _ in range(6)]
    logits = random_logits(rng, 6).to(device)
    with Calls() as calls:
        sample(logits, rows, [0] * 6)
    assert not {"aten::_local_scalar_dense", "aten::nonzero", "aten::item"} & calls.names


class Calls(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.add(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


def test_the_logits_of_plain_rows_are_left_alone(device: torch.device) -> None:
    logits = torch.randn(4, VOCAB).to(device)
    before = logits.clone()
    rows = [SamplingRow(SamplingParams(logprobs=2), key=1, vocab_size=VOCAB)] * 4
    draws = sample(logits, rows, [0] * 4)
    assert torch.equal(logits, before)
    assert [draw.token for draw in draws] == before.argmax(-1).tolist()


def test_low_precision_logits_are_drawn_in_float32(device: torch.device) -> None:
    logits = random_logits(random.Random(45), 2).bfloat16()
    rows = [row(SamplingParams(temperature=1.0, logprobs=1), i) for i in range(2)]
    low = sample(logits.to(device), rows, [0, 0])
    assert low == sample(logits.float().to(device), rows, [0, 0])


def test_no_rows_have_no_draws(device: torch.device) -> None:
    assert sample(torch.empty(0, VOCAB, device=device), [], []) == []


def test_parts_of_one_buffer_are_what_was_packed(device: torch.device) -> None:
    rng = random.Random(9)
    rows = [random_row(rng) for _ in range(5)]
    asked = Asked.of(rows, range(5), 517)
    there = asked.on(device)
    for part in fields(asked):
        mine, theirs = getattr(asked, part.name), getattr(there, part.name)
        assert torch.equal(mine, theirs.cpu())
        assert (mine.dtype, theirs.data_ptr() % 16) == (theirs.dtype, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_sampler_draws_where_the_logits_are() -> None:
    rng = random.Random(10)
    rows = [random_row(rng) for _ in range(64)]
    logits = random_logits(rng, 64)
    there = Sampler().sample(logits.cuda(), rows, range(64))
    here = Sampler().sample(logits, rows, range(64))
    assert sum(a.token != b.token for a, b in zip(there, here, strict=True)) <= 1
