"""The cache against its model, driven by Hypothesis: every rule is something an engine does.

After every rule the audit runs, every table is read through the shadow store (the master oracle: it
must hold exactly its own text), and, where keys cannot collide, blocks, counters and the order of
eviction are compared with the model's.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from cache_model import Row
from cache_world import World
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

SCOPES = (b"one", b"two", b"")
MAX_ROWS = 10

TOKEN = st.sampled_from((0, 0, 1, 2))
PICK = st.integers(0, MAX_ROWS - 1)
# Prefixes that all scopes share. Most texts here begin with zeros.
PUBLIC = st.lists(
    st.tuples(st.integers(0, 33), st.lists(TOKEN, max_size=4)).map(lambda t: [0] * t[0] + t[1]),
    max_size=3,
)
# Lengths in blocks and a rest, so that the edges of blocks come up at any block size.
LENGTH = st.tuples(st.integers(0, 2), st.sampled_from((-1, 0, 0, 1, 2)))
EXECUTED: Counter[str] = Counter()


def act(**draws: st.SearchStrategy[object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that is counted, and leaves a row for the next one to act on."""

    def wrap(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def counted(self: "CacheMachine", **drawn: object) -> None:
            EXECUTED[method.__name__] += 1
            method(self, **drawn)
            if not self.world.rows:
                self.world.add(self.scopes[0])

        return rule(**cast("Any", draws))(counted)

    return wrap


class CacheMachine(RuleBasedStateMachine):
    """Rows are picked by number, so that every rule can be tried at any time."""

    world: World

    @initialize(
        num_blocks=st.sampled_from((4, 7, 16, 64)),
        size=st.sampled_from((1, 2, 3, 8, 16)),
        scopes=st.integers(1, 3),
        bits=st.sampled_from((128, 128, 128, 128, 8, 2, 0)),
        sharing=st.sampled_from((True,) * 7 + (False,)),
        places=st.sampled_from((None, None, None, 0, 1, 5)),
        public=st.one_of(st.just([]), PUBLIC),
    )
    def start(
        self,
        num_blocks: int,
        size: int,
        scopes: int,
        bits: int,
        sharing: bool,
        places: int | None,
        public: list[list[int]],
    ) -> None:
        self.world = World(
            num_blocks, size, bits=bits, sharing=sharing, places=places, public=public
        )
        self.scopes = SCOPES[:scopes]
        self.preempted: list[tuple[bytes, list[int]]] = []
        for place in range(4):
            self.world.add(self.scopes[place % scopes])

    def idle(self) -> list[Row]:
        return [row for row in self.world.rows if row.wanted is None]

    def busy(self) -> list[Row]:
        return [row for row in self.world.rows if row.wanted is not None]

    def length(self, drawn: tuple[int, int]) -> int:
        return max(drawn[0] * self.world.size + drawn[1], 0)

    def room(self) -> int:
        return MAX_ROWS - len(self.world.rows)

    @precondition(lambda self: self.room())
    @act(scope=PICK, text=st.lists(TOKEN, max_size=40), cut=LENGTH, announced=st.booleans())
    def add(self, scope: int, text: list[int], cut: tuple[int, int], announced: bool) -> None:
        """A prompt comes in, takes what is there and computes the rest."""
        row = self.world.add(self.scopes[scope % len(self.scopes)])
        self.world.adopt(row, text[: self.length(cut)])
        rest = text[len(row.tokens) :][: self.length(cut) + 1]
        if announced:
            self.world.announce(row, rest)
        if self.world.reserve(row, len(rest)):
            self.world.run(row, rest)

    @precondition(lambda self: self.room() and self.world.rows)
    @act(pick=PICK, length=LENGTH, more=st.lists(TOKEN, max_size=20))
    def add_with_hit(self, pick: int, length: tuple[int, int], more: list[int]) -> None:
        """A prompt that begins like another one, of the same tenant or not."""
        model = self.world.rows[pick % len(self.world.rows)]
        row = self.world.add(self.scopes[pick % len(self.scopes)])
        self.world.adopt(row, model.tokens[: self.length(length)] + more)

    @precondition(lambda self: self.idle())
    @act(pick=PICK, more=st.lists(TOKEN, max_size=20))
    def extend_by_hit(self, pick: int, more: list[int]) -> None:
        self.world.adopt(self.idle()[pick % len(self.idle())], more)

    @precondition(lambda self: self.idle())
    @act(pick=PICK, chunk=st.lists(TOKEN, max_size=40), length=LENGTH)
    def extend_by_chunk(self, pick: int, chunk: list[int], length: tuple[int, int]) -> None:
        row, chunk = self.idle()[pick % len(self.idle())], chunk[: self.length(length)]
        if self.world.reserve(row, len(chunk)):
            self.world.run(row, chunk)

    @precondition(lambda self: self.idle())
    @act(pick=PICK, tokens=st.lists(TOKEN, min_size=1, max_size=5))
    def append(self, pick: int, tokens: list[int]) -> None:
        row = self.idle()[pick % len(self.idle())]
        for token in tokens:
            if self.world.reserve(row, 1):
                self.world.run(row, [token])

    @precondition(lambda self: self.idle())
    @act(pick=PICK, length=LENGTH)
    def reserve(self, pick: int, length: tuple[int, int]) -> None:
        self.world.reserve(self.idle()[pick % len(self.idle())], self.length(length))

    @precondition(lambda self: self.busy())
    @act(pick=PICK, tokens=st.lists(TOKEN, max_size=40))
    def commit_step(self, pick: int, tokens: list[int]) -> None:
        row = self.busy()[pick % len(self.busy())]
        self.world.run(row, tokens[: row.wanted])

    @precondition(lambda self: self.busy())
    @act(pick=PICK, written=st.booleans())
    def fail_step(self, pick: int, written: bool) -> None:
        self.world.fail(self.busy()[pick % len(self.busy())], written)

    @precondition(lambda self: self.idle())
    @act(order=st.permutations(range(MAX_ROWS)), failing=PICK, token=TOKEN, drawn=st.integers(1, 3))
    def step_together(self, order: list[int], failing: int, token: int, drawn: int) -> None:
        """Many rows reserve before the first of them commits, and one fails."""
        idle = self.idle()
        rows = [idle[place] for place in order if place < len(idle)]
        rows = [row for row in rows if self.world.reserve(row, drawn)]
        for place, row in enumerate(rows):
            if place == failing:
                self.world.fail(row)
            else:
                self.world.run(row, [token, *range(place % 3, drawn)][:drawn])

    @precondition(lambda self: self.idle())
    @act(pick=PICK)
    def allocator_fails(self, pick: int) -> None:
        """More than there is: refused, and nothing changes."""
        row = self.idle()[pick % len(self.idle())]
        assert not self.world.reserve(row, (self.world.pool.available + 1) * self.world.size)

    @precondition(lambda self: self.idle() and self.room())
    @act(pick=PICK, count=st.integers(1, 4), nested=st.booleans())
    def fork(self, pick: int, count: int, nested: bool) -> None:
        row = self.idle()[pick % len(self.idle())]
        before = [self.world.pool.blocks[id].owners for id in row.table.blocks]
        count = min(count, self.room())
        for _ in range(count):
            child = self.world.fork(row)
            row = child if nested else row
        after = [self.world.pool.blocks[id].owners for id in row.table.blocks]
        assert after == [owners + count for owners in before]

    @precondition(lambda self: self.idle())
    @act(pick=PICK)
    def keep_one(self, pick: int) -> None:
        kept = self.idle()[pick % len(self.idle())]
        for row in self.world.rows.copy():
            if row is not kept and row.tokens[:1] == kept.tokens[:1]:
                self.world.release(row)

    @precondition(lambda self: self.idle())
    @act(picks=st.lists(PICK, min_size=1, max_size=5))
    def reorder_beams(self, picks: list[int]) -> None:
        """Every beam becomes a child of some beam; some have several children, some none."""
        beams = self.idle()[: MAX_ROWS // 2]
        picks = picks[: self.room()]
        for pick in picks:
            self.world.fork(beams[pick % len(beams)])
        for beam in beams:
            self.world.release(beam)

    @precondition(lambda self: self.idle())
    @act(pick=PICK)
    def free(self, pick: int) -> None:
        self.world.release(self.idle()[pick % len(self.idle())])

    @precondition(lambda self: self.busy())
    @act(pick=PICK)
    def abort(self, pick: int) -> None:
        """The caller hangs up between reserve and commit."""
        self.world.release(self.busy()[pick % len(self.busy())])

    @precondition(lambda self: self.world.rows)
    @act(pick=PICK)
    def preempt(self, pick: int) -> None:
        row = self.world.rows[pick % len(self.world.rows)]
        self.preempted.append((row.scope, row.tokens.copy()))
        self.world.release(row)

    @precondition(lambda self: self.preempted and self.room())
    @act()
    def resume(self) -> None:
        scope, tokens = self.preempted.pop(0)
        row = self.world.add(scope)
        self.world.adopt(row, tokens)
        rest = tokens[len(row.tokens) :]
        if self.world.reserve(row, len(rest)):
            self.world.run(row, rest)
            assert row.tokens == tokens

    @precondition(lambda self: self.idle())
    @act(pick=PICK, back=LENGTH)
    def truncate(self, pick: int, back: tuple[int, int]) -> None:
        row = self.idle()[pick % len(self.idle())]
        self.world.truncate(row, max(len(row.tokens) - self.length(back), 0))

    @precondition(lambda self: self.world.rows)
    @act(pick=PICK, text=st.lists(TOKEN, max_size=40))
    def announce(self, pick: int, text: list[int]) -> None:
        self.world.announce(self.world.rows[pick % len(self.world.rows)], text)

    @precondition(lambda self: self.world.rows)
    @act(pick=PICK, text=st.lists(TOKEN, max_size=40))
    def ask(self, pick: int, text: list[int]) -> None:
        """May two rows wait for each other? They must not."""
        row = self.world.rows[pick % len(self.world.rows)]
        tokens = row.tokens + text
        twins = [other for other in self.world.rows if tokens[: len(other.tokens)] == other.tokens]
        for twin in twins:
            self.world.awaits(twin, tokens[len(twin.tokens) :])

    @precondition(lambda self: self.world.rows and len(self.world.expectations) < MAX_ROWS)
    @act(pick=PICK, cut=LENGTH, more=st.lists(TOKEN, max_size=20), use=st.integers(-1, 5))
    def expect(self, pick: int, cut: tuple[int, int], more: list[int], use: int) -> None:
        """A text that begins like a row's is expected, of the same tenant or not."""
        row = self.world.rows[pick % len(self.world.rows)]
        scope = self.scopes[use % len(self.scopes)]
        self.world.expect(scope, row.tokens[: self.length(cut)] + more, use)

    @precondition(lambda self: self.world.expectations)
    @act(pick=PICK)
    def drop(self, pick: int) -> None:
        self.world.drop(pick % len(self.world.expectations))

    @precondition(lambda self: self.world.rows)
    @act(pick=PICK)
    def misuse(self, pick: int) -> None:
        self.world.misuse(self.world.rows[pick % len(self.world.rows)])

    @precondition(lambda self: self.world.pool.cached)
    @act()
    def clear(self) -> None:
        self.world.clear()

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()


def run(examples: int, steps: int, capsys: pytest.CaptureFixture[str]) -> int:
    EXECUTED.clear()
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    with capsys.disabled():
        print(f"\n{EXECUTED.total()} steps: {dict(EXECUTED.most_common())}")
    return EXECUTED.total()


def test_the_cache_is_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(460, 100, capsys) >= 30_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_cache_is_its_model_at_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(4_500, 200, capsys) >= 600_000
    assert min(EXECUTED.values()) >= 1_000
