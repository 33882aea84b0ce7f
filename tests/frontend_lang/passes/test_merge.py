from ramet.errors import Span
from ramet.graph import Branch, Call, Fork, Gen, Graph, Keep, Node, Ref, Root, Score, Text, TextOf
from ramet.passes import merge


def merged(*nodes: Node) -> tuple[Node, ...]:
    return merge(Graph("g", (Root(), *nodes))).nodes[1:]


def test_neighbouring_texts_are_one() -> None:
    assert merged(Text(0, ("a",)), Text(1, ("b",)), Text(2, ("c",)), Gen(3, "x")) == (
        Text(0, ("abc",)),
        Gen(1, "x"),
    )


def test_values_stay_between_the_texts() -> None:
    assert merged(Gen(0, "x"), Text(1, ("a", "b")), Text(2, (Ref(1), "c")), Text(3, ("d",))) == (
        Gen(0, "x"),
        Text(1, ("ab", Ref(1), "cd")),
    )


def test_texts_of_other_states_are_no_neighbours() -> None:
    nodes = (
        Fork(0, 1),
        Branch(1, 0),
        Text(1, ("a",)),
        Text(2, ("b",)),
        Text(3, ("c",)),
        Text(4, ("d",)),
    )
    assert merged(*nodes) == (Fork(0, 1), Branch(1, 0), Text(1, ("ac",)), Text(2, ("bd",)))


def test_what_comes_between_keeps_them_apart() -> None:
    called = (Text(0, ("a",)), Call(1, "p"), Text(1, ("b",)), Gen(2, "x"))
    kept = (Fork(0, 1), Branch(1, 0), Text(2, ("a",)), Keep(1, 3), Text(4, ("b",)))
    drawn = (Text(0, ("a",)), Gen(1, "x"), Text(2, ("b",)))
    for nodes in (called, kept, drawn):
        assert merged(*nodes) == nodes


def test_the_first_span_is_kept() -> None:
    first, second = Span("p.py", 1, 1), Span("p.py", 2, 1)
    (text,) = merged(Text(0, ("a",), span=first), Text(1, ("b",), span=second))
    assert text.span is first


def test_references_follow() -> None:
    graph = Graph(
        "g",
        (Root(), Text(0, ("a",)), Text(1, ("b",)), Gen(2, "x"), Score(3, "y", ("c", Ref(3)))),
        TextOf(("<", "<", Ref(3))),
    )
    assert merge(graph) == Graph(
        "g",
        (Root(), Text(0, ("ab",)), Gen(1, "x"), Score(2, "y", ("c", Ref(2)))),
        TextOf(("<<", Ref(2))),
    )
