"""`ramet run` on the toy model: what a person sees, what a script reads, batches, interruptions."""

import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ramet.runtime import Engine
from ramet.runtime.cli.jobs import Job
from ramet.runtime.cli.results import _beams  # pyright: ignore[reportPrivateUsage]
from ramet.runtime.errors import EngineError
from ramet.runtime.sequence import Usage
from ramet.runtime.values import GenInfo
from tests.runtime.cli import PYTHON, TIPS, WRONG, data, ramet, write
from tests.runtime.conftest import ToyEngine, ToyModel, all_back, toy_words

TOPIC = ("-a", "topic=tea")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tips_ramet=TIPS, ask_py=PYTHON)
    return tmp_path


class Opened:
    """The engines that were opened, and for what."""

    def __init__(self, make: ToyEngine) -> None:
        self.engines: list[Engine] = []
        self.jobs: list[Job] = []
        self.prepare: Callable[[ToyModel], None] = lambda model: None
        self._make = make

    def __call__(self, job: Job) -> Engine:
        engine = self._make(seed=job.seed or 0, limits=job.limits)
        assert isinstance(engine.core.model, ToyModel)
        self.prepare(engine.core.model)
        self.jobs.append(job)
        self.engines.append(engine)
        return engine


@pytest.fixture(autouse=True)
def opened(toy_engine: ToyEngine, monkeypatch: pytest.MonkeyPatch) -> Opened:
    opened = Opened(toy_engine)
    monkeypatch.setattr("ramet.runtime.cli.running.open_engine", opened)
    return opened


def expected(opened: Opened, q: str, n: int = 4) -> str:
    return toy_words(opened.engines[0].tokenizer, q, n)


# -- for a person


def test_a_person_sees_every_variable_then_the_value_the_states_and_the_choices() -> None:
    result = ramet("run", "tips.ramet", *TOPIC)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    labels = [line.partition(" │ ")[0].strip() for line in lines if " │ " in line]
    assert {label for label in labels if label} == {"tip[0]", "tip[1]", "summary", "mood", "fit"}
    titles = [line for line in lines if line in ("value", "states", "mood", "fit", "sharing")]
    assert titles == ["value", "states", "mood", "fit"]
    assert "branch 1" in result.stdout
    assert "█ reused" in result.stdout
    assert any("good" in line and "%" in line and "█" in line for line in lines)


def test_without_a_stream_only_the_outcome_is_shown() -> None:
    result = ramet("run", "tips.ramet", *TOPIC, "--no-stream")
    assert " │ " not in result.stdout
    assert result.stdout.startswith("\nvalue\n")


def test_stats() -> None:
    result = ramet("run", "tips.ramet", *TOPIC, "--stats")
    assert "sharing" in result.stdout
    assert "forward passes" in result.stdout


def test_beams_are_listed_best_first(folder: Path) -> None:
    text = 'program p():\n    "x"\n    gen y(beams=3, max_tokens=3, ignore_eos=true)\n'
    (folder / "beams.ramet").write_text(text)
    lines = ramet("run", "beams.ramet").stdout.splitlines()
    rows = lines[lines.index("y") + 2 :]
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    scores = [float(row.split()[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_beams_that_go_on_as_branches_are_one_table_and_so_are_scores(folder: Path) -> None:
    text = """program p():
    "x"
    fork gen y(beams=3, max_tokens=3, ignore_eos=true) as ends:
        score fit of "!"
    fork 2 as own:
        gen z(beams=2, max_tokens=2, ignore_eos=true)
"""
    (folder / "ends.ramet").write_text(text)
    lines = ramet("run", "ends.ramet", "--no-stream").stdout.splitlines()
    tables = lines[lines.index("y") :]
    assert [line for line in tables if re.fullmatch(r"[a-z]+(\[\d\])?", line)] == [
        *("y", "fit", "z")  # both branches search alike
    ]
    fits = tables[tables.index("fit") + 2 :][:3]
    assert [row.split()[0] for row in fits] == ["fit[0]", "fit[1]", "fit[2]"]


def test_hypotheses_that_are_asked_for_as_a_list_are_a_table_too(folder: Path) -> None:
    text = 'program p():\n    "x"\n    gen y(beams=3, n=2, max_tokens=3, ignore_eos=true)\n'
    (folder / "beams.ramet").write_text(text)
    lines = ramet("run", "beams.ramet", "--no-stream").stdout.splitlines()
    assert [row.split()[0] for row in lines[lines.index("y") + 2 :]] == ["0", "1", "2"]


MANY = """program p():
    "x"
    select y from [" a" * 30 + str(at) for at in range(50)] (temperature=100.0, seed=2)
"""


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_many_long_options_are_cut_and_the_rest_is_counted(folder: Path, columns: int) -> None:
    (folder / "many.ramet").write_text(MANY)
    env = {"COLUMNS": str(columns)}
    lines = ramet("run", "many.ramet", "--no-stream", env=env).stdout.splitlines()
    below = lines[lines.index("y") + 2 :]
    rows = [line for line in below if line.startswith(" a")]
    told = " ".join(below[len(rows) :])
    assert max(map(len, below)) <= columns
    assert all("…" in row and "%" in row for row in rows)
    more = re.fullmatch(r"and (\d+) more with \d+\.\d% together; entropy \d\.\d\d nats", told)
    assert more is not None
    assert len(rows) + int(more[1]) == 50
    assert len(rows) == 21, "the 20 likeliest, and the one that was drawn"


def test_of_long_hypotheses_the_part_that_differs_is_shown() -> None:
    alike = "word " * 40
    info = GenInfo("", (), "length", None, (), Usage(), -1.0, (alike + "one", alike), (-1.0, -2.0))
    console = Console(width=60, file=StringIO())
    console.print(_beams(info))
    assert isinstance(console.file, StringIO)
    found = [row.split(None, 2)[2].strip() for row in console.file.getvalue().splitlines()[1:]]
    assert found == ["…d word word one", "…d word word"]


def test_what_a_terminal_would_obey_is_made_visible(folder: Path) -> None:
    text = 'program p():\n    "x"\n    select y from ["\\u001b[31m", "\\u001b]0;t"]\n    return y\n'
    (folder / "escapes.ramet").write_text(text)
    result = ramet("run", "escapes.ramet")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "␛" in result.stdout


# -- for a script


def test_json_is_one_object_and_nothing_else(opened: Opened) -> None:
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=5", "--json", "--stats")
    told = data(result)
    text = expected(opened, "abc", 5)
    assert result.stderr == ""
    assert (told["program"], told["model"]) == ("ask", "smollm2-135m")
    assert (told["value"], told["variables"]) == (text, {"a": text})
    assert told["details"] == {"a": {"finish_reason": "length", "tokens": 5}}
    assert told["usage"]["generated"] == 5
    assert told["stats"]["steps"] == opened.engines[0].stats().steps
    assert set(told["seconds"]) == {"load", "run"}


def test_json_has_every_branch_and_probability() -> None:
    told = data(ramet("run", "tips.ramet", *TOPIC, "-a", "n=3", "--json"))
    assert [branch["path"] for branch in told["branches"]] == ["/1.0", "/1.1", "/1.2"]
    assert set(told["variables"]) == {"summary", "mood", "fit"}
    assert set(told["branches"][0]["variables"]) == {"tip"}
    assert sum(told["details"]["mood"]["probs"].values()) == pytest.approx(1)
    assert told["value"] == {name: told["variables"][name] for name in ("summary", "mood")}


def test_a_failure_as_json_has_what_was_written() -> None:
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=50", "--json", "--limit", "tokens=6")
    told = data(result)
    assert result.exit_code == 1
    assert told["error"]["kind"] == "LimitError"
    assert "more than 6 tokens" in told["error"]["message"]
    assert "value" not in told
    assert len(told["unfinished"]["a"]) >= 1
    assert "error: the run generates more than 6 tokens" in result.stderr


def test_numbers_that_json_has_not_are_null() -> None:
    from ramet.runtime.cli.terminal import as_json

    assert as_json({"a": float("-inf"), "b": (1, 2.5), 3: True}) == (
        '{"a": null, "b": [1, 2.5], "3": true}'
    )


# -- what is run, and with what


def test_a_program_from_stdin() -> None:
    text = 'program p(q: str):\n    "{q}"\n    gen a(max_tokens=2)\n'
    assert data(ramet("run", "-", "-a", "q=x", "--json", stdin=text))["program"] == "p"


def test_a_graph_that_was_written_runs_again(folder: Path) -> None:
    (folder / "g.json").write_text(ramet("graph", "tips.ramet", "--json").stdout)
    again = data(ramet("run", "g.json", *TOPIC, "--json"))
    assert again["value"] == data(ramet("run", "tips.ramet", *TOPIC, "--json"))["value"]
    missing = ramet("run", "g.json")
    assert (missing.exit_code, "needs --arg topic=…" in missing.stderr) == (2, True)


def test_another_program_of_the_file() -> None:
    assert data(ramet("run", "tips.ramet", "--program", "one", "-a", "a=x", "--json"))[
        "program"
    ] == ("one")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "5", "5"),
        ("str", '"a b"', "a b"),
        ("str", '"', '"'),
        ("str", "a=b", "a=b"),
        ("int", "-3", -3),
        ("float", "2", 2),
        ("bool", "true", True),
        ("list", '[1, "a"]', [1, "a"]),
        ("map", '{"a": {"b": null}}', {"a": {"b": None}}),
        (None, "5", 5),
        (None, "five", "five"),
        (None, "NaN", "NaN"),
    ],
)
def test_arguments_are_json_where_that_is_of_the_type(
    kind: str | None, text: str, value: object, folder: Path, opened: Opened
) -> None:
    annotated = "x" if kind is None else f"x: {kind}"
    (folder / "p.ramet").write_text(f'program p({annotated}):\n    "a"\n    return x\n')
    assert data(ramet("run", "p.ramet", "-a", f"x={text}", "--json"))["value"] == value
    assert opened.jobs[0].arguments == {"x": value}


def test_a_seed_goes_before_that_of_the_program(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import ramet\n\n@ramet.program\ndef draw(s):\n    s += 'x'\n"
        "    s += ramet.gen('y', max_tokens=9, temperature=1.0)\n    return s['y']\n\n"
        "draw = draw.seeded(7)\n"
    )
    runs = [
        data(ramet("run", "s.py", "--json", *seed))["value"]
        for seed in ((), ("--seed", "7"), ("--seed", "8"))
    ]
    assert runs[0] == runs[1] != runs[2]


def test_limits_are_those_of_the_source_too() -> None:
    result = ramet("run", "tips.ramet", *TOPIC, "--limit", "source_bytes=10")
    assert result.exit_code == 1
    assert "the source is longer than 10 bytes" in result.stderr
    result = ramet("run", "tips.ramet", *TOPIC, "-a", "n=4", "--limit", "branches=3")
    assert result.exit_code == 1
    assert "tips.ramet:7:" in result.stderr
    assert "more than 3 branches" in result.stderr


# -- what goes wrong in a run


def test_python_that_raises_is_told_with_its_line_and_what_was_written() -> None:
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=3")
    assert result.exit_code == 1
    assert result.stderr == "ask.py:14:9: KeyError: 'x'\n    {}[\"x\"]\n    ^\n"
    assert "Traceback" not in result.output


def test_a_step_that_fails_ends_the_run_and_gives_everything_back(opened: Opened) -> None:
    opened.prepare = lambda model: model.fail_at.add(3)
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=9")
    assert result.exit_code == 1
    assert "the device caught fire" in result.stderr
    assert result.stdout.startswith("a │ ")
    assert all_back(opened.engines[0].core)


def interrupt_at(forward: int) -> Callable[[ToyModel], None]:
    """Somebody presses Ctrl-C during that forward pass."""

    def prepare(model: ToyModel) -> None:
        inner = model.forward

        def run(*args: Any) -> Any:
            if model.forwards == forward:
                raise KeyboardInterrupt
            return inner(*args)

        model.forward = run  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("words", [(), ("--no-stream",)])
def test_an_interrupted_run_shows_what_it_has(words: tuple[str, ...], opened: Opened) -> None:
    opened.prepare = interrupt_at(5)
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=40", *words)
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert result.stdout.startswith("a │ ")
    assert len(result.stdout) > len("a │ \n")
    assert all_back(opened.engines[0].core)


def test_an_interrupted_run_as_json(opened: Opened) -> None:
    opened.prepare = interrupt_at(5)
    result = ramet("run", "ask.py", "-a", "q=abc", "-a", "n=40", "--json")
    told = data(result)
    assert result.exit_code == 130
    assert told["error"] == {"kind": "Interrupted", "message": "interrupted"}
    assert told["unfinished"]["a"]


# -- batches


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_has_a_line_for_each_item_in_their_order(folder: Path, opened: Opened) -> None:
    items = ['{"q": "first", "n": 9}', "", '{"q": 5}', '{"q": "b", "n": 3}', '{"q": "c"}']
    (folder / "items.jsonl").write_text("\n".join(items))
    result = ramet("run", "ask.py", "--args-file", "items.jsonl", "-a", "n=2")
    rows = lines(result.stdout)
    assert result.exit_code == 1
    assert [row["item"] for row in rows] == [0, 1, 2, 3]
    assert [row.get("value") for row in rows] == [
        expected(opened, "first", 9),
        None,
        None,
        expected(opened, "c", 2),
    ]
    assert rows[1]["error"]["kind"] == "ArgumentError"
    assert (rows[2]["error"]["message"], rows[2]["error"]["line"]) == ("KeyError: 'x'", 14)
    assert "2 of 4 items failed" in result.stderr


def test_a_batch_of_a_list_and_from_stdin(folder: Path) -> None:
    (folder / "items.json").write_text('[{"q": "a"}, {"q": "b"}]')
    listed = ramet("run", "ask.py", "--args-file", "items.json")
    piped = ramet("run", "ask.py", "--args-file", "-", stdin='{"q": "a"}\n{"q": "b"}\n')
    assert listed.exit_code == piped.exit_code == 0
    assert lines(listed.stdout) == lines(piped.stdout)
    assert listed.stderr == ""


def test_a_batch_of_a_graph(folder: Path) -> None:
    (folder / "g.json").write_text(ramet("graph", "tips.ramet", "--json").stdout)
    result = ramet("run", "g.json", "--args-file", "-", stdin='{"topic": "a"}\n{"topic": "b"}\n')
    assert result.exit_code == 0, result.stderr
    single = data(ramet("run", "tips.ramet", "-a", "topic=b", "--json"))
    assert lines(result.stdout)[1]["value"] == single["value"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("i.jsonl", '{"q": "a"}\n{"q": \n', "i.jsonl:2: no JSON"),
        ("i.jsonl", "[1]\n", "i.jsonl:1: an item is an object"),
        ("i.json", '[{"q": "a"}, 5]', "i.json: item 1: an item is an object"),
        ("i.json", "{", "i.json: no JSON"),
    ],
)
def test_a_wrong_file_of_items(
    name: str, text: str, told: str, folder: Path, opened: Opened
) -> None:
    (folder / name).write_text(text)
    result = ramet("run", "ask.py", "--args-file", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert opened.engines == []


def test_an_interrupted_batch_has_printed_what_was_through(opened: Opened) -> None:
    opened.prepare = interrupt_at(6)
    items = '{"q": "a", "n": 2}\n{"q": "b", "n": 40}\n'
    result = ramet("run", "ask.py", "--args-file", "-", stdin=items)
    assert result.exit_code == 130
    assert [row["item"] for row in lines(result.stdout)] == [0]
    assert all_back(opened.engines[0].core)


def test_an_engine_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from ramet.runtime.cli import engines

    monkeypatch.setattr("ramet.runtime.cli.running.open_engine", engines.open_engine)
    result = ramet("run", "ask.py", "-a", "q=x", "--model", "smolm2-135m")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "unknown model 'smolm2-135m'" in result.stderr


def test_the_engine_gets_what_the_line_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ramet.runtime.cli import engines

    asked: list[object] = []
    monkeypatch.setattr("ramet.runtime.cli.running.open_engine", engines.open_engine)

    def engine(model: str, *, device: str, dtype: str | None, **settings: object) -> None:
        asked.extend((model, device, dtype))
        raise EngineError("not here")

    monkeypatch.setattr(engines, "Engine", engine)
    words = ("run", "ask.py", "-a", "q=x", "--model", "some", "--dtype", "int8")
    assert ramet(*words).exit_code == 3
    assert asked == ["some", "cpu", "int8"]
    asked.clear()
    assert ramet("run", "ask.py", "-a", "q=x", "-m", "some", "--device", "cuda:1").exit_code == 3
    assert asked == ["some", "cuda:1", None]
    assert ramet("run", "ask.py", "-a", "q=x", "--dtype", "int4").exit_code == 2


def test_a_batch_shows_how_far_it_is_on_a_terminal() -> None:
    items = '{"q": "a"}\n{"q": "b"}\n'
    result = ramet("run", "ask.py", "--args-file", "-", stdin=items, env={"FORCE_COLOR": "1"})
    assert "2/2" in result.stderr
    assert [row["item"] for row in lines(result.stdout)] == [0, 1]


def test_stats_of_a_batch_are_its_last_line() -> None:
    result = ramet("run", "ask.py", "--args-file", "-", "--stats", stdin='{"q": "a"}\n')
    assert lines(result.stdout)[-1]["stats"]["steps"] > 0


def test_a_wrong_program_is_told_before_an_engine_is_loaded(folder: Path, opened: Opened) -> None:
    (folder / "wrong.ramet").write_text(WRONG)
    result = ramet("run", "wrong.ramet", "-a", "a=x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line for line in result.stderr.splitlines() if line.startswith("wrong.ramet:")] == [
        "wrong.ramet:2:7: unknown variable 'b'",
        "wrong.ramet:3:11: gen has no setting 'max_tokns'; did you mean 'max_tokens'?",
        "wrong.ramet:4:12: unknown variable 'y'",
    ]
    assert opened.engines == []


def test_concurrency_bounds_what_is_under_way(opened: Opened) -> None:
    """One after the other takes a step for each token of each item."""
    items = '{"q": "a"}\n{"q": "b"}\n'
    for words in ((), ("--concurrency", "1")):
        ramet("run", "ask.py", "--args-file", "-", *words, stdin=items)
    together, alone = (engine.stats().steps for engine in opened.engines)
    assert alone > together
