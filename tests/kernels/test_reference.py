"""The reference backend is attention as torch has it, on a cache read by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kernels.steps import Case, World, world


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
