"""Pictures of a request graph: SVG to look at, Mermaid to put into a document.

Both raise `GraphError` for an illegal graph, take time linear in its size, and give the same text
for the same graph.
"""

from ramet.pictures.mermaid import mermaid
from ramet.pictures.svg import svg

__all__ = ["mermaid", "svg"]
