"""Neighbouring texts of one state become one text: they are tokenized together anyway.

Two texts are neighbours when nothing but the second comes after the first: no branch, no call, and
no keep. The one text has the place in the source of the first.
"""

from collections import Counter
from dataclasses import replace

from ramet.graph import Graph
from ramet.nodes import Keep, Node, Part, Step, Text
from ramet.passes.rewrite import joined, rewrite


def merge(graph: Graph) -> Graph:
    """The graph with neighbouring texts, and neighbouring strings in them, as one."""
    followers = Counter(node.state for node in graph.nodes if isinstance(node, Step))
    followers.update(node.branch for node in graph.nodes if isinstance(node, Keep))
    rows: dict[int, Node] = {}
    parts: dict[int, list[Part]] = {}  # of each text, as long as others come behind it
    for id, node in enumerate(graph.nodes):
        if isinstance(node, Text):
            before, own = node.state, list(node.parts)
            first = rows.get(before)
            if isinstance(first, Text) and followers[before] == 1:
                del rows[before]
                parts[before] += own
                node, own = first, parts.pop(before)
            parts[id] = own
        rows[id] = node
    whole = (
        (id, replace(node, parts=joined(parts[id])) if isinstance(node, Text) else node)
        for id, node in rows.items()
    )
    return rewrite(graph, whole)
