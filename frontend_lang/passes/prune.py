"""Leaves out what nobody can observe.

Observable is every value, with what led to it: a state that binds a value stays, with all of its
text and all states that it began on, and so does the program's own state. So what goes is

* branches, and calls, on which and under which nothing is bound, and which are not kept; but not a
  call before another one that stays, which is numbered by those before it,
* forks without a branch, where nothing after them on the state counts its place (a draw depends on
  how many draws and forks came before it on its state),
* inputs that nobody refers to; the graph takes no argument for them any more.

What goes would have computed nothing: text alone is never run through a model.
"""

from ramet.graph import Graph
from ramet.ledger import Ledger
from ramet.nodes import COUNTED, Branch, Call, Fork, Gen, Input, Keep, Sample, Score, Select
from ramet.passes.rewrite import ledger_of, refs_in, rewrite


def prune(graph: Graph) -> Graph:
    """The graph without what nobody can observe."""
    ledger = ledger_of(graph)
    seen = _observed(graph, ledger)
    rows = [(id, node) for id, node in enumerate(graph.nodes) if ledger.begun[id] in seen]
    forked = {node.state for _, node in rows if isinstance(node, Branch)}
    counted: set[int] = set()  # states on which something further down counts its place
    gone: dict[int, int] = {}
    for id, node in reversed(rows):
        state = ledger.begun[id]
        if isinstance(node, Fork) and id not in forked and state not in counted:
            gone[id] = node.state
        elif isinstance(node, COUNTED):
            counted.add(state)
    smaller = rewrite(graph, [row for row in rows if row[0] not in gone], gone)
    used = {ref.node for ref in refs_in(smaller)}
    return rewrite(
        smaller,
        (
            (id, node)
            for id, node in enumerate(smaller.nodes)
            if not isinstance(node, Input) or id in used
        ),
    )


def _observed(graph: Graph, ledger: Ledger) -> set[int]:
    """The states, by the node that each begins with, that have to stay."""
    seen = {0}

    def see(state: int) -> None:
        while state not in seen:
            seen.add(state)
            begin = graph.nodes[state]
            assert isinstance(begin, Branch | Call), "a state begins with a branch or a call"
            state = ledger.begun[begin.state]

    for id, node in enumerate(graph.nodes):
        sampled = isinstance(node, Branch) and isinstance(graph.nodes[node.state], Sample)
        if isinstance(node, Gen | Select | Score | Sample) or sampled:
            see(ledger.begun[id])
    known = 0
    while known < len(seen):
        known = len(seen)
        numbered: set[int] = set()  # states with a later call, whose draws count those before it
        for id, node in reversed(list(enumerate(graph.nodes))):
            if isinstance(node, Keep) and ledger.begun[id] in seen:
                see(ledger.begun[node.branch])
            elif isinstance(node, Call) and id in seen:
                numbered.add(ledger.begun[node.state])
            elif isinstance(node, Call) and ledger.begun[node.state] in numbered:
                see(id)
    return seen
