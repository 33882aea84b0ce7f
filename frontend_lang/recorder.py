"""Who takes the nodes of a program that is being run: the seam between the language and a runtime.

A `State` hands every node to its recorder at once, and asks it for values. `GraphRecorder` only
collects, and has no values; a runtime's recorder also computes.
"""

from typing import Protocol

from ramet.callsite import callsite
from ramet.errors import TraceError
from ramet.graph import Graph
from ramet.nodes import Gen, Node, Result, Root, Select
from ramet.verify import Ledger, check_result


class Recorder(Protocol):
    """What a `State` needs. All three raise what went wrong; none is called from two threads."""

    def add(self, node: Node) -> int:
        """Take the next node, and give its id; `GraphError` if it breaks a law."""
        ...

    def read(self, node: int) -> object:
        """The value which that node binds, waiting for it if need be."""
        ...

    def info(self, node: int) -> object:
        """An object whose attributes are those of the value, waiting for it if need be."""
        ...


class GraphRecorder:
    """Collects the nodes of one program into a graph. A value cannot be read: nothing runs."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self.add(Root())

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._ledger.nodes)

    def add(self, node: Node) -> int:
        return self._ledger.add(node)

    def read(self, node: int) -> object:
        raise TraceError(self.name_of(node), callsite())

    def info(self, node: int) -> object:
        raise TraceError(self.name_of(node), callsite())

    def name_of(self, node: int) -> str:
        """The variable which that node binds."""
        bound = self._ledger.nodes[node]
        assert isinstance(bound, Gen | Select), "only nodes that bind a value are ever referred to"
        return bound.name

    def graph(self, name: str, result: Result = None) -> Graph:
        """What was collected so far, as the graph of a program with that name and result."""
        check_result(self._ledger.nodes, result)
        return Graph(name, self.nodes, result)
