"""docs/graph.md against the code: its example, and every name that it has to explain."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

import ramet
from ramet.laws import LAWS
from ramet.nodes import (
    GEN_ATTRIBUTES,
    KINDS,
    METHODS,
    ROLES,
    SCALARS,
    SCORE_ATTRIBUTES,
    SELECT_ATTRIBUTES,
    TYPES,
)
from ramet.params import SAMPLING_FIELDS
from ramet.passes import Plan, StatePlan, fill
from ramet.types import KINDS as TYPE_KINDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "graph.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def rows(header: str) -> list[list[str]]:
    """The rows of the table that begins with this line."""
    _, _, rest = PAGE.partition(f"{header}\n")
    table = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_program_and_the_json_are_the_same_graph() -> None:
    names = {"ramet": ramet}
    exec(block("python"), names)
    program = names["tree"]
    assert isinstance(program, ramet.Program)
    compiled = program.compile()
    assert compiled.stops is None
    graph = ramet.from_json(block("json"))
    assert graph == compiled.graph
    written = json.loads(ramet.to_json(graph))
    assert written == json.loads(block("json"))
    assert not fill(graph, {"problem": "tea"}).inputs


def test_every_kind_with_its_fields() -> None:
    table = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows(KIND_HEADER)}
    assert list(table) == list(KINDS)
    for kind, node in KINDS.items():
        wanted = [field.name for field in fields(node) if field.name != "span"]
        assert [name for name in table[kind] if name in wanted] == wanted


KIND_HEADER = "| kind | fields | what it does |"


def test_every_law() -> None:
    named = [row[0].strip("`") for row in rows("| law | says |")]
    laws = {law.__name__ for laws in LAWS.values() for law in laws}
    assert sorted(named) == sorted(laws)


def test_every_setting_with_its_domain_and_default() -> None:
    table = rows("| name | takes | default | meaning |")
    assert [row[0].strip("`") for row in table] == list(SAMPLING_FIELDS)
    for (_, takes, default, says), field in zip(table, SAMPLING_FIELDS.values(), strict=True):
        assert takes == field.metadata["domain"].allowed
        assert says == field.metadata["says"]
        plain = json.loads(default.strip("`"))
        assert (tuple(plain) if isinstance(plain, list | dict) else plain) == field.default


@pytest.mark.parametrize("record", [Plan, StatePlan])
def test_every_field_of_a_plan(record: type[Plan | StatePlan]) -> None:
    for field in fields(record):
        assert f"`{field.name}`" in PAGE


def test_every_attribute_type_role_and_method() -> None:
    attributes = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in rows("| of | attributes |")}
    assert attributes == {
        "`gen`, and a branch of a `sample`": list(GEN_ATTRIBUTES),
        "`select`": list(SELECT_ATTRIBUTES),
        "`score`": list(SCORE_ATTRIBUTES),
    }
    for name in (*SCALARS, *TYPES, *ROLES, *METHODS):
        assert f"`{name}`" in PAGE
    for kind in TYPE_KINDS:
        assert f'"{kind}"' in PAGE or f"`{kind}`" in PAGE
