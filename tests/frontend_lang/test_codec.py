import json
import random
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ramet.codec import from_json, to_json
from ramet.errors import GraphError, Span
from ramet.graph import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    ListOf,
    MapOf,
    Open,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Text,
    TextOf,
    TupleOf,
)
from ramet.ledger import Ledger
from ramet.params import SamplingParams
from ramet.types import Type
from ramet.verify import breaks
from tests.frontend_lang.graphs import exactly, graphs


@settings(max_examples=60)
@given(graphs())
def test_the_round_trip_is_the_identity(graph: Graph) -> None:
    again = from_json(to_json(graph))
    assert again == graph
    assert exactly(again) == exactly(graph)


RICH = Graph(
    "rich",
    (
        Root(),
        Open(0, "user", span=Span("p.py", 1, 1)),
        Text(1, ("a",)),
        Close(2, "user"),
        Gen(3, "a", SamplingParams(n=2, temperature=1, logit_bias={5: 1}, stop="b")),
        Fork(4, 2),
        Branch(5, 0),
        Branch(5, 1),
        Select(6, "b", ("x", "y"), "greedy", 0.5, 7),
        Text(5, ("c", Ref(8, "prob"), Ref(8))),
        Gen(7, "d"),
        Sample(9, "e", SamplingParams(n=2, temperature=1), Type("int")),
        Branch(11, 0),
        Score(12, "f", ("?", Ref(12))),
        Call(13, "other"),
        Gen(14, "g", SamplingParams(beams=2, early_stopping="never")),
        Keep(11, 13),
        Gen(16, "h", type=Type("json", '{"type": "object"}')),
    ),
    MapOf((("a", ListOf((Ref(4), 1, 2.5))), ("b", TupleOf((TextOf(("x", Ref(8))), None, True))))),
)
OPEN = Graph(
    "open",
    (Root(), Input("a"), Input("b", "list"), Text(0, ("x", Ref(1))), Fork(3, 1), Branch(4, 0)),
    ListOf((Ref(1), Ref(2))),
)


@settings(max_examples=300)
@given(st.integers(0))
def test_changed_json_is_a_graph_or_a_graph_error(seed: int) -> None:
    chance = random.Random(seed)
    data = json.loads(to_json(chance.choice([RICH, OPEN])))
    for _ in range(chance.randint(1, 3)):
        mutate(data, chance)
    if again := read(json.dumps(data)):
        assert from_json(to_json(again)) == again


@settings(max_examples=100)
@given(st.integers(0), st.text(max_size=3))
def test_damaged_text_is_a_graph_or_a_graph_error(at: int, piece: str) -> None:
    text = to_json(RICH)
    at %= len(text)
    read(text[:at] + piece + text[at + len(piece) :])


def read(text: str) -> Graph | None:
    try:
        return from_json(text)
    except GraphError:
        return None


STRANGE: list[Any] = [
    None, True, -1, 0, 1, 2, 99, 10**30, 0.5, 1e308, "", "a", "gen", "\ud800", [], {}, [[]],
    {"ref": 0}, {"ref": 1, "attribute": "prob"}, {"list": [None]}, {"map": {"a": 1}}, ["f", 1, 1],
]  # fmt: skip


def mutate(data: Any, chance: random.Random) -> None:
    """Change one thing somewhere inside."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not keys:
            return
        key = chance.choice(keys)
        inner = data[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
            data = inner
            continue
        break
    match chance.randrange(4):
        case 0:
            del data[key]
        case 1 if isinstance(data, dict):
            data[chance.choice(["knd", "state", "kind", "n"])] = data.pop(key)
        case _:
            data[key] = deepcopy(chance.choice(STRANGE))


NODE = '{"kind": "gen", "state": 0, "name": "a", "params": {}}'


def document(nodes: str = NODE, rest: str = "") -> str:
    return f'{{"version": 1, "name": "p", "nodes": [{{"kind": "root"}}, {nodes}]{rest}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "$: no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "$: an object is needed, not a list"),
        ("{}", "$: 'version' is missing"),
        ('{"version": 2}', "$.version: the version must be 1, not 2"),
        ('{"version": true}', "$.version: a whole number is needed, not True"),
        ('{"version": 1, "nam": "p"}', "$: unknown field 'nam'; did you mean 'name'?"),
        ('{"version": 1, "name": "p"}', "$: 'nodes' is missing"),
        ('{"version": 1, "name": "p", "name": "q"}', "$: an object has the same name twice"),
        ('{"version": NaN}', "$: NaN is no JSON"),
        (document("3"), "$.nodes[1]: an object is needed, not 3"),
        (document("{}"), "$.nodes[1]: 'kind' is missing"),
        (
            document('{"kind": "gem"}'),
            "$.nodes[1].kind: unknown kind 'gem'; did you mean 'gen'?",
        ),
        (document('{"kind": "gen"}'), "$.nodes[1]: 'state' is missing"),
        (
            document('{"kind": "gen", "stat": 0}'),
            "$.nodes[1]: unknown field 'stat'; did you mean 'state'?",
        ),
        (
            document(NODE.replace("0", '"0"')),
            "$.nodes[1].state: a whole number is needed, not '0'",
        ),
        (document(NODE.replace("0", "0.0")), "$.nodes[1].state: a whole number is needed, not 0.0"),
        (document(NODE.replace('"a"', "[]")), "$.nodes[1].name: a string is needed, not a list"),
        (
            document(NODE.replace('"a"', '"\\ud800"')),
            "$.nodes[1].name: a lone surrogate is in a string",
        ),
        (
            document(NODE.replace("{}", '{"temprature": 1}')),
            "$.nodes[1].params: unknown sampling parameter 'temprature'; "
            "did you mean 'temperature'?",
        ),
        (
            document(NODE.replace("{}", '{"max_tokens": 1e400}')),
            "$.nodes[1].params: max_tokens must be a whole number from 1 to 65536, not inf",
        ),
        (
            document('{"kind": "text", "state": 0, "parts": ["a", 3]}'),
            "$.nodes[1].parts[1]: an object is needed, not 3",
        ),
        (
            document('{"kind": "text", "state": 0, "parts": [{"ref": 0, "att": 1}]}'),
            "$.nodes[1].parts[0]: unknown field 'att'",
        ),
        (
            document(NODE.replace("{}", '{}, "type": {"kind": "integer"}')),
            "$.nodes[1].type: 'integer' is no type; did you mean 'int'?",
        ),
        (
            document(NODE.replace("{}", '{}, "type": {"kind": "json", "source": "{"}')),
            "$.nodes[1].type: the schema is no JSON: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            document(NODE.replace("{}", '{}, "type": {"kind": "int", "sorce": ""}')),
            "$.nodes[1].type: unknown field 'sorce'; did you mean 'source'?",
        ),
        (
            document('{"kind": "keep", "state": 0, "branch": "1"}'),
            "$.nodes[1].branch: a whole number is needed, not '1'",
        ),
        (
            document('{"kind": "input", "name": "a", "state": 0}'),
            "$.nodes[1]: unknown field 'state'; did you mean 'takes'?",
        ),
        (
            document(NODE.replace("{}", '{}, "span": ["f", 1]')),
            "$.nodes[1].span: a span is [file, line, column]",
        ),
        (
            document(rest=', "result": {"set": []}'),
            "$.result: a result is a constant, "
            "or an object with ref, text, list, tuple, map or object",
        ),
        (
            document(rest=', "result": {"map": {"a": {"list": [{}]}}}'),
            "$.result.map.a.list[0]: a result is a constant, "
            "or an object with ref, text, list, tuple, map or object",
        ),
        (document(rest=', "result": 1e400'), "$.result: a number is too large"),
        (
            document(NODE.replace("0", "7")),
            "node 1 (gen) breaks state_is_earlier: "
            "it continues node 7, which does not come before it",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_path(text: str, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        from_json(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        document(rest=', "result": ' + '{"list": [' * 400 + "1" + "]}" * 400),
        document(rest=', "result": ' + "[" * 900 + "]" * 900),
        "9" * 10_000,
    ],
    ids=["lists", "objects", "result", "bare lists", "digits"],
)
def test_deep_and_huge_input_is_a_graph_error(text: str) -> None:
    with pytest.raises(GraphError):
        from_json(text)


def test_a_long_chain_is_no_deep_one() -> None:
    nodes = (Root(), *(Gen(i, "a") for i in range(5_000)))
    graph = Graph("long", nodes, Ref(5_000))
    assert from_json(to_json(graph)) == graph


def test_a_long_key_is_not_copied_into_every_path() -> None:
    items = ",".join(["0"] * 5_000)
    text = document(rest=f', "result": {{"map": {{"{"k" * 200_000}": {{"list": [{items}]}}}}}}')
    assert isinstance(from_json(text).result, MapOf)


def test_an_illegal_graph_is_not_written() -> None:
    with pytest.raises(GraphError, match="name_is_identifier"):
        to_json(Graph("p", (Root(), Gen(0, "9x"))))


def test_the_form() -> None:
    graph = Graph(
        "p",
        (Root(), Text(0, ("a",), span=Span("f", 1, 2)), Select(1, "b", ("x",))),
        MapOf((("b", Ref(2, "prob")),)),
    )
    assert json.loads(to_json(graph)) == {
        "version": 1,
        "name": "p",
        "nodes": [
            {"kind": "root"},
            {"kind": "text", "span": ["f", 1, 2], "state": 0, "parts": ["a"]},
            {"kind": "select", "state": 1, "name": "b", "options": ["x"]},
        ],
        "result": {"map": {"b": {"ref": 2, "attribute": "prob"}}},
    }


def test_a_span_that_was_read_opens_no_file() -> None:
    with pytest.raises(GraphError) as caught:
        from_json(
            document('{"kind": "gen", "state": 9, "name": "a", "span": ["/etc/hosts", 1, 1]}')
        )
    assert str(caught.value).startswith("/etc/hosts:1:1: node 1 (gen)")
    assert "\n" not in str(caught.value)
    assert breaks(Ledger(), Gen(9, "a", span=Span("/etc/hosts", 1, 1)))
