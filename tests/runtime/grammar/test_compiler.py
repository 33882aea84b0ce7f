"""Types that compile, types that are refused with a reason, and what is kept of them."""

import random
import threading
import time
from typing import Any

import pytest

from ramet.runtime.errors import ConstraintError, EngineClosed, GrammarError
from ramet.runtime.grammar import GrammarCompiler
from ramet.runtime.grammar.trial import Trial
from ramet.types import Type, json_type
from tests.runtime.grammar.bombs import resident
from tests.runtime.grammar.walks import allowed, walk
from tests.runtime.tokenizers import byte_level, smollm2, wordpiece


def grammars(**settings: int) -> GrammarCompiler:
    tokenizer = byte_level()
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids, **settings)


@pytest.fixture(scope="module")
def large() -> GrammarCompiler:
    """Of the embedded model's 49,152 tokens."""
    tokenizer = smollm2()
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)


WRONG: dict[Type, str] = {
    Type("regex", "ab["): "regex 'ab[': unclosed character class at character 3",
    Type("regex", "(?=a)b"): "look-around, including look-ahead and look-behind, is not supported",
    Type("regex", r"(a)\1"): "backreferences are not supported at character 4",
    Type("regex", r"\d["): r"regex '\\d[': unclosed character class",
    Type("regex", "()"): "only the empty text matches",
    Type("regex", r"a&\b"): "lookarounds not supported yet",
    Type("regex", "a\\"): "it ends in a backslash",
    json_type(False): "the schema false allows no text",
    json_type({"type": "strin"}): "Invalid type: strin",
    json_type({"not": {}}): 'Unimplemented keys: ["not"]',
    json_type({"not": {}, "x-guidance": {"lenient": True}}): 'Unimplemented keys: ["not"]',
    json_type({"type": "integer", "minimum": 5, "maximum": 3}): "minimum (5) is greater than",
    json_type({"$ref": "#"}): "no token leads on to a whole text",
    json_type({"$ref": "http://a.b/c"}): "does not fetch",
    json_type({"pattern": "[", "type": "string"}): "unclosed character class at character 1",
    Type("grammar", 'start: "a" b\n'): 'grammar line 1, column 8: unknown name: "b"',
    Type("grammar", "start: A\nA: /[/\n"): "line 2, column 4: unclosed character class",
    Type("grammar", 'start: "a"\nend: ['): "line 2, column 7: Expected token ']'",
    Type("grammar", "start: start\n"): "no token leads on to a whole text",
    Type("grammar", "start: @other\n"): "unknown grammar @other",
    Type("grammar", "start: <|im_start|>\n"): "no token leads on to a whole text",
    Type("grammar", "start: <[1]>\n"): "no token leads on to a whole text",
    Type("grammar", '{"grammars": []}'): "line 1, column 1: expecting rule",
}


@pytest.mark.parametrize("type", WRONG, ids=str)
def test_what_is_wrong_is_said(type: Type) -> None:
    with pytest.raises(GrammarError) as caught:
        grammars().start(type)
    assert WRONG[type] in str(caught.value)
    assert (caught.value.kind, caught.value.source) == (type.kind, type.source)
    assert len(str(caught.value)) < 700


def test_a_line_of_a_grammar_is_shown_with_a_caret() -> None:
    with pytest.raises(GrammarError) as caught:
        grammars().start(Type("grammar", 'start: "a" there\n'))
    _, line, caret = str(caught.value).split("\n")
    assert line.strip() == 'start: "a" there'
    assert line[caret.index("^") :] == '"a" there'


def sources(compiler: GrammarCompiler) -> list[str]:
    """Of what it keeps, the least recently used first."""
    return [kept.type.source for kept in compiler._kept.values()]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def test_a_schema_that_is_too_deep() -> None:
    with pytest.raises(GrammarError, match="nested too deeply"):
        grammars().start(json_type(nested(400)))
    assert grammars().start(json_type(nested(30)))


HOSTILE = {
    "counts of counts": Type("regex", "(a{1000}){1000}"),
    "less of them": Type("regex", "(a{500}){500}"),
    "words of words": Type("regex", r"(\w{1,200}){1,200}"),
    "ambiguous": Type("regex", r"(a|b)*a(a|b){200}"),
    "starred stars": Type("regex", "((a*)*)*b"),
    "any and any": Type("regex", "(?s)" + ".*" * 300),
    "anys and equals": Type("regex", "(.*.*=.*){20}"),
    "overlapping": Type("regex", "(a.{0,99}b|b.{0,99}c|.{0,60}x)*"),
    "deep": Type("regex", "(" * 20_000 + "a" + ")" * 20_000),
    "wide": Type("regex", "|".join(f"w{i}x" for i in range(9_000))),
    "deep schema": json_type(nested(400)),
    "long enum": json_type({"enum": [f"value {i}" for i in range(3_000)]}),
    "pattern in a schema": json_type({"type": "string", "pattern": "(a{1000}){1000}"}),
    "very many items": json_type({"type": "array", "items": {}, "minItems": 10**9}),
    "ambiguous rules": Type("grammar", 'start: "a" start | start "a" | start start | "b" | ""\n'),
    "right recursion": Type("grammar", 'start: "a" start | "a" start "b" | "b"\n'),
    "many terms": Type("grammar", "start: " + " ".join(['"a"'] * 8_000) + "\n"),
    "rules of rules": Type("grammar", 'start: a{900}\na: b{900}\nb: c{900}\nc: "x"|"y"\n'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_types_cost_little(large: GrammarCompiler, name: str) -> None:
    """Each is refused, or goes on, or ends as too complex; none takes long."""
    compiled = started = time.process_time()
    slowest, said = 0.0, "too complex"
    try:
        grammar = large.start(HOSTILE[name])
        compiled = time.process_time() - started
        rng = random.Random(3)
        for _ in range(25):
            before = time.process_time()
            walk(grammar, rng, 1, ending=0)
            slowest = max(slowest, time.process_time() - before)
    except GrammarError:
        compiled = time.process_time() - started
    except ConstraintError as error:
        said = str(error)
    assert "too complex" in said
    assert compiled < 1.2  # seconds of CPU time; 0.6 at worst
    assert slowest < 1.2  # 0.15


def test_a_type_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = grammars()
    made = []
    compiled = compiler._compiled
    monkeypatch.setattr(
        compiler, "_compiled", lambda type, *rest: made.append(type) or compiled(type, *rest)
    )
    for pattern in ("a+", "b+", "a+", "a+"):
        compiler.start(Type("regex", pattern))
    assert made == [Type("regex", "a+"), Type("regex", "b+")]


@pytest.mark.parametrize("settings", [{"most": 2}, {"most_bytes": 5}])
def test_the_least_recently_used_goes_first(settings: dict[str, int]) -> None:
    compiler = grammars(**settings)
    for pattern in ("a+", "b+", "a+", "c+"):
        compiler.start(Type("regex", pattern))
    assert sources(compiler) == ["a+", "c+"]


def test_one_larger_than_all_is_kept_alone() -> None:
    compiler = grammars(most_bytes=5)
    compiler.start(Type("regex", "a+"))
    compiler.start(Type("regex", "a{3}b{3}"))
    assert sources(compiler) == ["a{3}b{3}"]


def test_what_became_too_complex_is_compiled_anew() -> None:
    """All texts of a grammar share its lexer; one that is full serves no other."""
    compiler = grammars()
    hostile = Type("regex", r"(\w{1,200}){1,200}")
    with pytest.raises(ConstraintError, match="too complex"):
        walk(compiler.start(hostile), random.Random(0), 50, ending=0)
    before = compiler.compile(hostile)
    assert not before.broken
    with pytest.raises(ConstraintError, match="too complex"):
        walk(before.start(), random.Random(0), 50, ending=0)
    assert before.broken
    assert allowed(compiler.start(hostile))
    assert compiler.compile(hostile) is not before


def test_what_is_refused_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = grammars()
    for _ in range(2):
        with pytest.raises(GrammarError):
            compiler.start(Type("regex", "["))
        monkeypatch.setattr(compiler, "_compiled", None)
    assert sources(compiler) == ["["]


@pytest.mark.slow
def test_ten_thousand_schemas_take_no_more_than_a_few(large: GrammarCompiler) -> None:
    """Of all that were compiled, 64 are kept."""

    def compile_some(numbers: range) -> float:
        for i in numbers:
            names = [f"name{i}", f"other{i}", "x"]
            schema = {"type": "object", "properties": {n: {"type": "string"} for n in names}}
            walk(large.start(json_type({**schema, "required": names})), random.Random(i), 3)
        return resident()

    before = compile_some(
        range(5_000)
    )  # the tokenizer keeps words that it has seen, up to a number
    assert compile_some(range(5_000, 10_000)) - before < 32
    assert len(sources(large)) <= 64


PLAIN: list[Any] = [
    True,
    {"type": "string", "pattern": "^a+$", "title": "t"},
    {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]}},
    {
        "$defs": {"n": {"enum": [1, "a"]}},
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/n"}},
    },
]
INTERSECTIONS: list[Any] = [
    {"allOf": [{"type": "string"}, {"minLength": 3}]},
    {"type": "string", "pattern": "^a+$", "maxLength": 9},
    {"type": "integer", "multipleOf": 7},
    {"type": "object", "properties": {"x": {"$ref": "#", "type": "object"}}},
    {"$defs": {"n": {"not": {}}}},
    {"type": "array", "items": {"patternProperties": {"a": {}}}},
    {"anyOf": [{"type": "null"}, {"oneOf": []}]},
]


def test_what_may_be_an_intersection_is_tried_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(Trial, "survives", lambda self, source: bool(tried.append(source)))
    compiler = grammars()
    for schema in PLAIN:
        compiler.start(json_type(schema))
    compiler.start(Type("regex", "a{3}&b"))
    assert not tried
    for schema in INTERSECTIONS:
        with pytest.raises(GrammarError, match="takes too long"):
            compiler.start(json_type(schema))
    with pytest.raises(GrammarError, match="takes too long"):
        compiler.start(Type("grammar", "start: /a/ & /b/"))
    assert len(tried) == len(INTERSECTIONS) + 1


def test_a_thousand_repetitions_are_enough() -> None:
    compiler = grammars()
    assert compiler.start(Type("regex", "[ab]{2}" * 1000))
    for type in (
        Type("regex", "[ab]{2}" * 1001),
        json_type({"type": "array", "items": {"type": "string", "pattern": "a?" * 1001}}),
        json_type({"type": "object", "patternProperties": {"a?" * 1001: True}}),
    ):
        with pytest.raises(GrammarError, match=r"too many repetitions, over 1,000"):
            compiler.start(type)


def test_closing_stops_a_trial() -> None:
    compiler = grammars()
    began = threading.Event()
    survives = compiler._trial.survives

    def slow(source: str) -> bool:
        began.set()
        return survives(source)

    compiler._trial.survives = slow  # type: ignore[method-assign]
    hostile = json_type(
        {"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}"} for i in range(40)]}
    )
    compilation = compiler.compile(hostile)
    assert began.wait(20)
    compiler.close()
    assert compilation.over
    with pytest.raises(EngineClosed):
        compilation.start()
    process = compiler._trial._process
    assert process is None or process.returncode is not None


def test_tokens_without_bytes_are_refused() -> None:
    tokenizer = wordpiece()
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)
    with pytest.raises(GrammarError, match="stand for no bytes"):
        compiler.start(Type("int"))


def test_nothing_is_built_before_the_first_type() -> None:
    assert "_vocabulary" not in vars(grammars())
