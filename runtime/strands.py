"""The bodies of one program, which wait like threads would, without any.

A strand is a greenlet: a body, or a branch of one that runs beside the others. It switches back to
whoever drives the run when it needs a value, and is switched to again when the value is there.
Knows no program and no engine.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from greenlet import greenlet


@dataclass(eq=False, slots=True)
class Strand:
    """One body on its way."""

    greenlet: greenlet
    parent: "Strand | None" = None
    children: "dict[Strand, None]" = field(default_factory=dict)  # it waits for all of them
    reading: int | None = None  # the value that it waits for
    error: BaseException | None = None


class Strands:
    """A body with those that it started. Driven by `run`; `wait` and `together` are for bodies."""

    def __init__(self, is_there: Callable[[int], bool]) -> None:
        self._is_there = is_there
        self._driver = greenlet.getcurrent()
        self._live: dict[Strand, None] = {}  # in the order in which they began
        self._current: Strand | None = None
        self.error: BaseException | None = None  # what ended the first body
        self.paused = False  # whether a body has let others go first

    def start(self, body: Callable[[], object], variables: Context | None) -> None:
        """The first body; it sees these context variables, or those of here."""
        self._live[self._strand(body, None, variables)] = None

    @property
    def over(self) -> bool:
        """Whether every body has ended."""
        return not self._live

    @property
    def ready(self) -> bool:
        """Whether a body can go on."""
        return any(map(self._can_go_on, self._live))

    def run(self) -> None:
        """Let every body go on that can, until it waits or ends."""
        self._driver = greenlet.getcurrent()
        self.paused = False
        for strand in list(self._live):
            if self._can_go_on(strand) and strand in self._live:
                self._switch(strand)

    def wait(self, node: int) -> bool:
        """Called in a body: wait for the value of that node. False if this is no body."""
        strand = self._current
        if strand is None or greenlet.getcurrent() is not strand.greenlet:
            return False
        while not self._is_there(node):
            strand.reading = node
            self._driver.switch()
        strand.reading = None
        return True

    def pause(self) -> None:
        """Called in a body: let others go first; it can go on at once."""
        strand = self._current
        if strand is not None and greenlet.getcurrent() is strand.greenlet:
            self.paused = True
            self._driver.switch()

    def together(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Called in a body: run these beside each other; raises what one of them raises."""
        strand = self._current
        assert strand is not None, "only a running body starts others"
        strand.children = {self._strand(body, strand, copy_context()): None for body in bodies}
        self._live |= strand.children
        while strand.children:
            self._driver.switch()

    def close(self) -> None:
        """Unwind what is still on its way; what that raises is nobody's concern."""
        self._driver = greenlet.getcurrent()
        while self._live:
            self._unwind(self._live.popitem()[0])

    # -- how

    def _strand(
        self, body: Callable[[], object], parent: Strand | None, variables: Context | None
    ) -> Strand:
        def run() -> None:
            try:
                body()
            except BaseException as error:
                strand.error = error

        strand = Strand(greenlet(run), parent)
        strand.greenlet.gr_context = variables or copy_context()  # a greenlet starts without any
        return strand

    def _can_go_on(self, strand: Strand) -> bool:
        if strand.children:
            return False
        return strand.reading is None or self._is_there(strand.reading)

    def _switch(self, strand: Strand, error: BaseException | None = None) -> None:
        strand.greenlet.parent = self._driver
        self._current = strand
        try:
            if error is None:
                strand.greenlet.switch()
            else:
                strand.greenlet.throw(error)
        finally:
            self._current = None
        if strand.greenlet.dead:
            self._ended(strand)

    def _ended(self, strand: Strand) -> None:
        del self._live[strand]
        parent = strand.parent
        if parent is None:
            self.error = strand.error
        elif strand.error is None:
            del parent.children[strand]
        else:
            siblings, parent.children = parent.children, {}
            for sibling in siblings:
                self._give_up(sibling)
            self._switch(parent, strand.error)

    def _give_up(self, strand: Strand) -> None:
        if strand in self._live:
            del self._live[strand]
            self._unwind(strand)

    def _unwind(self, strand: Strand) -> None:
        for child in strand.children:
            self._give_up(child)
        with suppress(Exception):  # also that another thread has begun it, and alone can end it
            strand.greenlet.parent = self._driver
            strand.greenlet.throw()
