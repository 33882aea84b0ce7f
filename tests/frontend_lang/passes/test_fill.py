from typing import Any

import pytest

from ramet.errors import ArgumentError, GraphError
from ramet.graph import (
    Branch,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    ListOf,
    MapOf,
    Ref,
    Root,
    Score,
    Text,
    TextOf,
)
from ramet.passes import fill
from ramet.verify import verify

REVIEW = Graph(
    "review",
    (
        Root(),
        Input("review"),
        Input("stars", "int"),
        Text(0, ("Review: ", Ref(1), "\n", Ref(2), " stars")),
        Gen(3, "x"),
    ),
    MapOf((("x", Ref(4)), ("of", Ref(1)), ("text", TextOf(("<", Ref(2), ">"))), ("n", Ref(2)))),
)


def test_arguments_take_the_place_of_inputs() -> None:
    filled = fill(REVIEW, {"review": "Fine.", "stars": 5})
    verify(filled)
    assert filled == Graph(
        "review",
        (Root(), Text(0, ("Review: Fine.\n5 stars",)), Gen(1, "x")),
        MapOf((("x", Ref(2)), ("of", "Fine."), ("text", TextOf(("<5>",))), ("n", 5))),
    )


@pytest.mark.parametrize(
    ("takes", "value", "text"),
    [
        ("str", 'a "b" é', 'a "b" é'),
        ("int", 3, "3"),
        ("float", 1.0, "1.0"),
        ("float", 1e-07, "1e-07"),
        ("float", 2, "2"),
        ("bool", True, "true"),
        ("list", ["é", 1, None, False], '["é", 1, null, false]'),
        ("map", {"a": [1.5]}, '{"a": [1.5]}'),
    ],
)
def test_how_values_are_spelled_and_returned(takes: str, value: Any, text: str) -> None:
    graph = Graph("g", (Root(), Input("a", takes), Text(0, (Ref(1),))), ListOf((Ref(1),)))
    filled = fill(graph, {"a": value})
    verify(filled)
    assert filled.nodes == (Root(), Text(0, (text,)))
    returned = {"list": ListOf(("é", 1, None, False)), "map": MapOf((("a", ListOf((1.5,))),))}
    assert filled.result == ListOf((returned.get(takes, value),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "review: the argument 'review' is missing; it takes str"),
        ({"review": "a"}, "review: the argument 'stars' is missing; it takes int"),
        (
            {"reveiw": "a", "stars": 1},
            "review: the graph has no input 'reveiw'; did you mean 'review'?",
        ),
        ({"review": 5, "stars": 1}, "review: review must be str, not 5"),
        ({"review": "a", "stars": True}, "review: stars must be int, not True"),
        ({"review": "a", "stars": "5"}, "review: stars must be int, not '5'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        fill(REVIEW, arguments)
    assert caught.value.message == message


@pytest.mark.parametrize("value", [[{1}], [float("nan")], [[object()]]])
def test_what_json_lacks_is_refused(value: Any) -> None:
    graph = Graph("g", (Root(), Input("a", "list"), Text(0, (Ref(1),))))
    with pytest.raises(ArgumentError, match="g: a is no JSON: "):
        fill(graph, {"a": value})


def test_an_endless_list_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ArgumentError, match="a is no JSON"):
        fill(Graph("g", (Root(), Input("a", "list"))), {"a": endless})


def test_a_text_that_is_empty_is_left_out() -> None:
    nodes = (
        Root(),
        Input("a"),
        Fork(0, 1),
        Branch(2, 0),
        Text(3, (Ref(1),)),
        Keep(2, 4),
        Text(5, (Ref(1), Ref(1))),
        Text(6, ("b", Ref(1))),
    )
    filled = fill(Graph("g", nodes), {"a": ""})
    verify(filled)
    assert filled.nodes == (Root(), Fork(0, 1), Branch(1, 0), Keep(1, 2), Text(3, ("b",)))


def test_nothing_can_be_scored_as_an_empty_text() -> None:
    filled = fill(Graph("g", (Root(), Input("a"), Score(0, "x", (Ref(1),)))), {"a": ""})
    with pytest.raises(GraphError, match="parts_are_present"):
        verify(filled)


def test_a_graph_without_inputs_takes_no_arguments() -> None:
    graph = Graph("g", (Root(), Text(0, ("a",))))
    assert fill(graph, {}) == graph
    with pytest.raises(ArgumentError, match="g: the graph has no input 'a'"):
        fill(graph, {"a": 1})
