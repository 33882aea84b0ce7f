"""Text to token ids and back, around a fast `transformers` tokenizer.

Knows which text may become a control token: what a template wrote, never what a person wrote
(CVE-2026-44222). Knows no roles and no messages; `chat.py` writes the templates' text.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from tokenizers import Encoding, Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from ramet.runtime.cuts import Cuts
from ramet.runtime.errors import ModelError, PromptError

# Runs longer than this are encoded anew each time: the cache holds at most 8 MiB of text.
_CACHED_CHARACTERS = 2048
_CACHED_RUNS = 4096
# Unicode White_Space, which is what `tokenizers` strips beside a token; str.strip() takes more.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a prompt. Only where `control` is set may it spell control tokens."""

    text: str
    control: bool = False


class Place(Enum):
    """What a run of plain text stands after, which decides about a prefix space."""

    START = auto()  # nothing: the start of a context
    CONTROL = auto()  # a control token
    INSIDE = auto()  # tokens of the same text


@dataclass(frozen=True, slots=True)
class Run:
    """Plain text between two control tokens, to be encoded as one."""

    text: str
    place: Place


class Tokenizer:
    """Encodes prompts piece by piece, decodes ids, and knows each token's bytes.

    `hf` is the tokenizer as `transformers` loaded it. It is never changed: the runs are encoded
    by copies that take no control tokens from text. Control tokens are the tokens that the
    tokenizer marks as special, and `eos_ids`; other added tokens are ordinary vocabulary.
    """

    def __init__(self, hf: PreTrainedTokenizerFast, eos_ids: Iterable[int] = ()) -> None:
        if not getattr(hf, "is_fast", False):
            raise ModelError(f"{type(hf).__name__} is no fast tokenizer; it needs a tokenizer.json")
        self.hf = hf
        own = {hf.eos_token_id} if isinstance(hf.eos_token_id, int) else set[int]()
        self.eos_ids = frozenset(own | set(eos_ids))
        self._added = dict(hf.added_tokens_decoder)
        self._backend: Backend = hf.backend_tokenizer
        self.vocab_size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self._control = self._find_control()
        self.control_ids = frozenset(self._control.values())
        self._spelled = _any_of(self._control)
        spec = json.loads(self._backend.to_str())
        self._backends = _copies(spec, set(self._control))
        self._bos = _leading_ids(self._backend)
        self._bytes_of, self.strips_first_space = _codec(spec["decoder"])
        self._bytes: dict[int, bytes] = {}
        self._cuts = Cuts(self._backends[Place.START])
        self._cached_run = lru_cache(_CACHED_RUNS)(self._encode_run)

    @classmethod
    def load(cls, directory: str | Path, eos_ids: Iterable[int] = ()) -> Self:
        """The tokenizer in a local directory; nothing is downloaded and no code of it is run.

        Raises `ModelError` when there is none, or none that is fast.
        """
        try:
            hf = _kind(Path(directory)).from_pretrained(str(directory), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"no tokenizer can be read from {directory}: {error}") from error
        return cls(hf, eos_ids)

    @property
    def exact_bytes(self) -> bool:
        """Whether the text of ids is the UTF-8 reading of their joined `token_bytes`."""
        return self._bytes_of is not None

    def encode(self, pieces: Iterable[Piece], *, start: bool) -> list[int]:
        """The ids of the pieces' text, encoded together.

        `start`: the text opens a context. Then BOS comes first if this tokenizer adds one by
        itself, unless a template opens it: a template writes its own. Otherwise the text goes on
        after other tokens and gets no prefix space. Where no plain piece spells a control token,
        the ids are the tokenizer's own for the whole text.

        Raises `PromptError` for text that is not valid Unicode.
        """
        pieces = [piece for piece in pieces if piece.text]
        _check_unicode(pieces)
        ids = list(self._bos) if start and not (pieces and pieces[0].control) else []
        for segment in self._segments(pieces, Place.START if start else Place.INSIDE):
            if isinstance(segment, int):
                ids.append(segment)
            elif len(segment.text) > _CACHED_CHARACTERS:
                ids.extend(self._encode_run(segment))
            else:
                ids.extend(self._cached_run(segment))
        return ids

    def encode_each(
        self, pieces: Sequence[Piece], endings: Iterable[str], *, start: bool
    ) -> Iterator[list[int]]:
        """The ids of the pieces and one of the plain endings, for each of these, as `encode` has
        them. What no ending can change is encoded once."""
        pieces = list(_joined([piece for piece in pieces if piece.text]))
        text = "" if not pieces or pieces[-1].control else pieces.pop().text
        cut = self._cuts.last(text)
        if cut:
            head = self.encode([*pieces, Piece(text[:cut])], start=start)
            for ending in endings:
                yield head + self.encode([Piece(text[cut:] + ending)], start=False)
        else:
            for ending in endings:
                yield self.encode([*pieces, Piece(text + ending)], start=start)

    def decode(self, ids: Sequence[int], *, start: bool = False) -> str:
        """The text of ids without control tokens; broken UTF-8 reads as U+FFFD, as in `bytes`.

        `start`: the ids open a context, so the prefix space that `encode` put there is dropped.
        """
        visible = [token for token in ids if self.is_text(token)]
        if not self.exact_bytes:
            return self._backend.decode(visible, skip_special_tokens=False)
        text = b"".join(map(self.token_bytes, visible)).decode("utf-8", "replace")
        return text.removeprefix(" ") if start and self.strips_first_space else text

    def is_text(self, token: int) -> bool:
        """Whether the id stands for text: in the vocabulary, and not a control token."""
        return 0 <= token < self.vocab_size and token not in self.control_ids

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; a control token's are its name, of no token none.

        A decoder that this module does not know (WordPiece, say) has no exact bytes: then they
        are those of the token decoded alone.
        """
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = self._read_bytes(token)
        return found

    def _find_control(self) -> dict[str, int]:
        return {
            token.content: index
            for index, token in self._added.items()
            if token.special or index in self.eos_ids
        }

    def _segments(self, pieces: list[Piece], place: Place) -> Iterator[Run | int]:
        """The text as runs and control ids; whitespace goes where a token says it takes it."""
        text, taken = "", False
        for part in self._parts(pieces):
            if isinstance(part, str):
                text += part
                continue
            token = self._added[part]
            text = text.lstrip(_SPACE) if taken else text
            text = text.rstrip(_SPACE) if token.lstrip else text
            if text:
                yield Run(text, place)
            yield part
            text, place, taken = "", Place.CONTROL, token.rstrip
        text = text.lstrip(_SPACE) if taken else text
        if text:
            yield Run(text, place)

    def _parts(self, pieces: list[Piece]) -> Iterator[str | int]:
        for piece in _joined(pieces):
            if not piece.control:
                yield piece.text
                continue
            for part in self._spelled.split(piece.text):
                yield self._control.get(part, part)

    def _encode_run(self, run: Run) -> tuple[int, ...]:
        """The ids of plain text, none of them a control token.

        A model's own vocabulary can hold a control token's name as an ordinary entry. Text that
        comes out as one is cut inside that name and encoded in two halves.
        """
        encoding = self._backends[run.place].encode(run.text, add_special_tokens=False)
        at = None if self.control_ids.isdisjoint(encoding.ids) else self._first_control(encoding)
        if at is None:
            return tuple(encoding.ids)
        if len(run.text) < 2:
            raise PromptError(f"{run.text!r} cannot be written as text with this tokenizer")
        cut = min(encoding.offsets[at][0] + 1, len(run.text) - 1)
        head, tail = Run(run.text[:cut], run.place), Run(run.text[cut:], Place.INSIDE)
        return self._encode_run(head) + self._encode_run(tail)

    def _first_control(self, encoding: Encoding) -> int | None:
        """The first control token, but for an unknown token that stands for unknown text."""
        for at, token in enumerate(encoding.ids):
            if token in self.control_ids and token != self.hf.unk_token_id:
                return at
        return None

    def _read_bytes(self, token: int) -> bytes:
        name = self._backend.id_to_token(token) if 0 <= token < self.vocab_size else None
        if name is None:
            return b""
        if token in self.control_ids:
            return name.encode()
        if self._bytes_of is None:
            return self._backend.decode([token], skip_special_tokens=False).encode()
        return self._bytes_of(name, token in self._added)


def _kind(directory: Path) -> Any:
    """A `tokenizer.json` says all; without one transformers finds out what the files are, for
    which it imports the model's own module: seconds that a start need not wait."""
    if (directory / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _joined(pieces: list[Piece]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece, so that a name split over two is still a name."""
    text, control = "", False
    for piece in pieces:
        if piece.control != control:
            yield Piece(text, control)
            text, control = "", piece.control
        text += piece.text
    yield Piece(text, control)


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Splits text at the leftmost, longest names, and keeps them."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")


def _check_unicode(pieces: Iterable[Piece]) -> None:
    for piece in pieces:
        try:
            piece.text.encode()
        except UnicodeEncodeError as error:
            code = ord(piece.text[error.start])
            raise PromptError(
                f"the text is not valid Unicode: a lone surrogate U+{code:04X} "
                f"at character {error.start}"
            ) from error


def _leading_ids(backend: Backend) -> list[int]:
    """What the tokenizer puts before any text: BOS, or nothing."""
    encoding = backend.encode("a", add_special_tokens=True)
    added = [*encoding.special_tokens_mask, 0].index(0)
    return encoding.ids[:added]


def _copies(spec: dict[str, Any], control: set[str]) -> dict[Place, Backend]:
    """One encoder for each place, none of which reads control tokens; equal ones are shared."""
    for token in spec["added_tokens"]:
        token["special"] = token["content"] in control
    spec = {**spec, "post_processor": None, "truncation": None, "padding": None}
    made: dict[str, Backend] = {}
    copies: dict[Place, Backend] = {}
    for place in Place:
        parts = {key: _placed(spec[key], place) for key in ("normalizer", "pre_tokenizer")}
        name = json.dumps(parts)
        if name not in made:
            made[name] = Backend.from_str(json.dumps({**spec, **parts}))
            made[name].encode_special_tokens = True
        copies[place] = made[name]
    return copies


def _placed(part: dict[str, Any] | None, place: Place) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that adds a prefix space only where it should.

    After a control token a tokenizer follows its own habit: "first" adds none, "always" does.
    """
    if part is None or place is Place.START:
        return part
    match part["type"]:
        case "Sequence":
            key = "normalizers" if "normalizers" in part else "pretokenizers"
            inner = [_placed(each, place) for each in part[key]]
            return {**part, key: [each for each in inner if each is not None]}
        case "Metaspace" if place is Place.INSIDE or part["prepend_scheme"] == "first":
            return {**part, "prepend_scheme": "never"}
        case "ByteLevel" if place is Place.INSIDE:
            return {**part, "add_prefix_space": False}
        case "Prepend" if place is Place.INSIDE:
            return None
    return part


class _ByteLevel:
    """GPT-2's alphabet: each byte is one printable character."""

    def __init__(self) -> None:
        plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in plain]
        self._byte = {chr(byte): byte for byte in plain}
        self._byte |= {chr(256 + index): byte for index, byte in enumerate(others)}

    def __call__(self, name: str, added: bool) -> bytes:
        if added or not all(character in self._byte for character in name):
            return name.encode()
        return bytes(self._byte[character] for character in name)


class _SentencePiece:
    """U+2581 is a space; with byte fallback `<0xNN>` is a byte."""

    def __init__(self, space: str, byte_fallback: bool) -> None:
        self._space = space
        self._byte = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256 * byte_fallback)}

    def __call__(self, name: str, added: bool) -> bytes:
        return self._byte.get(name) or name.replace(self._space, " ").encode()


_Codec = _ByteLevel | _SentencePiece


def _codec(decoder: dict[str, Any] | None) -> tuple[_Codec | None, bool]:
    """How a token's name gives its bytes, if the decoder works that way; and whether
    it drops a space that opens the text.
    """
    steps = [] if decoder is None else decoder.get("decoders", [decoder])
    kinds = {step["type"] for step in steps} - {"Fuse"}
    if kinds == {"ByteLevel"}:
        return _ByteLevel(), False
    if not kinds or not all(map(_is_sentencepiece, steps)):
        return None, False
    space = next((s["replacement"] for s in steps if s["type"] == "Metaspace"), "\u2581")
    strips = any(step["type"] == "Strip" or _prepends(step) for step in steps)
    return _SentencePiece(space, "ByteFallback" in kinds), strips


def _is_sentencepiece(step: dict[str, Any]) -> bool:
    match step:
        case {"type": "Fuse" | "ByteFallback" | "Metaspace"}:
            return True
        case {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}:
            return True
        case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
            return True
    return False


def _prepends(step: dict[str, Any]) -> bool:
    return step["type"] == "Metaspace" and step["prepend_scheme"] != "never"
