"""No expression takes more room or time than its limits allow, and every refusal has its place."""

from typing import Any

import pytest

import ramet
from ramet import EvaluationError, LimitError, Limits
from ramet.errors import near_miss
from ramet.meter import Meter
from ramet.recorder import GraphRecorder

DEEP = ("let a = 1", "for i in range(2000):", "    let a = [a]")
WIDE = ("let a = 1", "for i in range(40):", "    let a = [a, a]")
LONG = ('let a = "x" * 1000000', "let a = [a] * 100000")
LAZY = ('"x"', "gen v", "let a = v + v", "for i in range(60):", "    let a = a + a")
GROUP = ('"x"', "fork 2 as f:", "    gen v")
HUGE = ("let a = 1", "for i in range(1200):", "    let a = a * 2")


def program(*lines: str) -> ramet.Program[..., Any]:
    return ramet.loads("program p():\n" + "".join(f"    {line}\n" for line in lines))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((*DEEP, "let b = len(str(a))"), "the value nests too deeply"),
        ((*DEEP, "for x, y in [a]:", '    "x"'), "the value nests too deeply"),
        ((*DEEP, "fork x, y in [a] as f:", '    "x"'), "the value nests too deeply"),
        ((*WIDE, "let b = a == a"), "a value with more than 1,000,000 items in all"),
        ((*WIDE, '"{a}"'), "a value with more than 1,000,000 items in all"),
        ((*WIDE, "return a"), "a program returns at most 100,000 items in all"),
        ((*LONG, "let b = str(a)"), "a value with more than 10,000,000 characters in all"),
        ((*LONG, "let b = majority(a)"), "a value with more than 10,000,000 characters in all"),
        ((*LONG, "let b = sorted(a)"), "a value with more than 10,000,000 characters in all"),
        ((*LAZY, "return a"), "a text of 1,048,576 characters; 1,000,000 is the most"),
        (('"x"', "gen v", *LONG, "let b = join([v] + a[1:])"), "1,000,000 is the most"),
        (('"x"', "gen v", "let b = join([v], 5)"), "a text is needed, not an int"),
        ((*GROUP, '"{[f]}"'), "a branch has no value; name one of its variables"),
        ((*GROUP, "let b = majority([f])"), "a branch has no value; name one of its variables"),
        ((*HUGE, "let b = sum([a, 0.5])"), "the result is too large"),
        (('let b = strip("abc", "x" * 1001)',), "strip takes at most 1,000 characters"),
        (("fork x, y in [[1, 2], 3] as f:", '    "x"'), "each item has to be a list of 2"),
    ],
)
def test_what_is_too_large_is_refused_where_it_is_written(
    lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(EvaluationError) as caught:
        program(*lines).trace()
    assert message in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.line in (len(lines), len(lines) + 1)


@pytest.mark.parametrize("function", ["len([", "join(["])
def test_an_argument_is_computed_once(function: str) -> None:
    """Twice on each of thirty levels would take for ever."""
    inner = f"{function}" * 30 + '"x"' + "])" * 30
    assert program(f"return {inner}").trace().result == (1 if function == "len([" else "x")


@pytest.mark.parametrize("line", ["let b = sum(a)", "let b = a == a", "let b = 5 in a"])
def test_items_that_are_read_count(line: str) -> None:
    lines = ("let a = range(1000)", "for i in range(10):", f"    {line}")
    recorder = GraphRecorder(Meter(Limits(made=5_000)))
    with pytest.raises(LimitError, match="characters and items"):
        program(*lines).record(recorder, {})
    program(*lines).record(GraphRecorder(Meter(Limits(made=50_000))), {})


def test_a_near_miss_is_looked_for_among_few() -> None:
    assert near_miss("answr", ["x" * 1_000_000, "answer"]) == "; did you mean 'answer'?"
    assert near_miss("zzz", (f"key{i}" for i in range(10_000_000))) == ""
