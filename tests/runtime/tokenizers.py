"""Tokenizers of every kind that the runtime treats differently, and text to try them on."""

import json
import random
from functools import cache
from itertools import pairwise

from tokenizers import (
    AddedToken,
    Tokenizer as Backend,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from ramet.runtime.config import EngineConfig
from ramet.runtime.models.sources import find
from ramet.runtime.tokenizer import Tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Give me three tips about baking bread.",
    "user assistant system Question: what is 2 + 2? Answer: four.\nTip 1: knead the dough.",
    "Äpfel und Öl, żółw, naïve café, the the the and and and of of in in to to it it",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

EMOJI = (
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd "
    "e\u0301 n\u0303 한국어 ภาษาไทย မြန်မာ 漢字 \u200d \ufe0f \u0301 \ufffd"
)
RANGES = ((0x20, 0x7E), (0xA0, 0x2FF), (0x300, 0x36F), (0xE00, 0xE7F), (0x1000, 0x109F))
PLANES = ((0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0, 0xD7FF))


@cache
def smollm2() -> Tokenizer:
    return Tokenizer.load(find("smollm2-135m", EngineConfig().models))


@cache
def byte_level(chat_template: str | None = CHATML) -> Tokenizer:
    """Byte-level BPE as GPT-2 has it; `<tool>` is an added token, but no control token."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=control,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return wrap(backend, chat_template, eos_token="<|im_end|>")


@cache
def sentencepiece(habit: str, chat_template: str | None = None) -> Tokenizer:
    """BPE with byte fallback and U+2581 for a space.

    `habit`: where it puts a prefix space: "first" and "always" as a Metaspace does, "legacy" as
    the normalizer of Llama 2 does.
    """
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    split = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.pre_tokenizer = split
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    backend.train_from_iterator([text.replace("\n", " ") for text in CORPUS], trainer)
    spec = json.loads(backend.to_str())
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    names = ["<unk>", "<s>", "</s>", *bytes_, *spec["model"]["vocab"]]
    spec["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    backend = Backend.from_str(json.dumps(spec))
    if habit == "legacy":
        backend.pre_tokenizer = None
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(steps)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=habit, split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", names.index("<s>"))]
    )
    return wrap(backend, chat_template, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def wordpiece() -> Tokenizer:
    """A decoder without exact bytes."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=["[UNK]"], show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return wrap(backend, None, unk_token="[UNK]")


def wrap(backend: Backend, chat_template: str | None, **names: str) -> Tokenizer:
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    hf.chat_template = chat_template
    return Tokenizer(hf)


def token_id(tokenizer: Tokenizer, name: str) -> int:
    token = tokenizer.hf.backend_tokenizer.token_to_id(name)
    assert token is not None
    return token


def own_ids(tokenizer: Tokenizer, text: str, bos: bool = False) -> list[int]:
    """The ids that `transformers` gives."""
    return tokenizer.hf(text, add_special_tokens=bos)["input_ids"]


def random_text(rng: random.Random, length: int = 12) -> str:
    """Characters of every plane, joined emoji and combining marks, and words of the corpus."""
    parts = []
    for _ in range(rng.randrange(length)):
        match rng.randrange(6):
            case 0:
                parts.append(rng.choice(EMOJI.split(" ")))
            case 1:
                parts.append(" " * rng.randrange(1, 4))
            case 2:
                parts.append(rng.choice(rng.choice(CORPUS).split(" ")))
            case 3:
                parts.append(chr(rng.randint(*rng.choice(RANGES))))
            case _:
                parts.append(chr(rng.randint(*rng.choice(PLANES))))
    return "".join(parts)


def random_cuts(rng: random.Random, text: str) -> list[str]:
    """The text in pieces."""
    count = rng.randrange(4)
    edges = sorted(rng.randint(0, len(text)) for _ in range(count))
    return [text[a:b] for a, b in pairwise([0, *edges, len(text)])]
