"""The engine on a GPU with random weights in the shape of a model, alone and beside transformers.

Part of `gpu.py`. A token is a word, `w0` to the last of the vocabulary, so a text of n words is n
tokens on both sides, and any token that a random model draws has a text.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tokenizers import Tokenizer as Backend, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

import ramet
from ramet.params import SamplingParams
from ramet.runtime import Engine, EngineConfig, Finished
from ramet.runtime.models import Model, ModelShape
from ramet.runtime.models.config import DecoderConfig
from ramet.runtime.models.linear import LinearMaker
from ramet.runtime.models.llama import LlamaDecoder
from ramet.runtime.tokenizer import Tokenizer

LLAMA_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}

SEARCH = ramet.loads("""
program search(prompt: str, width: int, tokens: int):
    "{prompt}"
    gen best(beams=width, n=width, max_tokens=tokens, ignore_eos=true)
""")

ASK = ramet.loads("""
program ask(context: str, questions: list):
    "{context}"
    fork each in questions as asked:
        " {each.question}"
        select answer from each.options
    return asked.answer
""")


@dataclass(frozen=True, slots=True)
class Both:
    """The same weights on both sides."""

    engine: Engine
    hf: Any
    draw: random.Random

    def words(self, count: int) -> str:
        vocab = self.engine.core.model.shape.vocab
        return " ".join(f"w{self.draw.randrange(vocab)}" for _ in range(count))

    def empty(self) -> Engine:
        """The engine, with nothing cached."""
        self.engine.core.pool.clear()
        return self.engine

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """`[texts, tokens]`, all of one length."""
        rows = [[int(word[1:]) for word in text.split()] for text in texts]
        return torch.tensor(rows, device=self.hf.device)

    def generate(self, texts: Sequence[str], tokens: int, **settings: Any) -> None:
        ids = self.ids(texts)
        self.hf.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            **settings,
        )
        synchronize(self.hf.device)


def both(
    numbers: dict[str, Any],
    dtype: torch.dtype,
    device: torch.device,
    make: LinearMaker,
    **settings: Any,
) -> Both:
    """A random model on both sides; `settings` are the engine's."""
    config = LlamaConfig(**numbers)
    with torch.device(device):
        hf: Any = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    hf.generation_config.pad_token_id = 0
    decoder = DecoderConfig.from_dict(config.to_dict())
    shape = ModelShape(
        layers=decoder.layers,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        vocab=decoder.vocab,
        context=decoder.context,
        eos=frozenset(),
        dtype=dtype,
        name="random",
        device=device,
    )
    model: Model = LlamaDecoder(decoder, shape, hf.state_dict().get, make)
    engine = Engine.of(
        model, word_tokenizer(decoder.vocab), EngineConfig(device=device.type, **settings)
    )
    return Both(engine, hf, random.Random(0))


def word_tokenizer(vocab: int) -> Tokenizer:
    backend = Backend(models.WordLevel({f"w{at}": at for at in range(vocab)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


# -- decoding, against the bytes that a step has to read


def decode_steps(side: Both, sequences: int, prompt: int, tokens: int) -> tuple[float, int]:
    """Of steps that decode one token of each sequence, the median of their seconds, and of the
    tokens in all contexts together. The first quarter, in which kernels are compiled and graphs
    captured, is left out.
    """
    core = side.empty().core
    params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    tasks = [
        core.generate(
            core.open(side.ids([side.words(prompt)])[0].tolist()),
            params,
            key=0,
            on_done=lambda task: None,
        )
        for _ in range(sequences)
    ]
    steps: list[tuple[float, int]] = []
    while core.busy:
        decodes = all(task.drawn and not task.done for task in tasks)
        contexts = sum(len(task.sequence.tokens) for task in tasks)
        started = perf_counter()
        core.step()
        if decodes:
            steps.append((perf_counter() - started, contexts))
    for task in tasks:
        if task.error is not None:
            raise task.error
        core.close(task.sequence)
    times, contexts = zip(*steps[len(steps) // 4 :], strict=True)
    return median(times), round(median(contexts))


def step_bytes(shape: ModelShape, numbers: dict[str, Any], context: int) -> int:
    """What such a step reads at least: all weights but the embedding's, all keys and values of
    so many tokens of context."""
    hidden, wide = numbers["hidden_size"], numbers["intermediate_size"]
    queries = numbers["num_attention_heads"] * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    layer = hidden * (queries + 2 * keys) + queries * hidden + 3 * hidden * wide + 2 * hidden
    weights = shape.layers * layer + shape.vocab * hidden + hidden
    cached = context * shape.layers * 2 * keys
    return (weights + cached) * shape.dtype.itemsize


# -- beside transformers: each gives what either side does


def beams(side: Both, *, prompts: int, prompt: int, width: int, tokens: int) -> tuple[Any, Any]:
    texts = [side.words(prompt) for _ in range(prompts)]
    items = [{"prompt": text, "width": width, "tokens": tokens} for text in texts]
    return (
        lambda: [finished(each) for each in side.empty().run_batch(SEARCH, items)],
        lambda: side.generate(
            texts, tokens, do_sample=False, num_beams=width, num_return_sequences=width
        ),
    )


def few_shot(side: Both, *, ways: int, shared: int, own: int, tokens: int) -> tuple[Any, Any]:
    begin = side.words(shared)
    texts = [f"{begin} {side.words(own)}" for _ in range(ways)]
    fields = {"max_tokens": tokens, "temperature": 0.0, "ignore_eos": True}
    return (
        lambda: [finished(each) for each in side.empty().generate(texts, **fields)],
        lambda: side.generate(texts, tokens, do_sample=False),
    )


def select(
    side: Both, *, context: int, questions: int, options: int, measured: int
) -> tuple[Any, Any]:
    """transformers runs context, question and option anew, for `measured` of the options."""
    begin = side.words(context)
    asked = [
        {"question": side.words(8), "options": [f" {side.words(4)}" for _ in range(options)]}
        for _ in range(questions)
    ]
    pairs = [(each["question"], option) for each in asked for option in each["options"]]

    @torch.inference_mode()
    def theirs() -> None:
        for question, option in pairs[:measured]:
            ids = side.ids([f"{begin} {question}{option}"])
            logits = side.hf(ids, use_cache=False, logits_to_keep=5).logits
            logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, -4:, None]).mean().item()

    return lambda: finished(side.empty().run(ASK, context=begin, questions=asked)), theirs


def finished(outcome: Finished | Exception) -> Finished:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
