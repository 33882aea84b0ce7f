"""Every example runs on SmolLM2 in both forms, with equal graphs and equal results."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ramet
from ramet.passes import simplify
from ramet.runtime import Engine

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHOTS = [{"q": "The capital of France?", "a": "Paris"}, {"q": "Of Spain?", "a": "Madrid"}]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "agent": {"task": "Add 2 and 3."},
    "chain_of_thought": {"question": "What is 12 plus 30?"},
    "classify": {"review": "A wonderful film."},
    "completion": {"start": "The capital of Fra"},
    "few_shot": {"question": "Of Italy?", "shots": SHOTS},
    "headline": {"story": "In 1868 the bridge was opened to all."},
    "judge_panel": {"essay": "Bees make honey.", "aspects": ["style", "facts"]},
    "multi_document_qa": {"question": "When?", "documents": ["Built in 1868.", "Closed in 1990."]},
    "self_consistency": {"question": "What is 3 + 4?", "k": 3},
    "skeleton_of_thought": {"topic": "bees", "points": 2},
    "ticket": {"message": "The lamp flickers.", "queues": ["billing", "repairs"]},
    "tips": {"topic": "tea", "n": 2},
    "tree_of_thought": {"problem": "Boil an egg.", "width": 2},
}


def embedded(name: str) -> ramet.Program[..., Any]:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine("smollm2-135m") as engine:
        yield engine


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ramet")} == set(ARGUMENTS)
    missing = {name for name in ARGUMENTS if not (EXAMPLES / f"{name}.py").exists()}
    assert not missing


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_both_forms_are_one(engine: Engine, name: str) -> None:
    text = engine.run(ramet.load(EXAMPLES / f"{name}.ramet"), **ARGUMENTS[name])
    python = engine.run(embedded(name), **ARGUMENTS[name])

    assert simplify(text.graph) == simplify(python.graph)
    assert text.value == rounded(python.value)
    assert text.text == python.text
    assert ramet.from_json(ramet.to_json(text.graph)) == text.graph
    engine.audit()


def rounded(value: Any) -> Any:
    """What was computed on a cached context may differ in its last digits."""
    match value:
        case float():
            return pytest.approx(value, abs=1e-5)
        case list():
            return [rounded(each) for each in value]
        case dict():
            return {key: rounded(each) for key, each in value.items()}
        case _:
            return value


def test_an_example_with_classes_has_no_text(engine: Engine) -> None:
    message = "Ada Byron and her child Max would like a suite for two nights from 2026-05-04."
    done = engine.run(embedded("extraction"), message=message)
    booking = done.value["booking"]

    assert type(booking).__name__ == "Booking"
    assert booking == done["booking"]
    assert booking.model_validate_json(done.info("booking").text) == booking
    assert 1 <= len(booking.guests) <= 3
    assert done.value["complete"] in ("yes", "no")
    engine.audit()


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_both_signatures_are_one(name: str) -> None:
    text = ramet.load(EXAMPLES / f"{name}.ramet")
    assert str(text.signature) == str(embedded(name).signature)
