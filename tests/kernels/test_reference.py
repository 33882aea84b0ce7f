"""The reference backend is attention as torch has it, on a cache read by hand."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ramet.kernels import Tree
from tests.kernels.steps import Case, World, ancestors_of, world


def by_torch(made: World, layer: int, sequence: int, window: int | None) -> Tensor:
    """`[rows, heads, dim]` in float64, from one gathered context."""
    step, block = made.step, made.case.block
    first, last = step.query_starts[sequence : sequence + 2].tolist()
    context = int(step.contexts[sequence])
    slots = [
        int(step.block_tables[sequence, j // block]) * block + j % block for j in range(context)
    ]
    key, value = made.reference.cache.data[layer][:, :, slots].double()
    query = made.query[layer, first:last].double().transpose(0, 1)
    rows = torch.arange(context - (last - first), context)[:, None]
    seen = torch.arange(context)[None] <= rows
    if window is not None:
        seen &= torch.arange(context)[None] > rows - window
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=made.scale, enable_gqa=True
    )
    return out.transpose(0, 1)


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize(("kv_heads", "groups"), [(1, 1), (1, 4), (2, 1), (2, 3)])
def test_attention(kv_heads: int, groups: int, window: int | None) -> None:
    lengths = [(1, 1), (17, 17), (30, 1), (30, 11), (8, 8)]
    made = world(Case(lengths, block=4, kv_heads=kv_heads, groups=groups, dim=6))
    for layer, out in enumerate(made.run(made.reference, window=window)):
        expected = torch.cat([by_torch(made, layer, i, window) for i in range(len(lengths))])
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [None, 2, 100])
def test_a_tree_is_its_paths(window: int | None) -> None:
    """A token of a tree gets what it gets at the end of a sequence of its own, without the others:
    here of the same keys and values, gathered by hand."""
    parents = [-1, 0, 1, 0, -1, 4, 3]
    made = world(Case([(5 + len(parents), len(parents))], block=4, dim=6, layers=1))
    made.step = replace(made.step, trees=[Tree(0, ancestors_of(parents))])
    (out,) = made.run(made.reference, window=window)
    table = made.step.block_tables[0].tolist()
    for row, parent in enumerate(parents):
        places = [5 + row]
        while parent >= 0:
            places.insert(0, 5 + parent)
            parent = parents[parent]
        path = [*range(5), *places][-(window or 100) :]
        slots = [table[place // 4] * 4 + place % 4 for place in path]
        key, value = made.reference.cache.data[0][:, :, slots].double()
        expected = F.scaled_dot_product_attention(
            made.query[0, row].double()[:, None], key, value, scale=made.scale, enable_gqa=True
        )
        torch.testing.assert_close(out[row].double(), expected[:, 0], rtol=0, atol=1e-6)


def test_softcap_bends_the_scores() -> None:
    made = world(Case([(9, 9)], dim=4, sharpness=4.0))
    (capped, _), (flat, _), (plain, _) = (
        made.run(made.reference, softcap=softcap) for softcap in (2.0, 1e-6, None)
    )
    first = slice(0, 1)  # sees itself only: no score matters
    torch.testing.assert_close(capped[first], plain[first])
    assert (capped[1:] - plain[1:]).abs().amax() > 0.1
    values = made.value[0].cumsum(0) / torch.arange(1, 10)[:, None, None]
    mean = values.repeat_interleave(2, dim=1)  # with all scores alike
    torch.testing.assert_close(flat, mean, rtol=0, atol=1e-5)
