"""Types as records: choices, their source, and what a text is worth."""

import re
import time
from typing import Any

import pytest

import ramet
from ramet.errors import ParameterError
from ramet.graph import Gen
from ramet.types import MAX_SOURCE_BYTES, Type, choice_type, json_type, value_of


def test_choices_are_a_list_of_json() -> None:
    made = choice_type(("yes", 'a "b"', "é\n"))
    assert made.source == '["yes", "a \\"b\\"", "é\\n"]'
    assert made.choices() == ("yes", 'a "b"', "é\n")
    assert str(made) == 'choice(["yes", "a \\"b\\"", "é\\n"])'
    assert made.is_text
    assert value_of(made, "yes") == "yes"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("yes", "choice takes a list of texts, not 'yes'"),
        ({"a": 1}, "choice takes a list of texts, not a dict"),
        (3, "choice takes a list of texts, not 3"),
        ([], "choice needs at least one option"),
        (["a", 1], "an option is a text, not 1"),
        (["a", ""], "an option is empty"),
        (["a", "b", "a"], "the option 'a' is there twice"),
        (["\ud800"], "a lone surrogate is in an option"),
    ],
    ids=str,
)
def test_what_is_no_choice(options: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        choice_type(options)
    with pytest.raises(ParameterError, match=said):
        ramet.gen("x", choices=options)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "needs a source"),
        ("yes", "the choices are no JSON"),
        ('"yes"', "takes a list of texts"),
        ("{}", "takes a list of texts"),
        ('["a", "a"]', "is there twice"),
        ('["\\ud800"]', "a lone surrogate"),
        ("[" * 10_000, "the choices are no JSON"),
    ],
)
def test_a_source_that_holds_no_choices(source: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Type("choice", source)


def test_too_many_choices_are_refused_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(ParameterError, match=f"over {MAX_SOURCE_BYTES} bytes"):
        choice_type([f"option {i}" for i in range(100_000)])
    assert time.monotonic() - begun < 1


def test_both_forms_have_choices() -> None:
    @ramet.program
    def p(s: ramet.State) -> Any:
        s += "a" + ramet.gen("x", choices=["yes", "no"])
        s += ramet.gen("y", type=ramet.Type("int"))
        return s["x"] + "!"

    text = ramet.loads(
        'program p():\n    let options = ["yes", "no"]\n    "a"\n'
        '    gen x: choice(options)\n    gen y: int\n    return x + "!"\n'
    )
    assert text.trace() == p.trace()
    assert ramet.from_json(ramet.to_json(p.trace())) == p.trace()
    assert '%2 = gen %1 as x type choice(["yes", "no"])' in str(p.trace())


def test_the_options_of_a_text_may_be_known_only_when_it_runs() -> None:
    late = ramet.loads("program p(options: list):\n    'a'\n    gen x: choice(options)\n")
    nodes = late.trace(options=["b", "c"]).nodes
    assert [node.type for node in nodes if isinstance(node, Gen)] == [choice_type(["b", "c"])]
    with pytest.raises(ParameterError, match="an option is a text, not 3") as caught:
        late.trace(options=[3])
    assert caught.value.span is not None
    assert caught.value.span.line == 3


def test_a_keyword_that_is_misspelled() -> None:
    with pytest.raises(ParameterError, match="did you mean 'choices'"):
        ramet.gen("x", choice=["a"])  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1e400", "1e400 is too large"),
        ('{"a": [-2e999]}', "-2e999 is too large"),
        ("9" * 500 + ".0", f"{'9' * 12}...{'9' * 11}.0 is too large"),
        ("1" * 5000, "an integer of 5000 digits in it is too long"),
        (f"[-{'1' * 4301}]", "an integer of 4301 digits in it is too long"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
    ],
    ids=range(6),
)
def test_json_numbers_that_python_cannot_hold(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        value_of(json_type({}), text)


def test_json_numbers() -> None:
    assert value_of(json_type({}), "[1, -2.5, 1e2, 1e-400]") == [1, -2.5, 100.0, 0.0]
    assert value_of(json_type({}), "1" * 4300) == int("1" * 4300)
