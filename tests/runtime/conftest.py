"""Models and tokenizers small enough for milliseconds, and the embedded one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ramet.kernels.reference import seen
from ramet.runtime.config import EngineConfig
from ramet.runtime.core import EngineCore
from ramet.runtime.engine import Engine
from ramet.runtime.models import ModelShape, PagedAttention, load_model
from ramet.runtime.tokenizer import Piece, Tokenizer

TOY_VOCAB = 257  # every byte, and an end of text
TOY_EOS = 256


class ToyModel:
    """Its next token is a hash of the (token, position) pairs read back through the block table.

    Keys hold a token's id, values its position. A wrong block, order or stale slot changes the
    text; nothing else does.
    """

    def __init__(self, context: int = 4096, eos: frozenset[int] = frozenset()) -> None:
        self.shape = ModelShape(
            layers=1,
            kv_heads=1,
            head_dim=1,
            vocab=TOY_VOCAB,
            context=context,
            eos=eos,
            dtype=torch.float32,
            name="toy",
        )
        self.fail_at: set[int] = set()  # forwards that raise, counted from 0
        self.forwards = 0
        self.tokens_run = 0

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: PagedAttention, rows: Tensor
    ) -> Tensor:
        self.forwards += 1
        if self.forwards - 1 in self.fail_at:
            raise RuntimeError("the device caught fire")
        self.tokens_run += len(tokens)
        backend, plan = attention.backend, attention.plan
        backend.write(plan, 0, tokens.float().view(-1, 1, 1), positions.float().view(-1, 1, 1))
        wanted = set(rows.tolist())
        step = plan.step
        starts = step.query_starts.tolist()
        size = backend.cache.layout.block_size
        logits = []
        for index, context in enumerate(step.contexts.tolist()):
            table = step.block_tables[index].tolist()
            slots = [table[at // size] * size + at % size for at in range(context)]
            assert min(slots) >= 0, "an unused table entry was read"
            keys = backend.cache.data[0, 0, 0, slots, 0].int().tolist()
            places = backend.cache.data[0, 1, 0, slots, 0].int().tolist()
            for row in range(starts[index], starts[index + 1]):
                if row in wanted:
                    tree = next((tree for tree in step.trees if tree.sequence == index), None)
                    path = seen(context, starts[index + 1] - row, tree=tree)
                    logits.append(toy_logits([(keys[at], places[at]) for at in path]))
        return torch.stack(logits) if logits else torch.empty(0, TOY_VOCAB)


def toy_logits(pairs: list[tuple[int, int]]) -> Tensor:
    """Logits `[vocab]` after these pairs: far apart, so that nothing is ever a tie."""
    generator = torch.Generator().manual_seed(hash(tuple(pairs)) & 0xFFFFFFFF)
    return torch.randperm(TOY_VOCAB, generator=generator).float() * 0.1


def random_logits(pairs: list[tuple[int, int]]) -> Tensor:
    """In place of `toy_logits`: as far from each other in sums as they are alone."""
    generator = torch.Generator().manual_seed(hash(tuple(pairs)) & 0xFFFFFFFF)
    return 2 * torch.randn(TOY_VOCAB, generator=generator)


def toy_text(tokens: list[int], count: int) -> list[int]:
    """What the toy model goes on with greedily, worked out without any cache."""
    known = list(tokens)
    for _ in range(count):
        known.append(int(toy_logits([(t, i) for i, t in enumerate(known)]).argmax()))
    return known[len(tokens) :]


def byte_backend(extra: tuple[str, ...] = ()) -> Backend:
    """A tokenizer without merges: token i is byte i of the ByteLevel alphabet's order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    backend = Backend(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<eos>", *extra])
    return backend


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    hf = PreTrainedTokenizerFast(tokenizer_object=byte_backend(), eos_token="<eos>")
    return Tokenizer(hf)


ToyCore = Callable[..., EngineCore]


@pytest.fixture
def toy_core(byte_tokenizer: Tokenizer) -> ToyCore:
    """An engine core on the toy model: `toy_core(num_blocks=…, block_size=…, …)`."""

    def make(context: int = 4096, **settings: object) -> EngineCore:
        settings.setdefault("num_blocks", 256)
        config = EngineConfig(**settings)  # type: ignore[arg-type]
        return EngineCore(ToyModel(context), byte_tokenizer, config)

    return make


@pytest.fixture(scope="session")
def models_cache() -> Path:
    return EngineConfig().models


@pytest.fixture(scope="session")
def smollm2(models_cache: Path) -> tuple[object, Path]:
    """The embedded model, and the directory transformers can load it from."""
    return load_model("smollm2-135m", dtype="float32", cache=models_cache)


ToyEngine = Callable[..., Engine]


@pytest.fixture
def toy_engine(byte_tokenizer: Tokenizer) -> ToyEngine:
    """An engine on the toy model: `toy_engine(num_blocks=…, context=…, …)`."""

    def make(context: int = 4096, **settings: object) -> Engine:
        settings.setdefault("num_blocks", 256)
        config = EngineConfig(**settings)  # type: ignore[arg-type]
        return Engine.of(ToyModel(context), byte_tokenizer, config)

    return make


def drive(core: EngineCore, steps: int = 5_000) -> int:
    """Step until nothing is left to do, with an audit after each; how many steps that took."""
    for taken in range(steps):
        if not core.busy:
            return taken
        core.step()
        core.audit()
    raise AssertionError(f"still busy after {steps} steps: {core.stats()}")


def all_back(core: EngineCore) -> bool:
    """Whether nothing is held any more: no block, no sequence, no task."""
    core.audit()
    stats = core.stats()
    return (stats.cache.held, stats.sequences, stats.waiting, stats.running) == (0, 0, 0, 0)


def toy_model(core: EngineCore) -> ToyModel:
    assert isinstance(core.model, ToyModel)
    return core.model


def toy_words(tokenizer: Tokenizer, prompt: str, count: int) -> str:
    """The text that the toy model goes on with greedily, worked out without any cache."""
    return tokenizer.decode(toy_text(tokenizer.encode([Piece(prompt)], start=True), count))


@pytest.fixture
def no_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two sums of the toy model's logits are near each other either."""
    monkeypatch.setitem(globals(), "toy_logits", random_logits)
