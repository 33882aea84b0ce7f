"""With all uses known, eviction by plan computes the least that any policy can: all are tried."""

import random
from itertools import combinations, product

import pytest

from ramet.cache import BlockPool, BlockTable

Text = tuple[int, ...]


def served(trace: list[Text], num_blocks: int, ahead: int) -> int:
    """Tokens computed by the cache, one request after the other; blocks hold one token."""
    pool = BlockPool(num_blocks, 1)
    expected = [pool.expect(text, at) for at, text in enumerate(trace[:ahead])]
    computed = 0
    for at, text in enumerate(trace):
        table = BlockTable(pool)
        computed += len(text) - table.adopt(text)
        if at < len(expected):
            expected[at].drop()
        if ahead and at + ahead < len(trace):
            expected.append(pool.expect(trace[at + ahead], at + ahead))
        table.reserve(len(text) - table.length)
        table.commit(text[table.length :])
        pool.audit([table])
        table.release()
    assert pool.plan.count == 0
    return computed


def least(trace: list[Text], num_blocks: int) -> int:
    """Every choice of what to keep, even of blocks whose beginning is gone."""
    costs: dict[frozenset[Text], int] = {frozenset(): 0}
    for text in trace:
        path = frozenset(text[:end] for end in range(1, len(text) + 1))
        after: dict[frozenset[Text], int] = {}
        for kept, cost in costs.items():
            others = sorted(kept - path)
            room = min(num_blocks - len(path), len(others))
            for choice in combinations(others, room):
                state = path.union(choice)
                total = cost + len(path - kept)
                after[state] = min(total, after.get(state, total))
        costs = after
    return min(costs.values())


def texts(draw: random.Random, count: int) -> list[Text]:
    """Paths of a small tree, some of them far more often than others."""
    tree = [*product((0, 1), (0, 1, 2), (0, 1))]
    weights = [1 / (1 + place) for place in range(len(tree))]
    draw.shuffle(tree)
    return [text[: draw.randint(1, 3)] for text in draw.choices(tree, weights, k=count)]


@pytest.mark.parametrize("seed", range(40))
def test_full_knowledge_is_the_optimum(seed: int) -> None:
    draw = random.Random(seed)
    trace = texts(draw, 14)
    num_blocks = draw.choice((3, 4, 5, 6))
    assert served(trace, num_blocks, len(trace)) == least(trace, num_blocks)


def test_the_least_recently_used_is_not() -> None:
    """Four texts in turn, and room for three: it always drops the one that comes next."""
    trace = [(at % 4,) for at in range(40)]
    assert served(trace, 3, 0) == 40
    assert served(trace, 3, 40) == least(trace, 3) == 16
    assert served(trace, 3, 4) == 16, "a round ahead is as good as all"


def test_what_is_known_only_in_part_still_helps() -> None:
    lru = plan = best = 0
    for seed in range(20):
        trace = texts(random.Random(seed), 60)
        lru += served(trace, 6, 0)
        plan += served(trace, 6, 6)
        best += served(trace, 6, 60)
    assert best < plan < lru
