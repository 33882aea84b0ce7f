"""Sources become trees: every construct, the place of every node, and where lines end."""

import re
from random import Random
from typing import Any

import pytest

from ramet.errors import SourceError
from ramet.syntax import tree
from ramet.syntax.blocks import parse
from ramet.syntax.printer import print_module
from ramet.syntax.tree import (
    Arm,
    Attribute,
    Call,
    Chain,
    Choice,
    Comparison,
    Comprehension,
    For,
    Fork,
    ForkGen,
    Function,
    Gen,
    If,
    Index,
    Keep,
    Let,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Not,
    Otherwise,
    Parameter,
    Program,
    Return,
    Score,
    Select,
    Setting,
    Signed,
    Slice,
    Template,
    TextLine,
    Turn,
    TypeOf,
    While,
)
from tests.frontend_lang.syntax.trees import Trees

A, B, C, D = map(Name, "abcd")
X = (TextLine(Template(("x",))),)


def program(text: str) -> Program:
    (found,) = parse(text).programs
    return found


def line(text: str) -> Any:
    """The first statement of a program; a head gets a block."""
    body = '        "x"\n' if text.endswith(":") else ""
    return program(f"program p():\n    {text}\n{body}").body[0]


def expr(text: str) -> Any:
    return line(f"let x = {text}").value


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ('"a{b}c"', TextLine(Template(("a", B, "c")))),
        ('system "a"', Turn("system", Template(("a",)))),
        ("user a", Turn("user", A)),
        ("assistant:", Turn("assistant", None, X)),
        ("gen a", Gen("a")),
        ("gen a()", Gen("a")),
        ("gen a(n=1, stop=b,)", Gen("a", None, (Setting("n", Literal(1)), Setting("stop", B)))),
        ("gen a: int", Gen("a", TypeOf("int"))),
        ("gen a: int (n=1)", Gen("a", TypeOf("int"), (Setting("n", Literal(1)),))),
        ("gen a: int(n=1)", Gen("a", TypeOf("int"), (Setting("n", Literal(1)),))),
        ("gen a: json(b)", Gen("a", TypeOf("json", B))),
        ("gen a: json(b) (n=1)", Gen("a", TypeOf("json", B), (Setting("n", Literal(1)),))),
        ("select a from b", Select("a", B)),
        ("select a from b (by=c)", Select("a", B, (Setting("by", C),))),
        ("select a from [b] (by=c)", Select("a", ListOf((B,)), (Setting("by", C),))),
        ("select a from b(c)", Select("a", Function("b", (C,)))),
        ("select a from b(c) (by=d)", Select("a", Function("b", (C,)), (Setting("by", D),))),
        ("score a of b", Score("a", B)),
        ("fork a as b:", Fork((), A, "b", X)),
        ("fork a in b as c:", Fork(("a",), B, "c", X)),
        ("fork a, b in c as d:", Fork(("a", "b"), C, "d", X)),
        ("fork gen a as b:", ForkGen(Gen("a"), "b", X)),
        ("fork gen a: int (n=b) as c:",
         ForkGen(Gen("a", TypeOf("int"), (Setting("n", B),)), "c", X)),
        ("keep a[b]", Keep(Index(A, B))),
        ("let a = b", Let("a", B)),
        ("if a:", If((Arm(A, X),))),
        ("for a in b:", For(("a",), B, X)),
        ("for a, b in c:", For(("a", "b"), C, X)),
        ("while a limit b:", While(A, B, X)),
        ("call a(b, c=d) as e", Call(True, "a", (B,), (Setting("c", D),), "e")),
        ("extend a()", Call(False, "a")),
        ("return", Return()),
        ("return a", Return(A)),
    ],
)  # fmt: skip
def test_statements(text: str, node: tree.Statement) -> None:
    assert line(text) == node


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("true", Literal(True)),
        ("false", Literal(False)),
        ("none", Literal(None)),
        ("12", Literal(12)),
        ("1.5", Literal(1.5)),
        ("1e3", Literal(1000.0)),
        ("True", Name("True")),
        ("a.b.c", Attribute(Attribute(A, "b"), "c")),
        ("1.a", Attribute(Literal(1), "a")),
        ("a[b][c]", Index(Index(A, B), C)),
        ("a[:]", Slice(A, None, None, None)),
        ("a[b:]", Slice(A, B, None, None)),
        ("a[:b]", Slice(A, None, B, None)),
        ("a[::b]", Slice(A, None, None, B)),
        ("a[b:c:d]", Slice(A, B, C, D)),
        ("[]", ListOf(())),
        ("[a, b,]", ListOf((A, B))),
        ("[a for b in c]", Comprehension(A, ("b",), C, None)),
        ("[a for b, c in d if a]", Comprehension(A, ("b", "c"), D, A)),
        ("{}", MapOf(())),
        ('{a, b: c, "d": a, }', MapOf((("a", A), ("b", C), ("d", A)))),
        ("a()", Function("a", ())),
        ("a(b, c=d)", Function("a", (B,), (Setting("c", D),))),
        ("-+a", Signed("-", Signed("+", A))),
        ("-a.b", Signed("-", Attribute(A, "b"))),
        ("not not a", Not(Not(A))),
        ("not a == b", Not(Comparison(A, (("==", B),)))),
        ("a + b - c", Chain(A, (("+", B), ("-", C)))),
        ("a + b * c", Chain(A, (("+", Chain(B, (("*", C),))),))),
        ("a // b % c / d", Chain(A, (("//", B), ("%", C), ("/", D)))),
        ("a - -b", Chain(A, (("-", Signed("-", B)),))),
        ("a < b <= c != d", Comparison(A, (("<", B), ("<=", C), ("!=", D)))),
        ("a in b", Comparison(A, (("in", B),))),
        ("a not in b", Comparison(A, (("not in", B),))),
        ("a and b and c", Logic("and", (A, B, C))),
        ("a or b and c", Logic("or", (A, Logic("and", (B, C))))),
        ("(a or b) and c", Logic("and", (Logic("or", (A, B)), C))),
        ("a if b else c", Choice(A, B, C)),
        ("a if b else c if d else a", Choice(A, B, Choice(C, D, A))),
    ],
)
def test_expressions(text: str, node: tree.Expr) -> None:
    assert repr(expr(text)) == repr(node)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('""', ()),
        ('"a"', ("a",)),
        ("'a\"b'", ('a"b',)),
        (r'"\n\t\r\0\\\"\'"', ("\n\t\r\0\\\"'",)),
        (r'"\x41\u00e9\U0001f600"', ("Aé😀",)),
        ('"{{a}}"', ("{a}",)),
        ('"{a}{b}"', (A, B)),
        ('"{ a }"', (A,)),
        ('"{"b"}"', (Template(("b",)),)),
        ('"{{{a}}}"', ("{", A, "}")),
        ('"{ {a}.a }"', (Attribute(MapOf((("a", A),)), "a"),)),
        ('r"\\{a}"', ("\\{a}",)),
        ("r'\\'", ("\\",)),
        ('"""a\nb"""', ("a\nb",)),
        ('"""a"b""c"""', ('a"b""c',)),
        ("'''a\n{b}'''", ("a\n", B)),
        ('"""a\\\nb"""', ("ab",)),
        ('r"""a\n"b"""', ('a\n"b',)),
    ],
)
def test_texts(text: str, parts: tuple[str | tree.Expr, ...]) -> None:
    assert expr(text) == Template(parts)


def test_a_text_keeps_how_it_was_written() -> None:
    found = [expr(text) for text in ('"a"', 'r"a"', '"""a"""', 'r"""a"""')]
    assert [(each.raw, each.triple) for each in found] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_parameters() -> None:
    found = program('program p(a, b: int, c=1, d: str = "x",):\n    "x"')
    assert found.parameters == (
        Parameter("a"),
        Parameter("b", "int"),
        Parameter("c", None, Literal(1)),
        Parameter("d", "str", Template(("x",))),
    )


def test_blocks() -> None:
    text = """
program p():
  if a:
     "x"
  elif b:
    if c:
      "x"
    else:
       "x"
  else:
    "x"
  "x"
program q():
 "x"
"""
    inner = If((Arm(C, X),), Otherwise(X))
    outer = If((Arm(A, X), Arm(B, (inner,))), Otherwise(X))
    assert parse(text).programs == (Program("p", (), (outer, *X)), Program("q", (), X))


@pytest.mark.parametrize(
    "text",
    [
        "let x = [a,\n b]",
        "let x = [\na\n,\n\nb\n]",
        "let x = [ # one\n a, b # two\n # three\n]",
        "let x = [a,\n\t\tb]",
    ],
)
def test_a_line_goes_on_in_brackets(text: str) -> None:
    assert line(text) == Let("x", ListOf((A, B)))


def test_words_are_names_where_they_can_be() -> None:
    words = "as of from limit gen let if_ user program call keep system True None".split()
    for word in words:
        assert line(f"let {word} = {word}") == Let(word, Name(word))
        assert line(f"gen {word}") == Gen(word)
    assert line("score from of as") == Score("from", Name("as"))
    assert line("select of from [from]") == Select("of", ListOf((Name("from"),)))
    assert line("fork (gen) as x:") == Fork((), Name("gen"), "x", X)
    assert line("fork gen gen as x:") == ForkGen(Gen("gen"), "x", X)
    assert line("while (limit) limit 3:") == While(Name("limit"), Literal(3), X)


def test_words_and_numbers_have_a_hundred_characters_at_most() -> None:
    assert expr("a" * 100) == Name("a" * 100)
    assert expr("1" * 100) == Literal(int("1" * 100))
    for word in ("a" * 101, "1" * 101):
        with pytest.raises(SourceError, match="of more than 100 characters"):
            expr(word)


# The word or mark at the place of each node.
PLACES = [
    ('"a{b}c"', 'TextLine:" Template:" Name:b'),
    ('user "a"', 'Turn:user Template:"'),
    ("assistant b", "Turn:assistant Name:b"),
    ("gen a", "Gen:a"),
    ("gen a(n=b, stop=c)", "Gen:a Setting:n Name:b Setting:stop Name:c"),
    ("gen a: int (n=b)", "Gen:a TypeOf:int Setting:n Name:b"),
    ("gen a: json(b)", "Gen:a TypeOf:json Name:b"),
    ("select a from b", "Select:a Name:b"),
    ("select a from [b] (by=c)", "Select:a ListOf:[ Name:b Setting:by Name:c"),
    ("select a from b (by=c)", "Select:a Name:b Setting:by Name:c"),
    ("score a of b", "Score:a Name:b"),
    ("keep a[b]", "Keep:keep Name:a Index:[ Name:b"),
    ("let a = b", "Let:a Name:b"),
    ("call a(b, c=d) as e", "Call:a Name:b Setting:c Name:d"),
    ("extend a()", "Call:a"),
    ("return", "Return:return"),
    ("return a", "Return:return Name:a"),
    ("let a = true", "Let:a Literal:true"),
    ("let a = 12", "Let:a Literal:12"),
    ("let a = 1.5", "Let:a Literal:1"),
    ("let a = b.c.d", "Let:a Name:b Attribute:c Attribute:d"),
    ("let a = b[c][d]", "Let:a Name:b Index:[ Name:c Index:[ Name:d"),
    ("let a = b[c:d:e]", "Let:a Name:b Slice:[ Name:c Name:d Name:e"),
    ("let a = [b, c]", "Let:a ListOf:[ Name:b Name:c"),
    ('let a = {b, c: d, "e": f}', "Let:a MapOf:{ Name:b Name:d Name:f"),
    ("let a = [b for c, d in e if f]", "Let:a Comprehension:[ Name:b Name:e Name:f"),
    ("let a = f(b, c=d)", "Let:a Function:f Name:b Setting:c Name:d"),
    ("let a = - +b", "Let:a Signed:- Signed:+ Name:b"),
    ("let a = not b", "Let:a Not:not Name:b"),
    ("let a = b + c - d", "Let:a Name:b Chain:+ Name:c Name:d"),
    ("let a = b * c / d", "Let:a Name:b Chain:* Name:c Name:d"),
    ("let a = b < c <= d", "Let:a Comparison:b Name:b Name:c Name:d"),
    ("let a = b not in c", "Let:a Comparison:b Name:b Name:c"),
    ("let a = b and c and d", "Let:a Logic:b Name:b Name:c Name:d"),
    ("let a = b or c and d", "Let:a Logic:b Name:b Logic:c Name:c Name:d"),
    ("let a = b if c else d", "Let:a Choice:b Name:b Name:c Name:d"),
    ("let a = (b)", "Let:a Name:b"),
    ('let a = r"b"', "Let:a Template:r"),
    ('let a = ("{b + "{c}"}")', 'Let:a Template:" Name:b Chain:+ Template:" Name:c'),
    ("fork a as b:", "Fork:fork Name:a"),
    ("fork a in b as c:", "Fork:fork Name:b"),
    ("fork a, b in c as d:", "Fork:fork Name:c"),
    ("fork gen a(n=b) as c:", "ForkGen:fork Gen:a Setting:n Name:b"),
    ("for a in b:", "For:for Name:b"),
    ("for a, b in c:", "For:for Name:c"),
    ("while a limit b:", "While:while Name:a Name:b"),
    ("if a:", "If:if Arm:if Name:a"),
    ("user:", "Turn:user"),
]


@pytest.mark.parametrize(("text", "places"), PLACES)
def test_places(text: str, places: str) -> None:
    found = [node for node, _ in tree.walk(line(text)) if node.span.line == 2]
    words = [re.match(r"\w+|.", text[node.span.column - 5 :]) for node in found]
    named = [f"{type(n).__name__}:{w and w[0]}" for n, w in zip(found, words, strict=True)]
    assert sorted(named) == sorted(places.split())
    assert all(node.span.text == f"    {text}" for node in found)


def test_places_of_parameters_and_programs() -> None:
    found = program('\n\nprogram one(two: int,\n    three=1):\n    "x"')
    at = [found.span, *(parameter.span for parameter in found.parameters)]
    assert [(span.line, span.column) for span in at] == [(3, 9), (3, 13), (4, 5)]
    assert found.span.file == "<string>"


def test_places_on_other_lines_and_behind_wide_characters() -> None:
    found = line('let a = ["é😀{b}",\n\n  c]')
    (text, name) = found.value.items
    assert (text.span.line, text.span.column) == (2, 14)
    assert (text.parts[1].span.line, text.parts[1].span.column) == (2, 18)
    assert (name.span.line, name.span.column) == (4, 3)


def test_what_means_nothing_is_no_part_of_a_tree() -> None:
    one = program('# a\nprogram p():\n    "x"  # b\n\n    return')
    other = program("program p():\n  'x'\n  return")
    assert one == other
    assert one.trivia.lead == ("# a",)
    assert one.body[0].trivia.tail == "# b"
    assert one.body[1].trivia.gap


# -- mistakes


def mistakes(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(SourceError) as caught:
        parse(text)
    found = caught.value.diagnostics
    return [(each.span.line, each.span.column, each.message) for each in found]


def test_all_mistakes_of_a_file_in_one_go_and_nothing_else() -> None:
    text = """\
program p(a: int, a: str):
    "one {a"
    "two } three"
    let x = 3 +
    let y = [1, 2
    gen z(n=)
    select w of [1]
    wihle true limit 3:
        "in the block of a mistake"
      "outdented"
    if x = 1:
        "four \\q"
    elif y ? 2:
        "five {+}{a b}"
    else
        "six"
    while true:
        "seven"
        return )
"""
    assert [line for line, _, _ in mistakes(text)] == [
        1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 14, 15, 17, 19,
    ]  # fmt: skip


def test_a_mistake_in_a_bracket_leaves_the_line_in_one_piece() -> None:
    text = 'program p():\n    let x = [1 ? 2,\n        3 $ 4,\n    ]\n    "x"\n    let = 3\n'
    assert [line for line, _, _ in mistakes(text)] == [2, 3, 6]


def test_a_bracket_that_is_forgotten_ends_with_its_line() -> None:
    text = 'program p():\n    let x = f(1, 2\n    gen y\n    let = 3\n    "x"\n'
    assert mistakes(text)[0] == (2, 14, "'(' is never closed")
    assert [line for line, _, _ in mistakes(text)] == [2, 4]


def test_a_text_that_is_forgotten_ends_with_its_line() -> None:
    text = 'program p():\n    let x = f("a, b)\n    "x"\n    let = 3\n'
    assert [line for line, _, _ in mistakes(text)] == [2, 4]


def test_holes_are_read_apart_from_each_other_and_from_their_line() -> None:
    found = mistakes('program p():\n    let x y = "{a b} {c} {d e}"\n')
    assert [(line, column) for line, column, _ in found] == [(2, 11), (2, 19), (2, 29)]


def test_one_mistake_for_each_block_that_is_out_of_line() -> None:
    text = 'program p():\n    "a"\n   "b"\n   "c"\n    "d"\n    if x:\n        "e"\n       "f"\n'
    assert [line for line, _, _ in mistakes(text)] == [3, 8]


def test_the_block_of_a_mistake_is_read_as_one() -> None:
    text = (
        'program p():\n    fork 3 sa x:\n        "a"\n        let = 1\n    else:\n        let = 2\n'
    )
    assert [line for line, _, _ in mistakes(text)] == [2, 4, 6]


def test_text_outside_of_programs_is_told_once() -> None:
    text = '"a"\n"b"\nprogram p():\n    "x"\n"c"\n'
    assert [line for line, _, _ in mistakes(text)] == [1]


def test_tabs_are_told_line_by_line_and_count_as_four() -> None:
    text = 'program p():\n\tif x:\n\t\t"a"\n    "b"\n'
    assert [line for line, _, _ in mistakes(text)] == [2, 3]


def test_after_fifty_mistakes_it_is_enough() -> None:
    found = mistakes("program p():\n" + "    let = 1\n" * 60)
    assert len(found) == 51
    assert "50 mistakes so far" in found[-1][2]
    found = mistakes("program p():\n" + "    let = 1\n" * 49)
    assert len(found) == 49


@pytest.mark.parametrize("where", ["in front", "behind"])
def test_one_mistake_anywhere_is_one_mistake(where: str) -> None:
    """A stray character at either end of a line; inside a text, or a comment, it is none."""
    told = 0
    for seed in range(60):
        random = Random(seed)
        lines = print_module(Trees(random).module()).split("\n")
        written = [at for at, line in enumerate(lines) if line.strip() and "#" not in line]
        at = random.choice(written)
        line = lines[at].lstrip(" ")
        blanks = " " * (len(lines[at]) - len(line))
        lines[at] = f"{blanks}? {line}" if where == "in front" else f"{lines[at]} ?"
        try:
            parse("\n".join(lines))
        except SourceError as error:
            told += 1
            assert len(error.diagnostics) == 1, lines[at]  # noqa: PT017
    assert told > 30
