"""Refuses at once what certainly cannot run: a context that is too long, or too large for the pool.

Knows graphs and how much room an engine has. Nothing is computed, and what is merely likely to be
too long is let through.
"""

from ramet.graph import Graph
from ramet.nodes import Gen, Keep, Sample
from ramet.passes.bounds import Need, needs
from ramet.passes.rewrite import ledger_of
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import CapacityError, ContextLengthError, RequestError
from ramet.runtime.tokenizer import Piece


def admit(core: EngineCore, graph: Graph) -> None:
    """Let a legal graph, or what a run begins with, through.

    Raises:
        ContextLengthError: a draw certainly has more before it than the context holds.
        CapacityError: a draw certainly needs more blocks than the pool has.
    """
    if all(_refusal(core, graph, need) is None for need in needs(graph, _bytes)):
        return  # tokens have a byte each at least
    for need in _certain(core, graph):
        if (error := _refusal(core, graph, need)) is not None:
            if (span := graph.nodes[need.node].span) is not None:
                error.add_note(f"in the program at {span}")
            raise error


def _certain(core: EngineCore, graph: Graph) -> list[Need]:
    """What draws need; those on states that a keep may end before they draw are left out."""
    tokenizer, ledger = core.tokenizer, ledger_of(graph)
    kept = {ledger.begun[node.branch] for node in graph.nodes if isinstance(node, Keep)}
    ended = ledger.released.keys() - kept

    def count(text: str) -> int:
        return len(tokenizer.encode([Piece(text, control=False)], start=False))

    return [need for need in needs(graph, count) if ledger.begun[need.node] not in ended]


def _refusal(core: EngineCore, graph: Graph, need: Need) -> RequestError | None:
    draws = isinstance(graph.nodes[need.node], Gen | Sample)
    if need.context + draws > core.context:
        return ContextLengthError(need.context, core.context)
    room = min(need.room, core.context)
    blocks = -(-room // core.pool.block_size) + 1  # a shared tail may have to be copied
    if blocks > core.pool.num_blocks:
        return CapacityError(room, blocks, core.pool.num_blocks)
    return None


def _bytes(text: str) -> int:
    return len(text.encode())
