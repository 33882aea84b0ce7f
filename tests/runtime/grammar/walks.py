"""Random types, and random texts of them, drawn by the masks alone."""

import random
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ramet.runtime.grammar import Grammar

LETTERS = 'abcxyz019 .,-_\n"/{}'


def allowed(grammar: Grammar) -> list[int]:
    """The tokens of the mask, in order."""
    bits = np.unpackbits(grammar.mask(), count=grammar.size, bitorder="little")
    return np.flatnonzero(bits).tolist()


def walk(grammar: Grammar, rng: random.Random, most: int, ending: float = 0.3) -> list[int]:
    """Random tokens that the grammar allows, until it ends or there are `most`."""
    tokens: list[int] = []
    while len(tokens) < most and not grammar.finished:
        if grammar.can_end and rng.random() < ending:
            break
        tokens.append(
            rng.choice([token for token in allowed(grammar) if token not in grammar.ends])
        )
        grammar.accept(tokens[-1])
    return tokens


def random_regex(rng: random.Random, depth: int = 3) -> str:
    """A pattern that Python and the engine read alike."""
    match rng.randrange(8 if depth else 3):
        case 0:
            return re.escape("".join(rng.choices(LETTERS, k=rng.randint(1, 4))))
        case 1:
            return rng.choice(["[a-c]", "[^a]", "[0-9]", "[a-z0-9_]", r"\d", ".", "[ \n]"])
        case 2:
            return re.escape(rng.choice(["é", "漢字", "ß", "→", "😀"]))
        case 3 | 4:
            parts = (random_regex(rng, depth - 1) for _ in range(rng.randint(2, 3)))
            return "".join(parts)
        case 5:
            ways = (random_regex(rng, depth - 1) for _ in range(rng.randint(2, 3)))
            return f"(?:{'|'.join(ways)})"
        case _:
            count = rng.choice(["*", "+", "?", "{2}", "{0,3}", "{2,}"])
            return f"(?:{random_regex(rng, depth - 1)}){count}"


def random_schema(rng: random.Random, depth: int = 3) -> Mapping[str, Any]:
    kind = rng.randrange(9 if depth else 6)
    match kind:
        case 0:
            low = rng.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 500)}
        case 1:
            return {"type": rng.choice(["integer", "number", "boolean", "null"])}
        case 2:
            return {"enum": rng.sample(["add", "finish", 1, -7, True, None, "a b", "é", 2.5], 3)}
        case 3:
            least = rng.randint(0, 3)
            return {"type": "string", "minLength": least, "maxLength": least + 4}
        case 4:
            return {"type": "string", "pattern": rng.choice(["^[a-c]{2,5}$", "^[0-9]-[A-Z]+$"])}
        case 5:
            return {"const": rng.choice(["x", 3, False, [1, "a"], {"k": None}])}
        case 6:
            items = random_schema(rng, depth - 1)
            return {"type": "array", "items": items, "minItems": 0, "maxItems": 3}
        case 7:
            names = rng.sample(["x", "y", "tool", "a b", "é"], rng.randint(1, 3))
            return {
                "type": "object",
                "properties": {name: random_schema(rng, depth - 1) for name in names},
                "required": rng.sample(names, rng.randint(0, len(names))),
                "additionalProperties": False,
            }
        case _:
            return {"anyOf": [random_schema(rng, depth - 1) for _ in range(2)]}
