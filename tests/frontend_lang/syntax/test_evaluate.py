"""Expressions: what they are worth, and what is said of those that are worth nothing."""

from typing import Any

import pytest

import ramet
from ramet.graph import resolve

ARGUMENTS = {
    "n": 3,
    "x": 2.5,
    "word": "Tea",
    "flag": True,
    "row": [3, 1, 2],
    "card": {"name": "Ada", "age": 36, "tags": ["a", "b"]},
    "nothing": None,
}


def value_of(expression: str) -> Any:
    names = ", ".join(ARGUMENTS)
    program = ramet.loads(f"program p({names}):\n    return {{v: {expression}}}\n")
    graph = program.trace(**ARGUMENTS)

    def no_value(ref: object) -> object:
        raise AssertionError(f"{ref} is lazy")

    found = resolve(graph.result, no_value)
    assert isinstance(found, dict)
    return found["v"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("2 * 3 % 4", 2),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 / 2", 3.5),
        ("- -n", 3),
        ("+n - -n", 6),
        ("1e3", 1000.0),
        ('"a" + "b" * 3', "abbb"),
        ("[1] + [2, 3]", [1, 2, 3]),
        ("[0] * 3", [0, 0, 0]),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("3 > 2 != 1", True),
        ('"a" < "b"', True),
        ("1 == 1.0", True),
        ("true == 1", True),
        ('"ea" in word', True),
        ("2 in row", True),
        ('"age" in card', True),
        ("5 not in row", True),
        ("not flag", False),
        ("not 1 == 2", True),
        ("flag and n", 3),
        ('"" or word', "Tea"),
        ("0 or false", False),
        ("false and 1 / 0", False),
        ("true or 1 / 0", True),
        ("1 if flag else 1 / 0", 1),
        ("1 if n > 5 else 2 if n > 2 else 3", 2),
        ("row[0]", 3),
        ("row[-1]", 2),
        ("row[1:]", [1, 2]),
        ("row[::-1]", [2, 1, 3]),
        ("row[:2]", [3, 1]),
        ("row[5:]", []),
        ("word[0]", "T"),
        ("word[1:]", "ea"),
        ("card.name", "Ada"),
        ('card["name"]', "Ada"),
        ("card.tags[1]", "b"),
        ("{n, twice: n * 2}", {"n": 3, "twice": 6}),
        ('{"a b": 1}', {"a b": 1}),
        ("[i * i for i in row]", [9, 1, 4]),
        ("[i for i in row if i > 1]", [3, 2]),
        ("[a + b for a, b in zip(row, [10, 20, 30])]", [13, 21, 32]),
        ('"{n} of {word}"', "3 of Tea"),
        ('"{{n}} {n}"', "{n} 3"),
        ('"{flag} {nothing} {x} {row}"', "true null 2.5 [3, 1, 2]"),
        ('"{card}"', '{"name": "Ada", "age": 36, "tags": ["a", "b"]}'),
        ('"{join(row, "-")}"', "3-1-2"),
        (r'r"\d{2}"', r"\d{2}"),
        (r'"\x41\u00e9\U0001F600\t\\"', "Aé😀\t\\"),
        ('"""a "quoted" word"""', 'a "quoted" word'),
        ("len(row) + len(word) + len(card)", 9),
        ("range(3)", [0, 1, 2]),
        ("range(1, 7, 2)", [1, 3, 5]),
        ("range(3, 0, -1)", [3, 2, 1]),
        ("range(3, 0)", []),
        ("enumerate(row)", [[0, 3], [1, 1], [2, 2]]),
        ("zip(row, word)", [[3, "T"], [1, "e"], [2, "a"]]),
        ('join(["a", 1, true], ", ")', "a, 1, true"),
        ('upper(word) + lower(word) + strip("  a ")', "TEAteaa"),
        ('strip("xxaxx", "x")', "a"),
        ('split("a b  c")', ["a", "b", "c"]),
        ('split("a,b", ",")', ["a", "b"]),
        ('replace("aXbX", "X", "")', "ab"),
        ('int("12") + int(2.9) + int(true)', 15),
        ('float("1.5") + float(1)', 2.5),
        ("str(1) + str(true) + str([1])", "1true[1]"),
        ("round(2.567, 1)", 2.6),
        ("round(2.4)", 2),
        ("min(row) + max(row) + max(1, 9)", 13),
        ("sum(row) + sum([])", 6),
        ("sorted(row)", [1, 2, 3]),
        ('sorted(["b", "a"])', ["a", "b"]),
        ("any([0, 1])", True),
        ("all([0, 1])", False),
        ("argmax(row)", 0),
        ("argmin(row)", 1),
        ("argmax([1, 5, 5])", 1),
        ('majority(["a", "b", "b", "a"])', "a"),
        ("majority([1, 2, 2])", 2),
    ],
)
def test_what_an_expression_is_worth(expression: str, value: object) -> None:
    found = value_of(expression)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 / 0", "a division by 0"),
        ("n % 0", "a division by 0"),
        ('"a" + 1', "'+' joins texts; write str(...) around an int"),
        ("1 + [2]", "a number, or on both sides a text or a list, is needed, not a list"),
        ('"a" - 1', "a number is needed, not a str"),
        ("-word", "a number is needed, not a str"),
        ('1 < "a"', "an int and a str have no order"),
        ("1 in 2", "'in' looks into a text, list or map, not into an int"),
        ('1 in "a"', "'in' looks for a text in a text, not for an int"),
        ("row[3]", "there is no item 3; there are 3"),
        ('row["a"]', "the number of an item is needed, not a str"),
        ("row[true]", "the number of an item is needed, not a bool"),
        ("row[::0]", "the step of a slice cannot be 0"),
        ("card.nme", "the map has no key 'nme'; did you mean 'name'?"),
        ('card["agee"]', "the map has no key 'agee'; did you mean 'age'?"),
        ("card[0]", "the key of a map is a text, not an int"),
        ("n.real", "an int has no attribute 'real'"),
        ("nothing.x", "none has no attribute 'x'"),
        ("n[0]", "an int has no items"),
        ("len(3)", "a list is needed, not an int"),
        ("range(1.5)", "a whole number is needed, not a float"),
        ("range(1, 2, 0)", "the step of a range cannot be 0"),
        ("range(1000000)", "a range of more than 100,000 items"),
        ("range(0, 10 * 10000000000000000000000, 1)", "a range of more than 100,000 items"),
        ('"a" * 2000000', "the result has more than 1,000,000 items"),
        ('join(["aaaaaaaaaa"] * 90000, "bbbbb")', "a text of 1,349,995 characters"),
        ('replace("a" * 1000000, "a", "bb")', "a text of 2,000,000 characters"),
        ('int("1.5")', "'1.5' is no whole number"),
        ('int("9" * 2000)', "a text of 2,000 characters is no whole number"),
        ('float("nan")', "the result is no finite number"),
        ("int([])", "int takes a number or a text, not a list"),
        ("max([])", "a list with at least one item is needed"),
        ('max([1, "a"])', "a list of numbers, or of texts, is needed, not a str"),
        ("argmax([])", "a list with at least one item is needed"),
        ("sum(word)", "a number is needed, not a str"),
        ('split("a", "")', "split needs a separator that is not empty"),
        ("round(1.5, 1000)", "round takes at most 100 digits"),
        ("[a for a, b in row]", "each item has to be a list of 2"),
        ("1e308 * 10", "the result is no finite number"),
    ],
)
def test_what_is_said_of_one_that_is_worth_nothing(expression: str, message: str) -> None:
    with pytest.raises(ramet.EvaluationError) as caught:
        value_of(expression)
    assert message in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.line == 2


def test_a_whole_number_does_not_grow_for_ever() -> None:
    source = "program p():\n    let n = 7\n    for i in range(20):\n        let n = n * n\n"
    with pytest.raises(ramet.EvaluationError, match="more than 4,096 bits"):
        ramet.loads(source).trace()


@pytest.mark.parametrize("grow", ["[x]", "{x}"])
@pytest.mark.parametrize("use", ['"{x}"', "let y = x == x", "let y = str(x)", "return x"])
def test_a_value_that_nests_too_deeply(grow: str, use: str) -> None:
    lines = ["let x = 1", "for i in range(5000):", f"    let x = {grow}", use]
    source = "program p():\n" + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(ramet.LanguageError, match="nest"):
        ramet.loads(source).trace()
