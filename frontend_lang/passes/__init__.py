"""Passes over a request graph, each from a legal graph to a legal one that means the same."""

from ramet.graph import Graph
from ramet.passes.fill import fill
from ramet.passes.merge import merge
from ramet.passes.order import order
from ramet.passes.plan import Plan, StatePlan, plan
from ramet.passes.prefix import common_prefix
from ramet.passes.prune import prune

__all__ = [
    "Plan",
    "StatePlan",
    "common_prefix",
    "fill",
    "merge",
    "order",
    "plan",
    "prune",
    "simplify",
]


def simplify(graph: Graph) -> Graph:
    """The graph in its canonical form; simplifying it again changes nothing.

    What a run gives does not change: not its values, also where they are drawn.
    """
    return order(merge(prune(graph)))
