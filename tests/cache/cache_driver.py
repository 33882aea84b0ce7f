"""A seeded stream of operations on a world, without Hypothesis: many more steps a second.

`python cache_driver.py SEED STEPS` prints every block id that was seen, for the test of replay.
"""

import random
import sys

from cache_world import Row, World

BLOCK_SIZES = (1, 2, 3, 8, 16)
POOLS = (4, 7, 16, 64)
MAX_ROWS = 9
MAX_EXPECTED = 8


class Driver:
    """Draws operations from `seed` and lets the world do them."""

    def __init__(self, seed: int, *, bits: int = 128, sharing: bool = True) -> None:
        self.draw = random.Random(seed)
        self.size = self.draw.choice(BLOCK_SIZES)
        places = self.draw.choice((None, None, None, 0, 1, 5))
        blocks = self.draw.choice(POOLS)
        public = [self.public() for _ in range(self.draw.choice((0, 0, 1, 1, 2, 3)))]
        self.world = World(
            blocks, self.size, bits=bits, sharing=sharing, places=places, public=public
        )
        self.scopes = [b"one", b"two", b""][: self.draw.randint(1, 3)]
        self.operations = [
            *[self.admit] * 3,
            *[self.decode] * 6,
            *[self.step_together] * 3,
            self.reserve,
            self.finish,
            self.finish,
            self.fork,
            self.truncate,
            self.release,
            self.announce,
            self.adopt,
            self.expect,
            self.expect,
            self.drop,
            self.clear,
        ]

    def step(self) -> None:
        self.draw.choice(self.operations)()

    def tokens(self, count: int) -> list[int]:
        return [self.draw.choice((0, 0, 0, 1, 2)) for _ in range(count)]

    def public(self) -> list[int]:
        """A prefix that prompts have a chance to begin with."""
        tokens = [0] * self.draw.randint(0, 2 * self.size + 1)
        return tokens + self.tokens(self.draw.randint(0, self.size))

    def count(self) -> int:
        size = self.size
        return self.draw.choice((0, 1, 1, size - 1, size, size + 1, 2 * size, 2 * size + 1))

    def idle(self) -> list[Row]:
        return [row for row in self.world.rows if row.wanted is None]

    def busy(self) -> list[Row]:
        return [row for row in self.world.rows if row.wanted is not None]

    def admit(self) -> None:
        """What an engine does with a new prompt."""
        if len(self.world.rows) == MAX_ROWS:
            return self.world.release(self.draw.choice(self.world.rows))
        row = self.world.add(self.draw.choice(self.scopes))
        prompt = self.tokens(1 + self.count())
        self.world.adopt(row, prompt[:-1])
        rest = prompt[len(row.tokens) :]
        self.world.announce(row, rest)
        if self.world.reserve(row, len(rest)) and self.draw.random() < 0.9:
            self.world.run(row, rest)
        return None

    def decode(self) -> None:
        if idle := self.idle():
            row = self.draw.choice(idle)
            if self.world.reserve(row, 1):
                self.world.run(row, self.tokens(1))

    def step_together(self) -> None:
        """Several rows reserve before any of them commits; one may fail."""
        idle = self.idle()
        rows = self.draw.sample(idle, self.draw.randint(0, len(idle)))
        rows = [row for row in rows if self.world.reserve(row, self.draw.choice((1, 1, 1, 2)))]
        self.draw.shuffle(rows)
        for row in rows:
            if self.draw.random() < 0.1:
                self.world.fail(row)
            else:
                self.world.run(row, self.tokens(row.wanted or 0))

    def reserve(self) -> None:
        if idle := self.idle():
            self.world.reserve(self.draw.choice(idle), self.count())

    def finish(self) -> None:
        if busy := self.busy():
            row = self.draw.choice(busy)
            if self.draw.random() < 0.3:
                self.world.fail(row, written=self.draw.random() < 0.5)
            else:
                self.world.run(row, self.tokens(self.draw.randint(0, row.wanted or 0)))

    def fork(self) -> None:
        if (idle := self.idle()) and len(self.world.rows) < MAX_ROWS:
            self.world.fork(self.draw.choice(idle))

    def truncate(self) -> None:
        if idle := self.idle():
            row = self.draw.choice(idle)
            back = self.draw.choice((0, 1, 1, self.size, len(row.tokens)))
            self.world.truncate(row, max(len(row.tokens) - back, 0))

    def release(self) -> None:
        if self.world.rows:
            self.world.release(self.draw.choice(self.world.rows))

    def announce(self) -> None:
        if self.world.rows:
            row = self.draw.choice(self.world.rows)
            self.world.announce(row, self.tokens(self.count()))
            self.world.awaits(self.draw.choice(self.world.rows), self.tokens(self.count()))

    def adopt(self) -> None:
        if idle := self.idle():
            row = self.draw.choice(idle)
            self.world.misuse(row)
            self.world.adopt(row, self.tokens(self.count()))

    def expect(self) -> None:
        """A text like any, or one that goes on from a row's."""
        known = self.draw.choice(self.world.rows).tokens if self.world.rows else []
        known = known[: self.draw.randint(0, len(known))]
        if len(self.world.expectations) < MAX_EXPECTED:
            tokens = known + self.tokens(self.count())
            self.world.expect(self.draw.choice(self.scopes), tokens, self.draw.randint(0, 6))

    def drop(self) -> None:
        if expected := self.world.expectations:
            self.world.drop(self.draw.randrange(len(expected)))

    def clear(self) -> None:
        if self.draw.random() < 0.1:
            self.world.clear()


def main() -> None:
    seed, steps = map(int, sys.argv[1:])
    driver = Driver(seed)
    for _ in range(steps):
        driver.step()
        print([row.table.blocks for row in driver.world.rows], list(driver.world.pool.cached))


if __name__ == "__main__":
    main()
