"""The printer: what it prints is read back as the same tree, and printed the same again."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ramet.syntax.blocks import parse
from ramet.syntax.printer import COLUMNS, print_module
from ramet.syntax.tree import Module
from tests.frontend_lang.syntax.trees import Trees, around


def check(module: Module) -> None:
    text = print_module(module)
    found = parse(text)
    assert found == module
    assert repr(found) == repr(module)  # 1 is not 1.0, nor true
    assert around(found) == around(module)
    assert print_module(found) == text


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.randoms(use_true_random=False))
def test_what_it_prints_is_read_back(random: Random) -> None:
    check(Trees(random).module())


def test_five_hundred_programs_are_read_back() -> None:
    for seed in range(500):
        check(Trees(Random(seed)).module())


@pytest.mark.slow
def test_ten_thousand_programs_are_read_back() -> None:
    for seed in range(10_000):
        check(Trees(Random(seed)).module())


def test_the_six_programs_print_as_they_are_written() -> None:
    text = (Path(__file__).parent / "six.ramet").read_text()
    assert print_module(parse(text)) == text


def statement(text: str) -> str:
    """A statement of one line in its canonical form."""
    printed = print_module(parse(f"program p():\n    {text}\n"))
    return printed.removeprefix("program p():\n    ").removesuffix("\n")


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        # texts
        ("'a'", '"a"'),
        ("'\"'", r'"\""'),
        ('"\\x41\\u0042\\t"', r'"AB\t"'),
        ('"\t"', r'"\t"'),
        ('"é😀\\x00\\x1b\\u2028"', r'"é😀\0\x1b\u2028"'),
        ('"{{}}"', '"{{}}"'),
        ('"{ x }"', '"{x}"'),
        ('"{f("a")}"', "\"{f('a')}\""),
        ('"{f("{g("a")}")}"', "\"{f('{g(\"a\")}')}\""),
        ('"{ {a: 1}.a }"', '"{ {a: 1}.a}"'),
        ("r'[A-Z]\\w'", 'r"[A-Z]\\w"'),
        ("r'a\"b'", r'"a\"b"'),
        ("'''a\nb'''", '"""a\nb"""'),
        ("'''a\"'''", '"""a\\""""'),
        ("'''\"\"\"'''", '"""\\""\\""""'),
        ('r"""a\\"""', 'r"""a\\"""'),
        # parentheses
        ("let x = ((a))", "let x = a"),
        ("let x = (a * b) + c", "let x = a * b + c"),
        ("let x = a * (b + c)", "let x = a * (b + c)"),
        ("let x = a - (b - c)", "let x = a - (b - c)"),
        ("let x = (a - b) - c", "let x = (a - b) - c"),
        ("let x = -(a.b)", "let x = -a.b"),
        ("let x = (-a).b", "let x = (-a).b"),
        ("let x = - - +a", "let x = --+a"),
        ("let x = not (a == b)", "let x = not a == b"),
        ("let x = (not a) == b", "let x = (not a) == b"),
        ("let x = (a and b) or c", "let x = a and b or c"),
        ("let x = a or (b and c)", "let x = a or b and c"),
        ("let x = a and (b or c)", "let x = a and (b or c)"),
        ("let x = a and (not b) and (c == d)", "let x = a and not b and c == d"),
        ("let x = a or (b if c else d)", "let x = a or (b if c else d)"),
        ("let x = a if b else (c if d else e)", "let x = a if b else c if d else e"),
        ("let x = (a if b else c) if d else e", "let x = (a if b else c) if d else e"),
        ("let x = [(a if b else c) for d in (e or f) if (g)]",
         "let x = [a if b else c for d in e or f if g]"),
        ("let x = [a for b in (c if d else e)]", "let x = [a for b in (c if d else e)]"),
        ("let x = (a in b) in c", "let x = (a in b) in c"),
        ("let x = a  not   in b", "let x = a not in b"),
        # brackets
        ("let x = [ 1,2, ]", "let x = [1, 2]"),
        ("let x = a [ 0 ] [1 :2] [:] [: : -1]", "let x = a[0][1:2][:][::-1]"),
        ('return {a: a, "b": 1}', "return {a, b: 1}"),
        ('return {"a": a, \'b\': 1}', 'return {"a": a, "b": 1}'),
        ('return {a: 1, "b c": 1}', 'return {"a": 1, "b c": 1}'),
        ('return {"if": 1}', 'return {"if": 1}'),
        ("return {}", "return {}"),
        ('return {"{{": 1}', 'return {"{{": 1}'),
        # numbers
        ("let x = 007 + 1.50 + 1E3", "let x = 7 + 1.5 + 1000.0"),
        # statements
        ("gen a()", "gen a"),
        ("gen a (n = 3)", "gen a(n=3)"),
        ("gen a :int(n=3)", "gen a: int (n=3)"),
        ('gen a: regex( "x" )(n=3)', 'gen a: regex("x") (n=3)'),
        ("select a from b(by='greedy')", 'select a from b (by="greedy")'),
        ("select a from f(b)(by=c)", "select a from f(b) (by=c)"),
        ("select a from (b + c)(by=d)", "select a from (b + c) (by=d)"),
        ("select a from (b.from)", "select a from (b.from)"),
        ("select a from [from]", "select a from [from]"),
        ("score a of (of)", "score a of (of)"),
        ("call p( 1,b = 2 )as c", "call p(1, b=2) as c"),
        ("extend p()", "extend p()"),
        ("return", "return"),
        # comments
        ('"a"# b  ', '"a"  # b'),
    ],
)  # fmt: skip
def test_one_way_to_write_it(written: str, printed: str) -> None:
    assert statement(written) == printed
    assert statement(printed) == printed


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("fork 3 as a :", "fork 3 as a:"),
        ("fork(gen)as a:", "fork (gen) as a:"),
        ("fork (gen) in b as a:", "fork (gen in b) as a:"),
        ("fork x in (b or c) as a:", "fork x in (b or c) as a:"),
        ("fork x,y in b or c as a:", "fork x, y in b or c as a:"),
        ("fork (as.as) as a:", "fork (as.as) as a:"),
        ("fork gen x :int as a:", "fork gen x: int as a:"),
        ("for x , y in b if c else d:", "for x, y in b if c else d:"),
        ("while (limit) limit (3):", "while (limit) limit 3:"),
        ("assistant :", "assistant:"),
        ("if(a):  #b", "if a:  #b"),
    ],
)
def test_one_way_to_write_a_head(written: str, printed: str) -> None:
    for text in (written, printed):
        found = print_module(parse(f'program p():\n {text}\n   "x"\n'))
        assert found == f'program p():\n    {printed}\n        "x"\n'


def test_comments_and_blank_lines_stay() -> None:
    text = """\
# About this file.

# About p.
program p():  # a tail
    # before
    "a"  # behind

    # one

    # two

    if x:
        "b"
    # or
    elif y:  # why
        "c"

    else:  # then
        "d"

program q():
    "e"

# The end.

# Really.
"""
    assert print_module(parse(text)) == text
    loose = text.replace("\n\n", "\n\n\n\n").replace('    "a"', '\n\n    "a"')
    assert print_module(parse(loose)).replace("# before\n\n", "# before\n") == text


def test_comments_in_brackets_go_in_front() -> None:
    written = "let x = [ # one\n# two\n        1, # three\n\n    2] # four"
    lead = "# one\n    # two\n    # three\n    "
    assert statement(written) == f"{lead}let x = [1, 2]  # four"


def test_programs_are_one_blank_line_apart() -> None:
    text = 'program p():\n  "a"\nprogram q():\n  "b"\n\n\n\nprogram r():\n  "c"'
    printed = print_module(parse(text))
    assert printed == ('program p():\n    "a"\n\nprogram q():\n    "b"\n\nprogram r():\n    "c"\n')


def test_long_lines_end_behind_a_comma() -> None:
    items = ", ".join(f"item_{at:02}" for at in range(30))
    printed = print_module(parse(f"program p():\n    let x = [{items}, {{a: f({items})}}]\n"))
    lines = printed.splitlines()[1:]
    assert max(map(len, lines)) <= COLUMNS
    assert lines[0].startswith("    let x = [item_00, item_01,")
    assert all(line.startswith("        item_") for line in lines[1:])
    assert all(line.endswith(",") for line in lines[:-1])
    for line, after in pairwise(lines):  # as full as can be
        assert len(line) + 1 + len(after.split()[0]) > COLUMNS


@pytest.mark.parametrize("length", [85, 86, 87])
def test_a_line_has_a_hundred_columns_and_closing_brackets_may_hang_over(length: int) -> None:
    name = "a" * length
    printed = print_module(parse(f"program p():\n    call p({name}, bc)\n"))
    assert printed.count("\n") == (2 if length <= 85 else 3)
    assert len(printed.splitlines()[1]) == (16 + length if length <= 85 else 12 + length)


def test_the_head_of_a_block_goes_on_further_right_than_the_block() -> None:
    items = ", ".join(["item"] * 20)
    printed = print_module(parse(f'program p():\n    for x in [{items}]:\n        "a"\n'))
    head, more, body = printed.splitlines()[1:]
    assert [len(line) - len(line.lstrip()) for line in (head, more, body)] == [4, 12, 8]


def test_no_line_ends_inside_a_text() -> None:
    items = ", ".join(["item"] * 30)
    assert statement(f'"{{f([{items}])}}"') == f'"{{f([{items}])}}"'
