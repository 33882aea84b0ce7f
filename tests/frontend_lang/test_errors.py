from pathlib import Path

import pytest

from ramet import errors
from ramet.errors import (
    Break,
    GraphError,
    LanguageError,
    RametError,
    Span,
    UnknownVariable,
    near_miss,
    shown,
)

SOURCE = Span(__file__, 1, 8)


def test_the_drawn_tree_is_the_tree() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    own = [c for c in classes if c.__module__ == errors.__name__]
    assert errors.__doc__ is not None
    for kind in own:
        assert kind.__name__ in errors.__doc__
        assert issubclass(kind, RametError)


def test_a_span_draws_the_line_and_a_caret() -> None:
    assert SOURCE.render("no") == f"{__file__}:1:8: no\n    from pathlib import Path\n           ^"


def test_a_caret_stands_under_its_column_in_an_indented_line() -> None:
    lines = Path(__file__).read_text().splitlines()
    line = 1 + lines.index("    for kind in own:")
    assert Span(__file__, line, 5).render("no").endswith("    for kind in own:\n    ^")


def test_a_span_without_a_source_is_one_line() -> None:
    assert Span("<shell>", 3, 1).render("no") == "<shell>:3:1: no"


def test_an_error_keeps_the_first_place_it_is_given() -> None:
    error = LanguageError("no")
    assert str(error) == "no"
    assert error.at(SOURCE).at(Span("x", 1, 1)).span == SOURCE
    assert error.message == "no"


def test_unknown_variable_suggests_the_near_miss() -> None:
    error = UnknownVariable("anwser", ["question", "answer"])
    assert str(error) == "unknown variable 'anwser'; did you mean 'answer'?"
    assert isinstance(error, LookupError)


def test_a_graph_error_lists_every_break_with_its_place() -> None:
    error = GraphError.of([Break(1, "gen", "law", "bad"), Break(2, "text", "law", "worse", SOURCE)])
    assert str(error).splitlines() == [
        "node 1 (gen) breaks law: bad",
        f"{__file__}:1:8: node 2 (text) breaks law: worse",
    ]
    assert [b.node for b in error.breaks] == [1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), (3, "3"), ("a", "'a'"), ([1], "a list"), (object(), "a object")],
)
def test_a_value_is_shown_without_addresses(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_value_is_shown_short() -> None:
    assert len(shown("x" * 10_000)) < 50


def test_nothing_near_gives_no_hint() -> None:
    assert near_miss("x" * 100_000, ["answer"]) == ""
