"""An engine on the GPU's kernels gives the greedy texts of an engine on the CPU's."""

import random

import pytest

from ramet.kernels.gpu.backend import GpuBackend
from ramet.kernels.gpu.runs import Tuning
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.models import load_model
from ramet.runtime.tokenizer import Tokenizer
from tests.kernels.gpu.worlds import PLAIN, SHARE_ALL, SPLIT_ALL
from tests.runtime.conftest import byte_tokenizer
from tests.runtime.greedy import Tokens, drain, submit
from tests.runtime.models.tiny import VOCAB, saved

__all__ = ["byte_tokenizer"]


def core_of(family: str, tokenizer: Tokenizer, tuning: Tuning | None) -> EngineCore:
    """On the GPU's kernels with this tuning; None: on the CPU's."""
    model = load_model(str(saved(family)), dtype="float32", cache=saved(family))[0]
    core = EngineCore(model, tokenizer, EngineConfig(num_blocks=64, block_size=4))
    if tuning is not None:
        core.runner.backend = GpuBackend(core.runner.backend.cache, tuning)
    return core


def texts(core: EngineCore, count: int) -> list[Tokens]:
    """Prompts with beginnings of two lengths in common, then forks of one that is half done."""
    rng = random.Random(7)
    beginning, more = rng.choices(range(VOCAB), k=9), rng.choices(range(VOCAB), k=5)
    trunk = core.open([*beginning, *more, 1])
    prompts = [[*beginning, *more, 2, 3], [*beginning, 4]]
    tasks = [submit(core, trunk, 2)]
    found = drain(core, tasks + [submit(core, core.open(each), count) for each in prompts])
    branches = [core.fork(trunk) for _ in range(2)]
    for branch, token in zip(branches, (8, 9), strict=True):
        branch.tokens.append(token)
    return found + drain(core, [submit(core, branch, count) for branch in branches])


def check(family: str, tokenizer: Tokenizer, tuning: Tuning, count: int) -> None:
    expected = texts(core_of(family, tokenizer, None), count)
    core = core_of(family, tokenizer, tuning)
    assert texts(core, count) == expected
    assert core.stats().cache.hits > 0


def test_greedy_texts(byte_tokenizer: Tokenizer) -> None:
    check("llama-mqa", byte_tokenizer, SHARE_ALL, 2)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [PLAIN, SHARE_ALL, SPLIT_ALL], ids=["plain", "shared", "split"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma2"])
def test_greedy_texts_of_families(family: str, tuning: Tuning, byte_tokenizer: Tokenizer) -> None:
    """Windows, soft caps, norms of heads."""
    check(family, byte_tokenizer, tuning, 12)
