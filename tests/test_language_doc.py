"""docs/language.md against the code: every block runs, every table is complete and true.

A block of ```ramet runs with the arguments behind the word; a ```python block right after it is the
same program. What is wrong with a ```ramet error is in the ```text block after it. All other
```python blocks run in their order, and print what the ```text block after them says.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet import Limits, RametError, runtime
from ramet.graph import resolve
from ramet.nodes import GEN_ATTRIBUTES, METHODS, SCORE_ATTRIBUTES, SELECT_ATTRIBUTES, TYPES
from ramet.params import SAMPLING_FIELDS
from ramet.passes import simplify
from ramet.runtime import Engine
from ramet.runtime.tokenizer import Tokenizer
from ramet.syntax.functions import FUNCTIONS
from ramet.syntax.tokens import RESERVED, STATEMENTS
from ramet.types import KINDS
from tests.pages import Block, blocks_of, page_of, pairs_of, told
from tests.runtime.conftest import ToyModel, byte_tokenizer  # noqa: F401
from tests.runtime.legible import legible

PAGE = page_of("language")
BLOCKS = blocks_of(PAGE)
TEXTS = [each for each in BLOCKS if each.language == "ramet"]
PAIRS = pairs_of(BLOCKS)
WRONG = [each for each in TEXTS if each.words.startswith("error")]
RIGHT = [each for each in TEXTS if each not in WRONG]
PYTHON = [b for b in BLOCKS if b.language == "python" and b not in [pair[1] for pair in PAIRS]]


def toy_engine(tokenizer: Tokenizer) -> Engine:
    return legible(Engine.of(ToyModel(), tokenizer, runtime.EngineConfig(num_blocks=1024)))


@pytest.fixture(scope="module")
def engine(byte_tokenizer: Tokenizer) -> Iterator[Engine]:  # noqa: F811
    with toy_engine(byte_tokenizer) as engine:
        yield engine


def rows(header: str) -> list[list[str]]:
    """The rows of every table whose head begins like this, cells without their ticks."""
    found: list[list[str]] = []
    for table in re.findall(rf"^{re.escape(header)}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for row in table.splitlines():
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            found.append([c[1:-1] if re.fullmatch("`[^`]*`", c) else c for c in cells])
    assert found, header
    return found


def worth(expression: str) -> Any:
    """What the expression gives, in a program that is traced."""
    graph = ramet.loads(f"program p():\n    return [{expression}]\n").trace()
    found = resolve(graph.result, lambda ref: ref)
    assert isinstance(found, list)
    return found[0]


# -- blocks


def test_every_block_is_run() -> None:
    assert (len(RIGHT), len(PAIRS), len(WRONG), len(PYTHON)) == (12, 11, 2, 3)
    texts = [b for b in BLOCKS if b.language == "text"]
    assert all(b.follows in [*WRONG, *PYTHON] for b in texts)
    assert {b.language for b in BLOCKS} == {"ramet", "python", "text"}


@pytest.mark.parametrize("block", RIGHT, ids=str)
def test_a_program_runs(block: Block, engine: Engine) -> None:
    engine.run(ramet.loads(block.code), **block.arguments)
    engine.audit()


@pytest.mark.parametrize(("text", "python"), PAIRS, ids=str)
def test_both_forms_are_one(text: Block, python: Block, engine: Engine) -> None:
    names: dict[str, Any] = {"ramet": ramet}
    exec(compile(python.code, f"language.md:{python.line}", "exec"), names)
    one = engine.run(ramet.loads(text.code), **text.arguments)
    other = engine.run(names[text.name], **text.arguments)

    assert simplify(one.graph) == simplify(other.graph)
    assert one.value == other.value
    assert one.text == other.text


@pytest.mark.parametrize("block", WRONG, ids=str)
def test_what_a_mistake_looks_like(block: Block, engine: Engine) -> None:
    def run() -> None:
        program = ramet.loads(block.code, file=f"{block.name}.ramet")
        engine.run(program, **block.arguments)

    with pytest.raises(RametError) as caught:
        run()
    assert f"{caught.value}\n" == told(block, BLOCKS)


def test_the_other_python_runs(
    engine: Engine,
    byte_tokenizer: Tokenizer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / f"{RIGHT[0].name}.ramet").write_text(RIGHT[0].code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ramet.runtime.Engine", lambda model: toy_engine(byte_tokenizer))
    names: dict[str, Any] = {"ramet": ramet}
    for block in PYTHON:
        exec(compile(block.code, f"language.md:{block.line}", "exec"), names)
        names["engine"] = engine
        out = capsys.readouterr().out
        assert out
        assert out == (told(block, BLOCKS) or out)


# -- tables


def test_every_setting_of_gen() -> None:
    table = {name: rest for name, *rest in rows("| setting | default | takes |")}
    assert list(table) == list(SAMPLING_FIELDS)
    for name, (default, takes, says) in table.items():
        field = SAMPLING_FIELDS[name]
        unset = list(field.default) if isinstance(field.default, tuple) else field.default
        assert (worth(default), type(worth(default))) == (unset, type(unset))
        assert (takes, says) == (field.metadata["domain"].allowed, field.metadata["says"])


def test_every_setting_of_select() -> None:
    table = {name: worth(default) for name, default, _ in rows("| setting | default | what")}
    keywords = [
        p for p in inspect.signature(ramet.select).parameters.values() if p.kind == p.KEYWORD_ONLY
    ]
    assert table == {keyword.name: keyword.default for keyword in keywords}
    assert [name for name, _ in rows("| `by` |")] == list(METHODS)


@pytest.mark.parametrize(
    ("of", "attributes"),
    [("gen", GEN_ATTRIBUTES), ("select", SELECT_ATTRIBUTES), ("score", SCORE_ATTRIBUTES)],
)
def test_every_attribute(of: str, attributes: tuple[str, ...]) -> None:
    assert sorted(name for name, _ in rows(f"| attribute | of a {of} |")) == sorted(attributes)


def test_every_limit() -> None:
    table = {name: default for name, default, _ in rows("| limit |")}
    assert table == {limit.name: str(limit.default) for limit in fields(Limits)}


def test_every_type_and_word() -> None:
    assert f"types are `str` (none), {listed(KINDS)}," in PAGE
    assert f"Types: {listed(TYPES, last=', ')};" in PAGE
    assert f"`{' '.join(RESERVED)}` are no names" in PAGE
    program = "program p():\n    " + "\n    ".join(
        f"let {word} = 1" for word in {*STATEMENTS} - {*RESERVED}
    )
    ramet.loads(program)


def listed(names: Sequence[str], last: str = " and ") -> str:
    *most, end = (f"`{name}`" for name in names)
    return ", ".join(most) + last + end


@pytest.mark.parametrize(("expression", "value"), rows("| expression |"))
def test_an_expression(expression: str, value: str) -> None:
    assert worth(expression) == worth(value)
    assert type(worth(expression)) is type(worth(value))


def test_every_function() -> None:
    table = rows("| function |")
    assert sorted(re.split(r"\W", name)[0] for name, *_ in table) == sorted(FUNCTIONS)
    for name, _, example, value in table:
        assert example.startswith(name.partition("(")[0] + "(")
        assert worth(example) == worth(value)
        assert type(worth(example)) is type(worth(value))


# -- what waits, what is drawn, what is done once

BEFORE = """
program p():
    "Q"
    gen x(max_tokens=2)
    fork 2 as views:
        select sound from [" a", " b"]
    {}

program other(x):
    "{{x}}"
    return x
"""


@pytest.mark.parametrize(
    "line",
    [
        "return x",
        "return x.tokens",
        'return "{x}"',
        'return "a" + x',
        'return join([x, "b"], "-") + join(views.sound)',
        "return [x, {k: x, sound: views.sound.prob}]",
        "return len(views) + len(views.sound)",
        "return [s for s in views.sound]",
        'for s in views.sound:\n        "{s}"',
        'fork s in views.sound as more:\n        "{s}"',
    ],
)
def test_what_does_not_wait(line: str) -> None:
    assert ramet.loads(BEFORE.format(line), "p").trace().name == "p"


@pytest.mark.parametrize(
    "line",
    [
        "return 1 + x",
        'return x == "a"',
        "return x or 1",
        "return upper(x)",
        "return x[0]",
        'if x:\n        "a"',
        'while x limit 2:\n        "a"',
        "gen y(stop=x)",
        "select y from [x]",
        'fork s in x as more:\n        "a"',
        'for s in x:\n        "a"',
    ],
)
def test_what_waits(line: str) -> None:
    with pytest.raises(ramet.TraceError):
        ramet.loads(BEFORE.format(line), "p").trace()


DRAWS = """
program draws(k: int = 1, own: list = [none]):
    "Q"
    fork seed in own as views:
        gen x(max_tokens=8, temperature=1.0, seed=seed)
    return views.x
"""


def test_a_draw_follows_from_its_seed_and_place(engine: Engine) -> None:
    draws = ramet.loads(DRAWS).bind(own=[None, None])
    one, other = engine.run(draws.seeded(3)).value
    assert one != other
    assert engine.run(draws.seeded(3)).value == [one, other]
    assert engine.run(draws.seeded(4)).value != [one, other]
    batch = engine.run_batch(draws.seeded(2), [{"k": 1}, {"k": 2}])
    assert [getattr(done, "value", None) for done in batch][1] == [one, other]


def test_a_seed_of_its_own_draws_the_same_everywhere_and_once(engine: Engine) -> None:
    draws = ramet.loads(DRAWS)
    done = engine.run(draws, own=[5, 5, 6])
    assert done.value[0] == done.value[1] != done.value[2]
    assert engine.run(draws.seeded(9), own=[5]).value == done.value[:1]
    assert done.usage.generated == 16


def test_it_can_be_read_in_one_sitting() -> None:
    assert PAGE.count("\n") < 800
