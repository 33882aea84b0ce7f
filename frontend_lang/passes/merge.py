"""Neighbouring texts of one state become one text: they are tokenized together anyway.

Two texts are neighbours when nothing but the second comes after the first: no branch, no call, and
no keep. The one text has the place in the source of the first.
"""

from collections import Counter
from dataclasses import replace

from ramet.graph import Graph
from ramet.nodes import Keep, Node, Step, Text
from ramet.passes.rewrite import joined, rewrite


def merge(graph: Graph) -> Graph:
    """The graph with neighbouring texts, and neighbouring strings in them, as one."""
    followers = Counter(node.state for node in graph.nodes if isinstance(node, Step))
    followers.update(node.branch for node in graph.nodes if isinstance(node, Keep))
    rows: dict[int, Node] = {}
    for id, node in enumerate(graph.nodes):
        if isinstance(node, Text):
            first = rows.get(node.state)
            if isinstance(first, Text) and followers[node.state] == 1:
                del rows[node.state]
                node = replace(first, parts=(*first.parts, *node.parts))
            node = replace(node, parts=joined(node.parts))
        rows[id] = node
    return rewrite(graph, rows.items())
