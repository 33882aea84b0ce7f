"""Prompts that nobody has sent before. Knows no server."""

import random

WORDS = (
    "about after again always animal answer bread bridge bright building careful city clear cloud "
    "cold color corner country dark early earth evening every family field fire flower forest "
    "friend garden glass gold green ground happy heavy history house island kitchen language large "
    "late letter light little long market metal morning mountain music narrow never night north "
    "ocean often old open paper people picture place plain quiet rain red river road round salt "
    "school short silver simple sister slow small snow south spring star stone story strong summer "
    "table tall tea under valley village warm water west wide window winter wood yellow young"
).split()


def words(draw: random.Random, count: int) -> str:
    """So many common words, each a token or two; fresh ones, unless `draw` is seeded alike."""
    return " ".join(draw.choices(WORDS, k=count))
