"""The CPU backends give what the reference gives, whatever the batch."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ramet.kernels import KVCache, KVLayout, Tree, backend_for, extension
from ramet.kernels.compiled import CompiledBackend
from ramet.kernels.cpu import CpuBackend
from ramet.kernels.tiles import MAX_KEYS, MAX_ROWS
from tests.kernels.steps import Case, World, ancestors_of, world

BLOCKS = (1, 3, 8, 16, 32)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def random_case(seed: int, dtype: torch.dtype) -> Case:
    """Prompts, rests of prompts and single tokens, with lengths around the edges of blocks."""
    rng = random.Random(seed)
    block = rng.choice(BLOCKS)
    edges = [k * block + d for k in (0, 1, 2, 5) for d in (-1, 0, 1) if k * block + d > 0]
    lengths = []
    for _ in range(rng.randrange(1, 14)):
        context = rng.choice([*edges, rng.randrange(1, 200)])
        lengths.append((context, rng.choice((1, 1, context, rng.randrange(context) + 1))))
    return Case(
        lengths,
        block=block,
        kv_heads=rng.choice((1, 2, 3)),
        groups=rng.choice((1, 2, 3, 8)),
        dim=rng.choice((1, 5, 8, 12, 64)),
        dtype=dtype,
        shared=rng.choice((0, 1, 4, 20)),
        inside=rng.random() < 0.5,
        recomputed=rng.choice((0.0, 0.5, 1.0)),
        seed=seed,
        sharpness=rng.choice((0.3, 1.0, 4.0)),
        trees=rng.choice((0.0, 0.3, 1.0)),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(25))
def test_random_batches(seed: int, dtype: torch.dtype) -> None:
    rng = random.Random(seed)
    made = world(random_case(seed, dtype))
    softcap = rng.choice((None, None, 3.0, 50.0))
    made.compare(window=rng.choice((None, None, 1, 7, 64)), softcap=softcap)


@pytest.mark.parametrize("kept", DTYPES[1:], ids=str)
@pytest.mark.parametrize("seed", range(25))
def test_a_cache_that_keeps_less_than_queries_have(seed: int, kept: torch.dtype) -> None:
    """What is read of it is exact, so the error is that of float32."""
    rng = random.Random(seed)
    made = world(replace(random_case(seed, torch.float32), kept=kept))
    made.compare(window=rng.choice((None, None, 7)), softcap=rng.choice((None, 3.0)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(25, 1000))
def test_many_random_batches(seed: int, dtype: torch.dtype) -> None:
    test_random_batches(seed, dtype)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("window", [None, 1, 5])
def test_edges_of_blocks(block: int, window: int | None) -> None:
    edges = sorted({max(1, k * block + d) for k in (1, 2, 3) for d in (-1, 0, 1)})
    lengths = [(context, 1) for context in edges]
    lengths += [(context, context) for context in edges]
    lengths += [(context + more, more) for context in edges for more in (block - 1, block) if more]
    world(Case(lengths, block=block)).compare(window=window)


@pytest.mark.parametrize("window", [None, 1, 7])
def test_trees_on_a_shared_context(window: int | None) -> None:
    """Larger than an item, too; the context's run is read once for all of them."""
    made = world(Case([(700, 12), (690, 300), (720, 1)], shared=24))
    rng = random.Random(0)
    parents = [[rng.randrange(-1, row) for row in range(rows)] for rows in (7, 290)]
    trees = [Tree(sequence, ancestors_of(each)) for sequence, each in enumerate(parents)]
    made.step = replace(made.step, trees=trees)
    made.compare(window=window)
    if window is None:
        assert max(tile.items for tile in made.tiles() if tile.shared.numel()) >= 2


@pytest.mark.parametrize(("kv_heads", "groups"), [(1, 1), (1, 8), (4, 1), (3, 5)])
@pytest.mark.parametrize("dim", [1, 7, 64])
def test_heads(kv_heads: int, groups: int, dim: int) -> None:
    """Multi-query, multi-head and grouped; groups get their own key head, in order."""
    lengths = [(40, 1), (33, 1), (20, 20), (50, 13)]
    world(Case(lengths, kv_heads=kv_heads, groups=groups, dim=dim)).compare()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("block", [3, 16])
def test_shared_blocks_are_read_once(block: int, softcap: float | None, dtype: torch.dtype) -> None:
    """Decoding and prefilling sequences behind one prefix, one without it, one inside it."""
    shared = 96 // block
    lengths = [(100 + 3 * i, 1) for i in range(10)]
    lengths += [(140 + i, 20 + i) for i in range(4)]
    lengths += [(50, 1), (98, 98), (97, 1)]
    made = world(Case(lengths, block=block, shared=shared, dtype=dtype))
    runs = [tile.shared.numel() // made.case.kv_heads for tile in made.tiles()]
    assert max(runs) == shared * block
    assert 0 in runs
    made.compare(softcap=softcap)


@pytest.mark.parametrize("block", [1, 8, 32])
def test_queries_inside_the_shared_blocks(block: int) -> None:
    """Rows of a prefix that is in the cache already, as scoring wants them: the run ends before
    the first of them, and each sees no further than itself."""
    lengths = [(320, 1)] * 4 + [(320, 40), (320, 320), (321, 2), (319, 33), (128, 64)]
    made = world(Case(lengths, block=block, shared=320 // block, inside=True))
    assert sum(made.step.slots >= 0) < 40
    assert max(tile.shared.numel() for tile in made.tiles()) > 0
    made.compare()


def test_windows_share_nothing() -> None:
    made = world(Case([(200, 1)] * 20, shared=12))
    assert any(tile.shared.numel() for tile in made.tiles())
    assert not any(tile.shared.numel() for tile in made.tiles(window=50))
    made.compare(window=50)


def test_runs_of_two_lengths() -> None:
    """Whoever is deep in the tree shares all of it; the others what they are behind."""
    made = world(Case([(700, 1)] * 10 + [(60, 1)] * 20, shared=40))
    runs = {tile.shared.numel() // made.case.kv_heads for tile in made.tiles()}
    assert runs == {640, 48}
    made.compare()


def test_long_contexts_take_several_tiles() -> None:
    made = world(Case([(MAX_KEYS // 3, 1)] * 7 + [(MAX_KEYS + 5, 1)], layers=1))
    assert len(made.tiles()) >= 4
    made.compare()


@pytest.mark.parametrize("window", [None, 40])
def test_long_prompts_take_several_items(window: int | None) -> None:
    rows = [MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 2 * MAX_ROWS + 3]
    made = world(Case([(count, count) for count in rows] + [(500, 200)], layers=1))
    made.compare(window=window)


@pytest.mark.parametrize("part", [0.3, 1.0])
def test_recomputed_tokens_write_nothing(part: float) -> None:
    made = world(Case([(40, 40), (33, 20), (17, 1)], recomputed=part))
    before = made.cpu.cache.data.clone()
    made.compare()
    changed = (made.cpu.cache.data != before) & ~(made.cpu.cache.data.isnan() & before.isnan())
    touched = set(changed.any(-1).nonzero()[:, 3].tolist())
    assert touched == set(made.step.slots[made.step.slots >= 0].tolist())
    assert len(touched) < made.step.tokens


def test_only_the_slots_of_the_step_are_written() -> None:
    made = world(Case([(40, 7), (33, 33), (17, 1)], layers=3))
    made.compare()
    for backend in (made.cpu, made.compiled):
        data = backend.cache.data
        torch.testing.assert_close(data, made.reference.cache.data, rtol=0, atol=0, equal_nan=True)
        assert not data[:, :, :, backend.cache.null_slot].any()


def test_an_empty_step() -> None:
    made = world(Case([]))
    for window in (None, 4):
        made.compare(window=window)


def test_a_sequence_without_tokens_in_the_step() -> None:
    world(Case([(20, 0), (20, 3), (5, 0), (9, 1)])).compare()


BACKENDS = ("cpu", "compiled")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_results_outlive_the_next_layer(kv_heads: int, backend: str) -> None:
    """The kept buffers are not handed out."""
    made = world(Case([(20, 3), (9, 1)], kv_heads=kv_heads))
    first, second = made.run(getattr(made, backend))
    kept = first.clone()
    assert not torch.equal(first, second)
    made.run(getattr(made, backend))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_queries_that_are_parts_of_other_tensors(dtype: torch.dtype) -> None:
    """Queries, keys and values are mostly slices of one product."""
    made = world(Case([(40, 7), (33, 33), (17, 1)], dtype=dtype))
    whole = torch.cat([made.query, made.key, made.value], dim=2)
    heads = made.case.kv_heads * made.case.groups
    made.query, made.key, made.value = whole.split(
        (heads, made.case.kv_heads, made.case.kv_heads), dim=2
    )
    assert not made.query[0].is_contiguous()
    made.compare()
    expected = made.run(made.compiled)
    made.query = made.query.transpose(1, 2).contiguous().transpose(1, 2)
    assert all(map(torch.equal, made.run(made.compiled), expected))


def test_any_number_of_threads_gives_the_same() -> None:
    made = world(Case([(300, 1)] * 20 + [(90, 90), (400, 64)], shared=5, trees=0.5))
    torch.set_num_threads(1)
    alone = made.run(made.compiled)
    torch.set_num_threads(4)
    together = made.run(made.compiled)
    assert all(map(torch.equal, alone, together))


def test_one_backend_over_many_steps() -> None:
    """Buffers that grow and shrink do not mix steps up."""
    kept: World | None = None
    for count in (1, 30, 3, 200, 2):
        made = world(Case([(count + i, count) for i in range(4)], seed=count))
        if kept is not None:
            kept.cpu.cache, kept.compiled.cache = made.cpu.cache, made.compiled.cache
            made.cpu, made.compiled = kept.cpu, kept.compiled
        made.compare()
        kept = made


@pytest.mark.parametrize("softcap", [0.5, 30.0, 50.0, 1e5])
@pytest.mark.parametrize("sharpness", [0.01, 0.1, 1.0, 10.0])
def test_a_soft_cap_far_from_the_scores(softcap: float, sharpness: float) -> None:
    """Small scores keep their precision under a large cap."""
    made = world(Case([(90, 20), (64, 1)] * 3, dim=16, sharpness=sharpness))
    made.compare(softcap=softcap)


def test_narrow_scores_do_not_overflow() -> None:
    """Scores near the end of float16: the largest is subtracted before the exponential."""
    made = world(Case([(30, 5), (64, 1)], dtype=torch.float16, sharpness=300.0))
    made.compare()


# -- copies


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [1, 3, 16])
def test_copies(block: int, dtype: torch.dtype) -> None:
    made = world(Case([(90, 90)], block=block, dtype=dtype, layers=3))
    made.compare()
    last = made.cpu.cache.layout.num_blocks - 1
    copies = [(0, 2, block), (0, 3, 1), (1, last, max(1, block - 1)), (last - 1, 4, 0)]
    before = made.cpu.cache.data.clone()
    made.cpu.copy_blocks(copies)
    for source, target, tokens in copies:
        for i in range(tokens):
            before[:, :, :, target * block + i] = before[:, :, :, source * block + i]
    for backend in (made.cpu, made.reference):
        torch.testing.assert_close(backend.cache.data, before, rtol=0, atol=0, equal_nan=True)
        made.reference.copy_blocks(copies)


def test_no_copies() -> None:
    made = world(Case([(5, 5)]))
    before = made.cpu.cache.data.clone()
    made.cpu.copy_blocks([])
    made.cpu.copy_blocks([(0, 1, 0)])
    torch.testing.assert_close(made.cpu.cache.data, before, rtol=0, atol=0, equal_nan=True)


# -- proof of power


@pytest.mark.parametrize("part", [0, 1], ids=["key", "value"])
@pytest.mark.parametrize("shared", [0, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_wrong_number_is_seen(part: int, shared: int, backend: str) -> None:
    """One bit of the exponent of one number, in a block of its own or a shared one."""
    for place in (0, 37, 63, 70):
        made = world(Case([(80, 1)] * 12, shared=shared, seed=place))
        made.compare()
        block = made.case.block
        slot = int(made.step.block_tables[3, place // block]) * block + place % block
        number = getattr(made, backend).cache.data[1, part, 1, slot].view(torch.int32)
        number[2] ^= 1 << 25
        with pytest.raises(AssertionError):
            made.compare()


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wrong_table_entry_is_seen(at: int, backend: str) -> None:
    made = world(Case([(80, 1)] * 12 + [(80, 30)], shared=2))
    made.compare()
    right = made.run(getattr(made, backend))
    made.step.block_tables[4, at] = made.step.block_tables[5, 3]
    made.step.slots[:] = -1
    wrong = made.run(getattr(made, backend))
    for before, after in zip(right, wrong, strict=True):
        differs = (before - after).abs().amax((1, 2)) > made.tolerance
        assert differs[4]
        assert not differs[:4].any()
        assert not differs[5:].any()


LAYOUT = KVLayout(layers=1, kv_heads=1, head_dim=2, num_blocks=1, block_size=1)


def test_only_the_cpu_has_a_backend_here() -> None:
    layout = LAYOUT
    assert isinstance(backend_for(KVCache(layout)), CompiledBackend)
    meta = KVLayout(**{**_fields(layout), "device": torch.device("meta")})
    with pytest.raises(ValueError, match="no attention backend for device meta"):
        backend_for(KVCache(meta))


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder without a library, and nobody remembers what was loaded."""
    monkeypatch.setattr(extension, "_outcome", None)
    return tmp_path / "kernels"


def test_without_a_compiler_torch_serves_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, unbuilt: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.warns(UserWarning, match="there is no C[+][+] compiler"):
        assert isinstance(backend_for(KVCache(LAYOUT), unbuilt), CpuBackend)
    assert isinstance(backend_for(KVCache(LAYOUT), unbuilt), CpuBackend), "and no warning"


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, unbuilt: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/bin/false")
    with pytest.warns(UserWarning, match="/bin/false failed"):
        assert isinstance(backend_for(KVCache(LAYOUT), unbuilt), CpuBackend)
    assert list(unbuilt.glob("*.so")) == []


def test_a_folder_that_cannot_be_written(unbuilt: Path) -> None:
    unbuilt.write_text("a file")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert isinstance(backend_for(KVCache(LAYOUT), unbuilt), CpuBackend)


TWICE = """
import sys
from pathlib import Path
import torch
from ramet.kernels import extension
one, other = map(Path, sys.argv[1:])
assert extension.loaded(one)
assert extension.loaded(other)
assert not other.exists()
"""


def test_a_second_folder_uses_what_is_loaded(tmp_path: Path) -> None:
    """And a library that cannot be loaded is built again."""
    first = Path("~/.cache/ramet/kernels").expanduser()
    extension.loaded()
    (tmp_path / "one").mkdir()
    for library in first.glob("*.so"):
        (tmp_path / "one" / library.name).write_bytes(b"cut short")
    folders = [str(tmp_path / "one"), str(tmp_path / "other")]
    subprocess.run([sys.executable, "-c", TWICE, *folders], check=True)


def _fields(layout: KVLayout) -> dict[str, object]:
    return {name: getattr(layout, name) for name in layout.__dataclass_fields__}
