"""Who takes the nodes of a program that is being run: the seam between the language and a runtime.

A `State` hands every node to its recorder at once, and asks it for values. `GraphRecorder` only
collects, and has no values; a runtime's recorder also computes.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ramet.callsite import callsite
from ramet.errors import TraceError
from ramet.graph import Graph
from ramet.ledger import Ledger
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.nodes import Binding, Call, Fork, Input, Keep, Node, Result, Root, Sample
from ramet.verify import check, check_result


class Recorder(Protocol):
    """What a `State` needs. All raise what went wrong; none is called from two threads."""

    meter: Meter

    def add(self, node: Node) -> int:
        """Take the next node, and give its id; `GraphError` if it breaks a law."""
        ...

    def binds(self, node: int) -> Binding | Input:
        """The node that says what kind of value that node binds."""
        ...

    def read(self, node: int) -> object:
        """The value which that node binds, waiting for it if need be."""
        ...

    def info(self, node: int) -> object:
        """An object whose attributes are those of the value, waiting for it if need be."""
        ...

    def together(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Run the bodies side by side: one that waits for a value does not keep the others.

        Comes back when all have ended; raises what the first that failed raised.
        """
        ...

    def dropped(self, node: int) -> None:
        """Nobody can name the state after that node any more; told from any thread."""
        ...


class GraphRecorder:
    """Collects the nodes of one program into a graph. A value cannot be read: nothing runs."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter = meter or Meter(Limits())
        self._ledger = Ledger()
        self.add(Root())

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._ledger.nodes)

    def add(self, node: Node) -> int:
        check(self._ledger, node)
        self._count(node)  # what is over a limit is not entered either
        return self._ledger.note(node)

    def _count(self, node: Node) -> None:
        match node:
            case Fork() | Sample():
                self.meter.begin(node.count, node.span)
            case Call():
                self.meter.begin(1, node.span)
            case Keep(branch=branch):
                fork = self._ledger.fork_of(branch)
                kept = None if fork is None else self._ledger.nodes[fork]
                self.meter.end(kept.count if isinstance(kept, Fork | Sample) else 0)
            case _:
                pass

    def together(self, bodies: Sequence[Callable[[], None]]) -> None:
        for body in bodies:
            body()

    def dropped(self, node: int) -> None:
        pass

    def read(self, node: int) -> object:
        raise TraceError(self.binds(node).name, callsite())

    def info(self, node: int) -> object:
        raise TraceError(self.binds(node).name, callsite())

    def binds(self, node: int) -> Binding | Input:
        bound = self._ledger.binds(node)
        assert bound is not None, "only nodes that bind a value are ever referred to"
        return bound

    def graph(self, name: str, result: Result = None) -> Graph:
        """What was collected so far, as the graph of a program with that name and result."""
        check_result(self._ledger, result)
        return Graph(name, self.nodes, result)
