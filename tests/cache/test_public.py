"""Public prefixes: two scopes share exactly their full blocks, and nothing beyond."""

import random
from collections.abc import Callable, Sequence

import pytest
from tables import grow

from ramet.cache import (
    BlockPool,
    BlockTable,
    CacheMisuse,
    Copy,
    Nearest,
    explain,
    forget,
    spans,
)
from ramet.cache.audit import Holder, public_is_declared, tables_are_paths
from ramet.cache.public import PUBLIC, Door, PublicPath

ONE, TWO = b"one", b"two"
SHARED = [*range(1, 11)]  # blocks 1 to 4 and 5 to 8 are public, 9 and 10 are not


@pytest.fixture
def pool() -> BlockPool:
    pool = BlockPool(24, 4, seed=0)
    assert pool.declare_public(SHARED) == 2
    return pool


def grown(pool: BlockPool, tokens: list[int], scope: bytes, maker: str = "") -> BlockTable:
    table = BlockTable(pool, scope, maker)
    table.adopt(tokens)
    grow(table, tokens[table.length :])
    return table


def found(pool: BlockPool, tokens: list[int], scope: bytes) -> int:
    table = BlockTable(pool, scope)
    length = table.adopt(tokens)
    assert length == explain(pool, tokens, scope).found
    table.release()
    return length


# What is shared


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (SHARED, SHARED, 8),  # less than a block at its end is private
        (SHARED[:8], SHARED, 8),
        (SHARED[:7], SHARED, 4),  # not a full block, so nobody else's
        (SHARED[:4], SHARED, 4),
        (SHARED[:3], SHARED, 0),
        (SHARED, SHARED[:9], 8),
        (SHARED, SHARED[:8], 8),
        (SHARED, SHARED[:7], 7),  # the beginning of a public block
        (SHARED, SHARED[:5], 5),
        (SHARED, SHARED[:3], 3),
        (SHARED, [*SHARED[:6], 0, 0, 0], 6),
        ([*SHARED[:6], 0, 0], [*SHARED[:6], 0, 0], 4),  # both left it alike
        ([*SHARED[:8], 0, 0, 0, 0, 0], [*SHARED[:8], 0, 0, 0, 0, 0], 8),
        ([0, *SHARED], [0, *SHARED], 0),
        ([*SHARED[4:8], 0], [*SHARED[4:8], 0], 0),  # the second block, but not behind the first
    ],
)
def test_another_scope_finds_the_full_public_blocks_and_no_more(
    pool: BlockPool, first: list[int], second: list[int], shared: int
) -> None:
    one = grown(pool, first, ONE)
    assert found(pool, second, TWO) == shared
    two = grown(pool, second, TWO)
    common = {*one.blocks} & {*two.blocks}
    assert len(common) >= shared // 4
    assert all(pool.blocks[id].public for id in common)
    assert found(pool, first, ONE) == len(first)
    assert found(pool, second, TWO) == len(second)
    pool.audit([one, two])
    one.release()
    two.release()
    pool.audit([])
    assert pool.available == pool.num_blocks


def test_a_scope_finds_its_own_behind_the_door(pool: BlockPool) -> None:
    grown(pool, [*SHARED, 11, 12, 13, 14], ONE).release()
    assert found(pool, [*SHARED, 11, 12, 13, 14], ONE) == 12  # the open block at its end is gone
    assert found(pool, [*SHARED, 11, 12, 13, 14], TWO) == 8


def test_an_open_block_is_private_until_it_is_full(pool: BlockPool) -> None:
    one = grown(pool, SHARED[:7], ONE)
    assert found(pool, SHARED, TWO) == 4
    assert found(pool, SHARED, ONE) == 7
    grow(one, SHARED[7:8])
    assert found(pool, SHARED, TWO) == 8
    pool.audit([one])


def test_what_is_sealed_under_a_reader_is_copied_back_into_private(pool: BlockPool) -> None:
    """The reader has the beginning of an open block that becomes public, and goes on otherwise."""
    one = grown(pool, SHARED[:6], ONE)
    one.reserve(2)
    reader = BlockTable(pool, ONE)
    assert reader.adopt([*SHARED[:6], 0]) == 6
    one.commit(SHARED[6:8])
    pool.audit([one, reader])
    assert grow(reader, [0]) == [Copy(one.blocks[1], reader.blocks[1], 2)]
    pool.audit([one, reader])
    assert found(pool, [*SHARED[:6], 0], ONE) == 7
    assert found(pool, [*SHARED[:6], 0], TWO) == 6
    grow(reader, [0])
    assert found(pool, [*SHARED[:6], 0, 0], TWO) == 6
    pool.audit([one, reader])


def test_a_twin_of_another_scope_is_merged(pool: BlockPool) -> None:
    """Both compute the prefix at once: one block of each remains."""
    tables = [BlockTable(pool, scope) for scope in (ONE, TWO)]
    for table in tables:
        table.reserve(10)
    for table in tables:
        table.commit(SHARED)
    assert tables[0].blocks[:2] == tables[1].blocks[:2]
    assert tables[0].blocks[2] != tables[1].blocks[2]
    assert pool.stats().merged == 2
    pool.audit(tables)


def test_a_public_block_is_preferred_among_equals(pool: BlockPool) -> None:
    whole, part = grown(pool, SHARED, TWO), grown(pool, [*SHARED[:6], 0], ONE)
    table = BlockTable(pool, ONE)
    assert table.adopt([*SHARED[:6], 1, 1]) == 6
    assert table.blocks == whole.blocks[:2]
    assert found(pool, [*SHARED[:6], 0, 1], ONE) == 7
    pool.audit([whole, part, table])


def test_forks_leave_a_public_block_by_a_copy(pool: BlockPool) -> None:
    grown(pool, SHARED[:8], ONE).release()
    table = BlockTable(pool, TWO)
    assert table.adopt(SHARED[:6]) == 6
    other = table.fork()
    public = table.blocks[1]
    assert grow(table, [0]) == [Copy(public, table.blocks[1], 2)]
    assert grow(other, [*SHARED[6:8], 9]) == [Copy(public, public + 2, 2)]
    assert other.blocks[1] == public, "it came to what is public, and took that"
    pool.audit([table, other])
    table.truncate(5)
    grow(table, SHARED[5:8])
    assert table.blocks == other.blocks[:2]
    pool.audit([table, other])


def test_who_is_preempted_finds_it_again(pool: BlockPool) -> None:
    one, two = grown(pool, SHARED, ONE), grown(pool, [*SHARED[:8], 0], TWO)
    two.release()
    pool.audit([one])
    again = grown(pool, [*SHARED[:8], 0], TWO)
    assert again.blocks[:2] == one.blocks[:2]
    pool.audit([one, again])


def test_prefixes_may_share_a_beginning_and_lie_in_each_other() -> None:
    pool = BlockPool(24, 4, seed=0)
    assert pool.declare_public(SHARED[:4]) == 1
    assert pool.declare_public(SHARED) == 2
    assert pool.declare_public([*SHARED[:4], 0, 0, 0, 0]) == 2
    assert pool.declare_public([1, 2, 3]) == 0
    for text in ([*SHARED[:4], 0, 0, 0, 0, 0], SHARED):
        grown(pool, text, ONE).release()
        assert found(pool, text, TWO) == 8
    pool.audit([])


def test_without_any_nothing_changes() -> None:
    """Not the keys, nor what is found."""
    plain, other = BlockPool(8, 4, seed=0), BlockPool(8, 4, seed=0)
    assert other.declare_public([1, 2, 3]) == 0
    for pool in (plain, other):
        table = grown(pool, SHARED, ONE)
        key = pool.chain.extend(pool.chain.root(ONE), SHARED[:4])
        assert pool.blocks[table.blocks[0]].key == key
        assert pool.blocks[table.blocks[0]].parent == ONE
        assert found(pool, SHARED, TWO) == 0


def test_the_keys_of_a_private_path_change_only_where_it_leaves(pool: BlockPool) -> None:
    chain = pool.chain
    table = grown(pool, [*SHARED[:4], 0, 0, 0, 0], ONE)
    first = chain.extend(chain.start, SHARED[:4])
    second = chain.extend(chain.enter(first, ONE), [0, 0, 0, 0])
    assert [pool.blocks[id].key for id in table.blocks] == [first, second]
    assert chain.root(ONE) == chain.enter(chain.start, ONE)


# Announcing


def test_a_public_block_is_awaited_across_scopes_and_a_private_one_is_not(pool: BlockPool) -> None:
    one, two = BlockTable(pool, ONE), BlockTable(pool, TWO)
    prompt = [*SHARED, 11, 12]
    one.announce(prompt)
    assert two.awaits(prompt)
    assert not one.awaits(prompt)
    grow(one, prompt[:8])
    assert two.adopt(prompt) == 8
    assert not two.awaits(prompt)
    two.announce(prompt)
    assert (one.awaits(prompt), two.awaits(prompt)) == (False, False)
    third = BlockTable(pool, ONE)
    assert third.adopt(prompt) == 8
    assert third.awaits(prompt)
    pool.audit([one, two, third])


def test_a_fork_in_the_middle_of_the_prefix_waits_too(pool: BlockPool) -> None:
    one, two = grown(pool, SHARED[:4], ONE), grown(pool, SHARED[:4], TWO)
    one.announce(SHARED)
    child = two.fork()
    assert child.awaits(SHARED)
    child.announce(SHARED)
    assert (one.awaits(SHARED), child.awaits(SHARED)) == (False, True)
    pool.audit([one, two, child])


def test_where_prompts_part_inside_the_prefix_nobody_waits(pool: BlockPool) -> None:
    one, two = BlockTable(pool, ONE), BlockTable(pool, TWO)
    parted = [*SHARED[:6], 0, 0, 0]
    one.announce(parted)
    assert two.awaits(parted)
    grow(one, parted[:4])
    assert two.adopt(parted) == 4
    assert not two.awaits(parted)
    grow(one, parted[4:])
    assert two.adopt(parted) == 4
    pool.audit([one, two])


# Eviction


def test_a_public_block_goes_after_what_any_scope_builds_on_it() -> None:
    pool = BlockPool(6, 4, seed=0)
    pool.declare_public(SHARED)
    tables = [grown(pool, [*SHARED[:8], 0, 0, 0, scope[0]], scope) for scope in (ONE, TWO)]
    public, own = tables[0].blocks[:2], [table.blocks[2] for table in tables]
    for table in tables:
        table.release()
    pool.audit([])
    assert list(pool.cached) == [*own, *reversed(public)]
    expected = pool.expect(SHARED, -1, b"anybody")
    grown(pool, [0] * 16, ONE).release()
    pool.audit([])
    assert found(pool, SHARED, TWO) == 8
    expected.drop()
    assert pool.plan.count == 0


def test_an_expectation_goes_through_the_door_of_its_scope(pool: BlockPool) -> None:
    texts = {scope: [*SHARED[:8], 0, 0, 0, 0] for scope in (ONE, TWO)}
    ids = {}
    for scope, text in texts.items():
        table = grown(pool, text, scope)
        ids[scope] = table.blocks[-1]
        table.release()
    first = pool.expect(texts[ONE], 3, ONE)
    assert [place.block and place.block.id for place in first.path][-1] == ids[ONE]
    assert pool.plan.next_use(pool.blocks[ids[TWO]]) is None
    second = pool.expect(texts[TWO], 1, TWO)
    assert first.path[:2] == second.path[:2]
    assert first.path[2] is not second.path[2]
    pool.audit([])
    for table in (grown(pool, [0] * 96, b"three"),):
        table.release()
    pool.audit([])
    assert [place.block for place in second.path] == [None] * 3
    again = grown(pool, texts[TWO], TWO)
    assert [place.block and place.block.id for place in second.path] == again.blocks
    assert first.path[2].block is None
    pool.audit([again])
    first.drop()
    second.drop()
    assert (pool.plan.count, pool.plan.places) == (0, {})


def test_declaring_comes_first(pool: BlockPool) -> None:
    table = grown(pool, SHARED, ONE)
    with pytest.raises(CacheMisuse, match="before that"):
        pool.declare_public(SHARED)
    table.release()
    expected = pool.expect(SHARED, 1, ONE)
    with pytest.raises(CacheMisuse, match="before that"):
        pool.declare_public(SHARED)
    expected.drop()
    assert pool.declare_public([7] * 4) == 1
    assert pool.stats().cached == 0
    pool.audit([])


# The window


def test_spans_are_the_own_tree_and_the_public_one(pool: BlockPool) -> None:
    grown(pool, [*SHARED[:8], 0, 0, 0, 0], ONE, "secret").release()
    grown(pool, [*SHARED[:8], 5, 5, 5, 5, 6, 6, 6, 6], TWO, "mine").release()
    grown(pool, [7] * 4, TWO, "apart").release()
    prefix, apart, behind = spans(pool, TWO).spans
    assert (prefix.head, prefix.maker, prefix.public) == (SHARED[:8], "public", True)
    assert (apart.head, apart.maker, apart.public, apart.above) == ([7] * 4, "apart", False, None)
    assert (behind.head, behind.maker, behind.above) == ([5] * 4 + [6] * 4, "mine", 0)
    assert [span.maker for span in spans(pool, ONE).spans] == ["public", "secret"]
    (alone,) = spans(pool, b"nobody").spans
    assert alone.public
    assert spans(pool, TWO, most=1).left_out == 2


def test_a_maker_may_be_called_public(pool: BlockPool) -> None:
    grown(pool, [*SHARED[:8], 5, 5, 5, 5], TWO, "public").release()
    prefix, behind = spans(pool, TWO).spans
    assert [(span.blocks, span.public) for span in (prefix, behind)] == [(2, True), (1, False)]


def test_explain_goes_through_the_door(pool: BlockPool) -> None:
    grown(pool, [*SHARED[:8], 1, 1, 1, 1], ONE, "secret").release()
    grown(pool, [*SHARED[:8], 2, 2, 2, 2], TWO, "mine").release()
    said = explain(pool, [*SHARED[:8], 2, 2, 0], TWO)
    assert (said.found, said.nearest) == (10, [Nearest([2, 2], "mine", whole=True)])
    said = explain(pool, [*SHARED[:8], 1, 1], TWO)
    assert (said.found, said.nearest) == (8, [Nearest([2, 2, 2, 2], "mine", whole=True)])
    said = explain(pool, [*SHARED[:6], 0], TWO)
    assert (said.found, said.nearest) == (6, [Nearest([7, 8], "public", whole=True)])


def test_explain_remembers_what_was_evicted_behind_a_door(pool: BlockPool) -> None:
    text = [*SHARED[:8], 1, 1, 1, 1]
    one = grown(pool, text, ONE)
    one.truncate(8)
    two = grown(pool, [0] * 4 * 22, TWO)
    assert explain(pool, text, ONE).evicted
    assert not explain(pool, text, TWO).evicted
    pool.audit([one, two])


@pytest.mark.parametrize(
    ("prefix", "gone"),
    [
        ([], 4), (SHARED[:3], 3), (SHARED[:4], 3), (SHARED[:6], 3), (SHARED[:8], 2),
        ([*SHARED[:8], 1], 2), ([*SHARED[:8], 1, 1, 1, 1], 2), ([*SHARED[:8], 1, 1, 1, 1, 2], 2),
        ([*SHARED[:8], 2], 0), ([*SHARED[:6], 0], 1), ([7], 1),
    ],
)  # fmt: skip
def test_a_scope_forgets_its_own_and_nothing_public(
    pool: BlockPool, prefix: list[int], gone: int
) -> None:
    texts = [
        [*SHARED[:8], 1, 1, 1, 1, 2, 2, 2, 2],
        [*SHARED[:6], 0, 0],
        [7, 7, 7, 7],
    ]
    for text in texts:
        for scope in (ONE, TWO):
            grown(pool, text, scope).release()
    assert forget(pool, prefix, ONE) == gone
    pool.audit([])
    assert [found(pool, text, TWO) for text in texts] == [16, 8, 4]
    assert found(pool, SHARED, ONE) == 8
    assert sum(span.blocks for span in spans(pool, ONE).spans) == 2 + 4 - gone


def test_what_is_behind_a_door_outlives_the_public_block() -> None:
    """A collision can hide a public block; it is computed again, and all is there."""
    pool = BlockPool(16, 4, seed=0)
    pool.declare_public(SHARED)
    table = grown(pool, [*SHARED[:8], 1, 1, 1, 1], ONE)
    pool.hide(pool.blocks[table.blocks[1]])
    pool.audit([table])
    assert found(pool, [*SHARED[:8], 1, 1, 1, 1], ONE) == 4
    other = grown(pool, SHARED[:8], TWO)
    assert found(pool, [*SHARED[:8], 1, 1, 1, 1], ONE) == 12
    pool.audit([table, other])


# Over random histories: never a hit beyond the public path


def test_no_scope_finds_anothers_text_beyond_what_is_public() -> None:
    """Each scope computes texts; what it is then told to be there is its own, or public."""
    draw = random.Random(28)
    for _ in range(40):
        size = draw.choice((1, 2, 3, 4))
        pool = BlockPool(draw.choice((12, 200)), size)
        public = [draw.choices((0, 1), k=draw.randint(1, 4 * size)) for _ in range(2)]
        for prefix in public:
            pool.declare_public(prefix)
        computed: dict[bytes, list[list[int]]] = {ONE: [], TWO: []}
        tables: list[BlockTable] = []
        crossed = 0
        for _ in range(60):
            scope = draw.choice((ONE, TWO))
            text = draw.choice(public)[: draw.randint(0, 4 * size)]
            text = [*text, *draw.choices((0, 1), k=draw.randint(1, 2 * size))]
            table = BlockTable(pool, scope)
            length = table.adopt(text)
            mine = max((agreed(text, other) for other in computed[scope]), default=0)
            allowed = max(agreed(text, prefix[: len(prefix) // size * size]) for prefix in public)
            assert length <= max(mine, allowed)
            crossed += length > mine
            if len(text) - length <= size * (pool.available - 1):
                grow(table, text[length:])
                computed[scope].append(text)
            tables.append(table)
            while len(tables) > 3:
                tables.pop(draw.randrange(len(tables))).release()
            pool.audit(tables)
        assert crossed or all(len(prefix) < size for prefix in public)


def agreed(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


# The audit


class Scene:
    """Block 0 and 1 are public, 2 is behind the door of ONE, 3 behind that of TWO; 4 stands at the
    start of TWO, and 5 is open behind the door of ONE."""

    def __init__(self) -> None:
        self.pool = BlockPool(12, 4, seed=0)
        self.pool.declare_public(SHARED)
        self.one = grown(self.pool, [*SHARED[:8], 0, 0, 0, 0], ONE)
        self.two = grown(self.pool, [*SHARED[:8], 0, 0, 0, 0], TWO)
        self.apart = grown(self.pool, [7] * 4, TWO)
        self.part = grown(self.pool, [*SHARED[:8], 3, 3], ONE)
        self.pool.expect([*SHARED[:8], 0, 0, 0, 0], 1, ONE)
        self.pool.expect([7] * 4, 1, TWO)
        self.tables: list[Holder] = [self.one, self.two, self.apart, self.part]
        self.blocks = self.pool.blocks

    def place(self, depth: int) -> PublicPath:
        return self.pool.public.walk()[depth]


def moved(scene: Scene, id: int, parent: int | bytes | Door) -> None:
    """A block, with all that the index knows of it, to another parent."""
    block, index = scene.blocks[id], scene.pool.index
    tokens = block.tokens
    if block.serial:
        index.unseal(block)
        above = {PUBLIC: scene.pool.chain.start} | {b.serial: b.key for b in scene.blocks[:2]}
        key = above[parent] if isinstance(parent, int) else b""
        if isinstance(parent, bytes):
            key = scene.pool.chain.root(parent)
        if isinstance(parent, Door):
            key = scene.pool.chain.enter(scene.blocks[1].key, parent.scope)
        serial, index._serial = index._serial, block.serial - 1
        block.parent = None
        index.seal(block, scene.pool.chain.extend(key, tokens), parent)
        index._serial = serial
    else:
        index.close(block)
        index.expose(block, parent)


def test_the_scene_is_lawful() -> None:
    scene = Scene()
    scene.pool.audit(scene.tables)
    assert [block.public is not None for block in scene.blocks[:6]] == [True] * 2 + [False] * 4
    end = scene.place(2)
    parents = [block.parent for block in scene.blocks[:6]]
    serials = [block.serial for block in scene.blocks]
    assert parents == [PUBLIC, serials[0], Door(end, ONE), Door(end, TWO), TWO, Door(end, ONE)]


FAULTS: dict[str, Callable[[Scene], object]] = {
    "a public block behind a door": lambda s: (
        moved(s, 0, ONE), setattr(s.blocks[0], "public", None)
    ),
    "a private block in public": lambda s: moved(s, 4, PUBLIC),
    "a private block behind a public one": lambda s: moved(s, 2, s.blocks[1].serial),
    "called public": lambda s: setattr(s.blocks[2], "public", s.place(1)),
    "called private": lambda s: setattr(s.blocks[1], "public", None),
    "at another place": lambda s: setattr(s.blocks[0], "public", s.place(2)),
    "an open block in public": lambda s: moved(s, 5, s.blocks[1].serial),
    "an open block at the public start": lambda s: moved(s, 5, PUBLIC),
    "an open block called public": lambda s: setattr(s.blocks[5], "public", s.place(1)),
    "a door of the start": lambda s: moved(s, 5, Door(s.place(0), ONE)),
    "a door that is none": lambda s: moved(s, 5, Door(PublicPath(), ONE)),
    "more is declared": lambda s: s.pool.public.declare([7] * 4, 4),
    "nothing is declared": lambda s: s.place(0)._below.clear(),
    "expected in public": lambda s: s.pool.plan.places[PUBLIC].below.update(
        {(7,) * 4: s.pool.plan.places[TWO].below[(7,) * 4]}
    ),
    "expected behind a door": lambda s: s.pool.plan.places[TWO].below.update(
        {(1, 2, 3, 4): s.pool.plan.places[PUBLIC].below[(1, 2, 3, 4)]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_audit_knows_the_rule(fault: Callable[[Scene], object]) -> None:
    scene = Scene()
    fault(scene)
    assert any(public_is_declared(scene.pool, scene.tables))


TABLE_FAULTS: dict[str, Callable[[Scene], object]] = {
    "a block of another scope": lambda s: (
        s.one.blocks.__setitem__(2, 3), s.two.blocks.__setitem__(2, 2)
    ),
    "in another scope's hands": lambda s: setattr(s.one, "scope", TWO),
    "a public block of no prefix": lambda s: s.place(1)._below.clear(),
    "called private": lambda s: setattr(s.blocks[1], "public", None),
}  # fmt: skip


@pytest.mark.parametrize("fault", TABLE_FAULTS.values(), ids=TABLE_FAULTS)
def test_a_table_goes_through_its_own_doors(fault: Callable[[Scene], object]) -> None:
    scene = Scene()
    fault(scene)
    assert any(tables_are_paths(scene.pool, scene.tables))
