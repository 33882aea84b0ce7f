"""The canonical order of the nodes: graphs that only differ in who was recorded first become equal.

The place of a node is its place in the tree of states: after a node come its branches one after
the other, each with all under it, then what is called there, then what goes on from it. The order
is the one by place, but for nodes that have to wait for another: those come as soon as they may.
"""

from collections import defaultdict
from heapq import heappop, heappush

from ramet.graph import Graph
from ramet.ledger import Ledger
from ramet.nodes import Branch, Call, Input, Keep, Node, Step
from ramet.passes.rewrite import ledger_of, refs_of, rewrite


def order(graph: Graph) -> Graph:
    """The graph with its nodes in the canonical order."""
    place = {id: at for at, id in enumerate(_places(graph))}
    waits = _waits(graph, ledger_of(graph))
    missing = {id: len(needed) for id, needed in enumerate(waits)}
    waiting: dict[int, list[int]] = defaultdict(list)
    for id, needed in enumerate(waits):
        for each in needed:
            waiting[each].append(id)
    ready = [(0, 0)]
    rows: list[tuple[int, Node]] = []
    while ready:
        _, id = heappop(ready)
        rows.append((id, graph.nodes[id]))
        for later in waiting[id]:
            missing[later] -= 1
            if missing[later] == 0:
                heappush(ready, (place[later], later))
    return rewrite(graph, rows)


def _places(graph: Graph) -> list[int]:
    """All ids by place: the root, the inputs by name, then the tree of states."""
    after: dict[int, list[tuple[tuple[int, int], int]]] = defaultdict(list)
    inputs: list[tuple[str, int]] = []
    for id, node in enumerate(graph.nodes):
        match node:
            case Branch(state=state, index=index):
                after[state].append(((0, index), id))
            case Call(state=state):
                after[state].append(((1, id), id))
            case Step(state=state):
                after[state].append(((2, 0), id))
            case Input(name=name):
                inputs.append((name, id))
            case _:
                pass
    found: list[int] = []
    stack = [0]
    while stack:
        id = stack.pop()
        found.append(id)
        stack += [each for _, each in sorted(after[id], reverse=True)]
    return [0, *(id for _, id in sorted(inputs)), *found[1:]]


def _waits(graph: Graph, ledger: Ledger) -> list[set[int]]:
    """For each node, those that have to come before it.

    Calls from one state keep their order, since it gives them their names; and a keep comes after
    all nodes on the states that it ends.
    """
    waits: list[set[int]] = []
    last_call: dict[int, int] = {}
    for id, node in enumerate(graph.nodes):
        needed = {ref.node for ref in refs_of(node)}
        if id > 0:
            needed.add(node.state if isinstance(node, Step) else 0)
        if isinstance(node, Keep):
            needed.add(node.branch)
        if isinstance(node, Call):
            caller = ledger.begun[node.state]
            needed |= {last_call[caller]} if caller in last_call else set()
            last_call[caller] = id
        waits.append(needed)
    for id, begun in enumerate(ledger.begun):
        if begun in ledger.released:
            waits[ledger.released[begun]].add(id)
    return waits
