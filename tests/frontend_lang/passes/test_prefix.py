import pytest

from ramet.graph import Branch, Close, Fork, Gen, Graph, Input, Node, Open, Ref, Root, Text
from ramet.passes import common_prefix


def graph(*nodes: Node) -> Graph:
    return Graph("g", (Root(), *nodes))


def chat(question: str) -> Graph:
    return graph(
        Open(0, "system"),
        Text(1, ("Be brief.",)),
        Close(2, "system"),
        Open(3, "user"),
        Text(4, ("Q: ", question)),
        Close(5, "user"),
        Gen(6, "x"),
    )


def test_turns_and_the_beginning_of_the_text_that_differs() -> None:
    assert common_prefix([chat("what is tea?"), chat("what is rye?"), chat("what else?")]) == (
        Open(0, "system"),
        Text(1, ("Be brief.",)),
        Close(2, "system"),
        Open(3, "user"),
        Text(4, ("Q: what ",)),
    )


def test_equal_graphs_share_up_to_the_first_draw() -> None:
    whole = (*chat("a").nodes[1:5], Text(4, ("Q: a",)), Close(5, "user"))
    assert common_prefix([chat("a"), chat("a")]) == whole
    assert common_prefix([chat("a")]) == common_prefix([chat("a"), chat("a")])


def test_texts_in_pieces_are_the_texts_they_make() -> None:
    pieces = graph(Text(0, ("ab",)), Text(1, ("cd", "ef")), Gen(2, "x"))
    whole = graph(Text(0, ("abcdefg",)))
    assert common_prefix([pieces, whole]) == (Text(0, ("abcdef",)),)


def test_a_text_that_another_goes_on_from_ends_the_prefix() -> None:
    short = graph(Text(0, ("ab",)), Open(1, "user"))
    long = graph(Text(0, ("abc",)), Open(1, "user"))
    assert common_prefix([short, long]) == (Text(0, ("ab",)),)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ((Gen(0, "x"), Text(1, ("a",))), ()),
        ((Input("a"), Text(0, ("a", Ref(1), "b"))), ("a",)),
        ((Input("a"), Text(0, (Ref(1), "b"))), ()),
        ((Text(0, ("a",)), Fork(1, 1), Branch(2, 0), Text(2, ("b",))), ("a",)),
        ((Open(0, "user"), Text(1, ("a",))), ()),
        ((), ()),
    ],
)
def test_where_a_prefix_ends(nodes: tuple[Node, ...], found: tuple[str, ...]) -> None:
    other = graph(Text(0, ("ab",)), Open(1, "user"))
    assert common_prefix([graph(*nodes), other]) == (*(Text(0, (text,)) for text in found),)


def test_another_role_and_nothing_at_all() -> None:
    assert common_prefix([graph(Open(0, "user")), graph(Open(0, "system"))]) == ()
    assert common_prefix([]) == ()
