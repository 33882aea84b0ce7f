"""Sources made to break a parser are refused with a position, quickly and in little room."""

import pickle
import time
import tracemalloc
from collections.abc import Callable

import pytest

from ramet.errors import LimitError, SourceError, Span
from ramet.limits import Limits
from ramet.syntax.blocks import parse
from ramet.syntax.printer import print_module

SECONDS = 0.1
BYTES = 64 * 2**20
HEAD = "program p():\n    "
N = 100_000


def ladder(line: str, deep: int) -> str:
    return "program p():\n" + "".join(f"{' ' * at}{line}\n" for at in range(1, deep))


HOSTILE: dict[str, str | Callable[[], str]] = {
    # towers
    "parentheses": HEAD + "let x = " + "(" * N + "a" + ")" * N,
    "lists": HEAD + "let x = " + "[" * N + "a" + "]" * N,
    "maps": HEAD + "let x = " + "{a:" * (N // 2),
    "maps in quotes": HEAD + "let x = " + '{"":' * (N // 2),
    "indices": HEAD + "let x = " + "a[" * N,
    "calls": HEAD + "let x = " + "f(" * N,
    "slices": HEAD + "let x = " + "a[:" * (N // 2),
    "comprehensions": HEAD + "let x = " + "[a for a in " * 20_000,
    "holes": HEAD + '"{' * N,
    "holes in texts of three quotes": HEAD + '"""{' * (N // 2),
    "holes in quotes that alternate": HEAD + "\"{'{" * (N // 2),
    "holes in parentheses": HEAD + '("{' * (N // 2),
    "brackets that never match": HEAD + "let x = " + "([{" * (N // 3) + ")]}" * (N // 3),
    "not": HEAD + "let x = " + "not " * 60_000 + "a",
    "minus": HEAD + "let x = " + "-" * N + "a",
    "plus and minus": HEAD + "let x = " + "+-" * N + "a",
    "not and minus": HEAD + "let x = " + "not -" * 50_000 + "a",
    "choices": HEAD + "let x = " + "a if b else " * 20_000 + "c",
    "choices of choices": HEAD + "let x = " + "a if " * 50_000 + "a" + " else a" * 2_000,
    "attributes": HEAD + "let x = a" + ".a" * N,
    "attributes apart": HEAD + "let x = a" + " . a" * 60_000,
    "indices in a row": HEAD + "let x = a" + "[0]" * 80_000,
    "slices in a row": HEAD + "let x = a" + "[:]" * 80_000,
    "signs and attributes": HEAD + "let x = " + "-" * 60_000 + "a" + ".a" * 60_000,
    "a ladder of ifs": ladder("if a:", 700),
    "a ladder of turns": ladder("user:", 700),
    "a ladder of texts": ladder('"a"', 700),
    "a ladder without heads": "".join(f"{' ' * at}a\n" for at in range(700)),
    # long
    "a line of a mebibyte": lambda: HEAD + '"' + "a" * 2**20 + '"',
    "a line of a hundred megabytes": lambda: HEAD + '"' + "a" * 10**8,
    "a comment of a mebibyte": lambda: "#" * 2**20,
    "a word of a mebibyte": lambda: HEAD + "let " + "a" * 2**20,
    "a number of a mebibyte": lambda: HEAD + "let a = " + "1" * 2**20,
    "a mebibyte of blanks": lambda: " " * 2**20 + "a",
    "a million line ends": lambda: "\n" * 10**6,
    "a million statements": lambda: HEAD + '"a"\n    ' * 10**6,
    "more statements than bytes": "program p():\n" + ' ""\n' * 60_000,
    # numbers, words
    "a long word": HEAD + "let x = " + "a" * 200_000,
    "a long statement": HEAD + "a" * 200_000,
    "a long key": HEAD + 'let x = {"' + "a" * 100_000 + '": 1, "' + "a" * 100_000 + '": 2}',
    "a long number": HEAD + "let x = " + "1" * 5_000,
    "a large number": HEAD + "let x = 1e999",
    "a number of another script": HEAD + "let x = ١٢٣",
    # never closed
    "a text": HEAD + '"' + "a" * 200_000,
    "a text of three quotes": HEAD + '"""' + "a\n" * 100_000,
    "a raw text": HEAD + "r'" + "\\" * 200_000,
    "a raw text of three quotes": HEAD + "r'''" + "''\n" * 60_000,
    "quotes": '"' * 100_001,
    "quotes on lines": HEAD + '"\n' * 100_000,
    "a parenthesis": HEAD + "f(" + "\n" * 200_000,
    "a bracket with comments": HEAD + "let x = [" + "#\n" * 100_000,
    "a hole": HEAD + '"{' + " " * 200_000,
    "holes on lines": HEAD + '"{\n' * 60_000,
    "brackets on lines": "let x = [\n" * 20_000,
    "an escape": HEAD + '"\\',
    "an escape of a letter": HEAD + '"\\U0001',
    # characters
    "NUL": HEAD + '"a\0b"',
    "only NUL": "\0" * N,
    "a lone surrogate": HEAD + '"\ud800"',
    "lone surrogates": "\udfff" * 200_000,
    "an escaped surrogate": HEAD + '"\\ud800"',
    "a character beyond": HEAD + '"\\U00110000"',
    "CR LF": 'program p():\r\n    "a"\r\n',
    "CR": 'program p():\r    "a"\r',
    "a byte order mark": '\ufeffprogram p():\n    "a"\n',
    "tabs": 'program p():\n\t"a"\n' * 10_000,
    "a million tabs": lambda: "\t" * 10**6,
    "a form feed": 'program p():\n\f"a"\n',
    "an ideographic blank": "program p():\n\u3000let x = 1\n",
    "letters that join": HEAD + "let a" + "\u0301" * 200_000 + " = 1",
    "blanks of no width": HEAD + "let x = a\u200b",
    # mistakes
    "unknown characters": "?" * 250_000,
    "unknown characters on lines": "?\n" * N,
    "unknown statements": "a\n" * N,
    "words": HEAD + "let x = " + "a " * 5_000,
    "escapes": HEAD + '"' + "\\q" * 20_000 + '"',
    "closing brackets": ")" * 250_000,
    "closing braces in a text": HEAD + '"' + "} " * 20_000 + '"',
    "empty holes": HEAD + '"' + "{}" * 10_000 + '"',
    "mistakes in holes": HEAD + '"' + "{+}" * 10_000 + '"',
    "comments": "# a\n" * 30_000,
    "empty comments": "#\n" * 50_000,
    "comments apart": "#\n\n" * 20_000,
    "nothing": "",
    "a comment alone": "# a",
    "blank lines": "\n" * 200_000,
    "other texts": "Dear reader, this isn't a program.\n" * 5_000,
}


def refusal(text: str) -> Span:
    """Where it is refused."""
    with pytest.raises((SourceError, LimitError)) as caught:
        parse(text)
    error = caught.value
    assert len(str(error)) < 20_000
    span = error.span
    if isinstance(error, SourceError):
        assert 0 < len(error.diagnostics) <= 51
        span = error.diagnostics[0].span
    assert span is not None
    return span


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_a_position(name: str) -> None:
    made = HOSTILE[name]
    text = made if isinstance(made, str) else made()
    parse('program p():\n    "a"\n')  # the grammar is there already
    taken: list[float] = []
    span = Span("", 0, 0)
    for _ in range(10):  # other work on the machine costs processor time, too
        before = time.process_time()
        span = refusal(text)
        taken.append(time.process_time() - before)
        if taken[-1] <= SECONDS:
            break
    assert span.line >= 1
    assert span.column >= 1
    assert min(taken) <= SECONDS

    tracemalloc.start()
    try:
        refusal(text)
        assert tracemalloc.get_traced_memory()[1] <= BYTES
    finally:
        tracemalloc.stop()


# -- limits hold to the unit


def limited(**limits: int) -> Callable[[str], None]:
    def read(text: str) -> None:
        module = parse(text, limits=Limits(**limits))
        assert parse(print_module(module), limits=Limits(**limits)) == module

    return read


def over(limit: str, text: str, **limits: int) -> LimitError:
    with pytest.raises(LimitError) as caught:
        parse(text, limits=Limits(**limits))
    assert caught.value.limit == limit
    assert caught.value.span is not None
    assert caught.value.value == limits[limit] if limits else Limits().nesting
    return caught.value


def line(text: str) -> str:
    return f"{HEAD}{text}\n"


def steps(head: str, count: int) -> str:
    """Each head in the block of the one before."""
    heads = [" " * at + head.format(" " * at, " " * at) for at in range(1, count + 1)]
    return "\n".join(["program p():", *heads, " " * (count + 1) + '"a"\n'])


def holes(deep: int) -> str:
    text = "a"
    for _ in range(deep):
        text = f'"{{{text}}}"'
    return text


NESTS: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: line(f"let x = {'(' * n}a{')' * n}"),
    "lists": lambda n: line(f"let x = {'[' * n}{']' * n}"),
    "lists of a name": lambda n: line(f"let x = {'[' * n}a{']' * n}"),
    "maps": lambda n: line(f"let x = {'{a: ' * n}b{'}' * n}"),
    "maps of a name": lambda n: line(f"let x = {'{a: ' * (n - 1)}{{a}}{'}' * (n - 1)}"),
    "calls": lambda n: line(f"let x = {'f(' * n}{')' * n}"),
    "indices": lambda n: line(f"let x = {'a[' * n}b{']' * n}"),
    "indices in a row": lambda n: line(f"let x = a{'[b]' * n}"),
    "slices in a row": lambda n: line(f"let x = a{'[:]' * n}"),
    "indices of a list": lambda n: line(f"let x = [a]{'[0]' * (n - 1)}"),
    "attributes": lambda n: line(f"let x = a{'.b' * n}"),
    "signs": lambda n: line(f"let x = {'-' * n}a"),
    "signs behind a sum": lambda n: line(f"let x = a + {'-' * (n - 1)}b"),
    "not": lambda n: line(f"let x = {'not ' * n}a"),
    "choices": lambda n: line(f"let x = {'a if b else ' * n}c"),
    "choices of choices": lambda n: line(f"let x = {'a if (' * n}b{') else c' * n}"),
    "sums in products": lambda n: line(
        f"let x = {'a * (b + ' * (n // 2)}{'-' * (n % 2)}c{')' * (n // 2)}"
    ),
    "holes": lambda n: line(holes(n)),
    "comprehensions": lambda n: line(f"let x = {'[a for a in ' * n}b{']' * n}"),
    "types": lambda n: line(f"gen x: json({'[' * (n - 1)}{']' * (n - 1)})"),
    "settings": lambda n: line(f"gen x(n={'[' * (n - 1)}{']' * (n - 1)})"),
    "defaults": lambda n: f'program p(x={"[" * n}{"]" * n}):\n    "a"\n',
    "blocks": lambda n: steps("if a:", n),
    "turns": lambda n: steps("user:", n),
    "elses": lambda n: steps("if a:\n{} return\n{}else:", n),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTS)
@pytest.mark.parametrize("most", [8, 64])
def test_nesting_holds_to_the_unit(name: str, most: int) -> None:
    """A block, or the parentheses of the program, is around each: one less fits in it."""
    fits = most - 1
    for deep in (fits - 1, fits):
        limited(nesting=most)(NESTS[name](deep))
    error = over("nesting", NESTS[name](fits + 1), nesting=most)
    assert error.message == f"it nests deeper than {most}"


def test_statements_hold_to_the_unit() -> None:
    def lines(count: int) -> str:
        return "program p():\n" + '    "a"\n' * (count - 1)

    for count in (9, 10):
        limited(statements=10)(lines(count))
    error = over("statements", lines(11), statements=10)
    assert error.span is not None
    assert error.span.line == 11
    over("statements", lines(1_000), statements=10)


def test_bytes_hold_to_the_unit() -> None:
    for character in "aé€😀":
        text = f'program p():\n    "{character * 9}"\n'
        size = len(text.encode())
        for most in (size + 1, size):
            limited(source_bytes=most)(text)
        error = over("source_bytes", text, source_bytes=size - 1)
        assert error.message == f"the source is longer than {size - 1} bytes"


# -- what is taken can be used, however deep it is


@pytest.mark.parametrize("name", NESTS)
def test_the_deepest_trees_need_no_deep_stack(name: str) -> None:
    text = NESTS[name](63)
    one, other = parse(text), parse(text)
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert parse(print_module(one)) == one


def test_the_longest_sources_are_read_in_time() -> None:
    """Not refused: long, but legal. 300 ms on a quiet machine."""
    text = "program p():\n" + '    "a{b}c"\n' * 4_600
    before = time.process_time()
    module = parse(text)
    assert time.process_time() - before < 5
    assert len(module.programs[0].body) == 4_600


@pytest.mark.parametrize(
    "text",
    [
        "let x = [" + "a if b else c, " * 99 + "]",
        "let x = {" + ", ".join(f"k{at}: a if b else c" for at in range(99)) + "}",
        "let x = f(" + "a if b else c, " * 99 + ")",
        "let x = [" + "-a, not b, " * 99 + "]",
        "let x = " + "a + " * 99 + "a",
        "let x = " + "-a - -b + " * 99 + "a",
        "let x = " + "not a and " * 99 + "b",
        "let x = " + "a.b.c + " * 99 + "a",
        "let x = " + "a[0][1:2] * " * 99 + "a",
        "let x = " + "a not in b == " * 99 + "c",
        "let x = [" + "a[0].b, [a][0], " * 99 + "]",
        "let x = " + "(a) + " * 99 + "b",
        '"' + "{a.b[0]} {-c} " * 99 + '"',
        'return "{a}" + ' + '"{b}" + ' * 99 + "c",
    ],
)
def test_what_is_wide_is_not_deep(text: str) -> None:
    limited(nesting=5)(line(text))


def test_two_expressions_of_a_line_nest_apart() -> None:
    chain = "a if b else " * 4 + "c"
    limited(nesting=5)(f'{HEAD}while {chain} limit {chain}:\n        "a"\n')
    limited(nesting=6)(line(f"let x = a[{chain}:{chain}]"))
