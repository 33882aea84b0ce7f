"""`ramet check`, `fmt`, `graph` and `plan`: what can be said of a program without running it."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ramet import from_json, load
from ramet.pictures import mermaid
from ramet.syntax.blocks import parse
from ramet.syntax.printer import print_module
from tests.runtime.cli import PYTHON, TIPS, WRONG, data, ramet, write

LOOKS = """\
program looks(q: str):
    "{q}"
    gen a(max_tokens=4)
    if a == "x":
        "y"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tips_ramet=TIPS, wrong_ramet=WRONG, ask_py=PYTHON, looks_ramet=LOOKS)
    return tmp_path


# -- check


def test_check_tells_all_mistakes_of_all_files() -> None:
    result = ramet("check", "wrong.ramet", "tips.ramet", "ask.py")
    assert result.exit_code == 1
    assert result.stdout == (
        "wrong.ramet:2:7: unknown variable 'b'\n"
        '    "{b}"\n'
        "      ^\n"
        "wrong.ramet:3:11: gen has no setting 'max_tokns'; did you mean 'max_tokens'?\n"
        "    gen x(max_tokns=4)\n"
        "          ^\n"
        "wrong.ramet:4:12: unknown variable 'y'\n"
        "    return y\n"
        "           ^\n"
        "tips.ramet: ok: 2 programs\n"
        "ask.py: ok: 2 programs\n"
    )


def test_check_as_json() -> None:
    result = ramet("check", "--json", "wrong.ramet", "tips.ramet")
    assert result.exit_code == 1
    wrong, tips = data(result)
    assert tips == {"file": "tips.ramet", "programs": ["one", "tips"], "mistakes": []}
    assert wrong["programs"] == []
    assert [(m["line"], m["column"]) for m in wrong["mistakes"]] == [(2, 7), (3, 11), (4, 12)]
    assert wrong["mistakes"][0]["message"] == "unknown variable 'b'"


def test_check_of_one_right_program_from_stdin() -> None:
    result = ramet("check", "-", stdin=LOOKS)
    assert (result.exit_code, result.stdout) == (0, "<stdin>: ok: 1 program\n")


def test_a_file_that_is_not_there_is_told_before_any_is_checked() -> None:
    result = ramet("check", "tips.ramet", "tip.ramet")
    assert (result.exit_code, result.stdout) == (2, "")


def test_check_of_graphs(folder: Path) -> None:
    text = ramet("graph", "tips.ramet", "--json").stdout
    (folder / "right.json").write_text(text)
    (folder / "none.json").write_text("{")
    torn = json.loads(text)
    torn["nodes"].append({"kind": "close", "state": 0, "role": "user"})
    (folder / "torn.json").write_text(json.dumps(torn))
    assert ramet("check", "right.json").stdout == "right.json: ok: 1 program\n"
    none = ramet("check", "none.json")
    assert (none.exit_code, none.stdout.startswith("error: none.json: ")) == (1, True)
    result = ramet("check", "torn.json")
    assert result.exit_code == 1
    assert result.stdout.startswith("torn.json: node ")
    (row,) = data(ramet("check", "--json", "torn.json"))
    assert row["mistakes"][0]["message"] in result.stdout


def test_check_of_what_is_no_text(folder: Path) -> None:
    (folder / "latin.ramet").write_bytes(b'program p():\n    "\xe9"\n')
    result = ramet("check", "latin.ramet")
    assert result.exit_code == 1
    assert result.stdout == "error: latin.ramet is no UTF-8 text: byte 18 is wrong\n"


def test_check_of_too_much(folder: Path) -> None:
    (folder / "deep.ramet").write_text(f"program p():\n    let a = {'(' * 999}1{')' * 999}\n")
    result = ramet("check", "deep.ramet")
    assert result.exit_code == 1
    assert result.stdout.startswith("deep.ramet:2:")


# -- fmt


MESSY = 'program   p( a:str ):\n  "x"   # why\n\n\n  gen  y( max_tokens = 3 )'
TIDY = 'program p(a: str):\n    "x"  # why\n\n    gen y(max_tokens=3)\n'


def test_fmt_writes_the_canonical_form_once(folder: Path) -> None:
    path = folder / "messy.ramet"
    path.write_text(MESSY)
    path.chmod(0o640)
    result = ramet("fmt", "messy.ramet", "looks.ramet")
    assert (result.exit_code, result.stdout) == (0, "messy.ramet: formatted\n")
    assert path.read_text() == TIDY == print_module(parse(MESSY))
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in folder.iterdir() if each.name.startswith(".")) == []
    again = ramet("fmt", "messy.ramet")
    assert (again.exit_code, again.stdout) == (0, "")
    assert path.read_text() == TIDY


def test_fmt_turns_line_ends_and_drops_a_byte_order_mark(folder: Path) -> None:
    path = folder / "dos.ramet"
    path.write_bytes(b"\xef\xbb\xbf" + LOOKS.replace("\n", "\r\n").encode())
    assert ramet("fmt", "--check", "dos.ramet").exit_code == 1
    assert ramet("fmt", "dos.ramet").exit_code == 0
    assert path.read_bytes() == LOOKS.encode()


def test_fmt_check_writes_nothing(folder: Path) -> None:
    (folder / "messy.ramet").write_text(MESSY)
    result = ramet("fmt", "--check", "messy.ramet", "looks.ramet")
    assert result.exit_code == 1
    assert result.stdout == "messy.ramet: would change\nlooks.ramet: ok\n"
    assert (folder / "messy.ramet").read_text() == MESSY
    assert ramet("fmt", "--check", "looks.ramet").exit_code == 0


def test_fmt_diff_shows_what_would_change(folder: Path) -> None:
    (folder / "messy.ramet").write_text(MESSY)
    result = ramet("fmt", "--diff", "messy.ramet")
    assert result.exit_code == 0
    assert "\n-program   p( a:str ):\n" in result.stdout
    assert "\n+program p(a: str):\n" in result.stdout
    assert "\\ No newline at end of file\n" in result.stdout
    assert (folder / "messy.ramet").read_text() == MESSY
    assert ramet("fmt", "--diff", "looks.ramet").stdout == ""
    assert ramet("fmt", "--diff", "--check", "messy.ramet").exit_code == 1


def test_fmt_of_stdin() -> None:
    assert ramet("fmt", "-", stdin=MESSY).stdout == TIDY
    assert ramet("fmt", "--check", "-", stdin=MESSY).exit_code == 1


def test_fmt_goes_on_after_a_file_that_is_wrong(folder: Path) -> None:
    (folder / "torn.ramet").write_text("program p(:\n")
    (folder / "messy.ramet").write_text(MESSY)
    result = ramet("fmt", "torn.ramet", "messy.ramet")
    assert result.exit_code == 1
    assert result.stderr.startswith("torn.ramet:1:")
    assert (folder / "torn.ramet").read_text() == "program p(:\n"
    assert (folder / "messy.ramet").read_text() == TIDY


def test_fmt_follows_a_link(folder: Path) -> None:
    (folder / "messy.ramet").write_text(MESSY)
    (folder / "link.ramet").symlink_to("messy.ramet")
    ramet("fmt", "link.ramet")
    assert (folder / "link.ramet").is_symlink()
    assert (folder / "messy.ramet").read_text() == TIDY


def test_fmt_leaves_the_file_whole_when_writing_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "messy.ramet").write_text(MESSY)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device", "messy.ramet")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    result = ramet("fmt", "messy.ramet")
    assert result.exit_code == 1
    assert result.stderr == "error: messy.ramet: No space left on device\n"
    assert (folder / "messy.ramet").read_text() == MESSY
    assert [each for each in os.listdir(folder) if each.startswith(".")] == []


# -- graph


def test_graph_in_every_form(folder: Path) -> None:
    words = ("graph", "tips.ramet", "-a", "topic=tea")
    graph = load("tips.ramet").compile(topic="tea").graph
    assert ramet(*words).stdout == ramet(*words, "--text").stdout == f"{graph}\n"
    assert from_json(ramet(*words, "--json").stdout) == graph
    assert ramet(*words, "--mermaid").stdout.rstrip() == mermaid(graph).rstrip()
    drawn = ramet(*words, "--svg", "-").stdout
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    result = ramet(*words, "--svg", "out.svg")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (folder / "out.svg").read_text() == drawn


def test_graph_without_arguments_has_inputs() -> None:
    assert "= input topic str" in ramet("graph", "tips.ramet").stdout


def test_graph_of_a_graph_takes_its_arguments(folder: Path) -> None:
    (folder / "g.json").write_text(ramet("graph", "tips.ramet", "--json").stdout)
    filled = ramet("graph", "g.json", "-a", "topic=tea").stdout
    assert '"Tips about tea."' in filled
    assert "input" not in filled


def test_graph_says_where_the_program_can_no_longer_be_known() -> None:
    result = ramet("graph", "looks.ramet", "-a", "q=x")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "%2 = gen %1 as a (max_tokens=4)"
    assert result.stderr.startswith("looks.ramet:4:")
    assert "the value of 'a' is needed here" in result.stderr


def test_graph_asks_for_the_argument_that_is_looked_at(folder: Path) -> None:
    (folder / "count.ramet").write_text(
        'program count(n: int):\n    for i in range(n):\n        "x"\n'
    )
    assert "give it with --arg n=…" in ramet("graph", "count.ramet").stderr
    assert ramet("graph", "count.ramet", "-a", "n=2").stderr == ""


def test_graph_of_python_that_raises() -> None:
    result = ramet("graph", "ask.py", "-a", "q=x", "-a", "n=3")
    assert result.exit_code == 1
    assert result.stderr == "ask.py:14:9: KeyError: 'x'\n    {}[\"x\"]\n    ^\n"


# -- plan


def test_plan_as_json_is_the_plan() -> None:
    told = data(ramet("plan", "tips.ramet", "-a", "topic=tea", "-a", "n=3", "--json"))
    assert (told["program"], told["counted_by"], told["stops"]) == ("tips", None, None)
    assert (told["generated"], told["branches"], told["branches_live"]) == (3 * 6 + 8, 3, 3)
    assert told["critical_tokens"] == 8
    assert told["shared_prefix"]["text"] == "Tips about tea."
    assert len(told["states"]) == 4
    assert told["states"][0]["begins"] == 0


def test_plan_for_a_person() -> None:
    result = ramet("plan", "tips.ramet", "-a", "n=3")
    rows = {line.strip() for line in result.stdout.splitlines()}
    assert "26  tokens drawn at most" in rows
    assert "3  branches; 3 at once at most" in rows
    assert "not given, and counted as nothing: topic" in rows
    assert any("“Tips about ”" in row for row in rows)
    assert any(row.startswith("branch 2 of %") for row in rows)
    assert any("gen summary (line 11)" in row for row in rows)


def test_plan_of_many_branches_is_cut(folder: Path) -> None:
    result = ramet("plan", "tips.ramet", "-a", "topic=x", "-a", "n=100")
    assert "… and 77 more" in result.stdout
    assert len(result.stdout.splitlines()) < 45


def test_plan_says_where_the_program_can_no_longer_be_known() -> None:
    result = ramet("plan", "looks.ramet", "-a", "q=x")
    assert "looks.ramet:4:" in result.stderr
    told = data(ramet("plan", "looks.ramet", "-a", "q=x", "--json"))
    assert (told["stops"]["kind"], told["stops"]["line"]) == ("TraceError", 4)


def test_plan_counts_with_the_tokenizer_of_a_model() -> None:
    words = ("plan", "tips.ramet", "-a", "topic=tea", "--model", "smollm2-135m")
    told = data(ramet(*words, "--json"))
    assert told["counted_by"] == "smollm2-135m"
    assert told["shared_prefix"]["tokens"] == 4  # T ips, about, tea, .
    result = ramet("plan", "tips.ramet", "--model", "smollm3")
    assert result.exit_code == 3
    assert "unknown model 'smollm3'" in result.stderr


def test_plan_bounds_what_cannot_be_known_ahead() -> None:
    result = ramet("plan", "looks.ramet", "-a", "q=x")
    assert "at most: tokens drawn 4, branches 0, turns of loops 0" in result.stdout
    told = data(ramet("plan", "looks.ramet", "-a", "q=x", "--json"))
    assert told["most"] == {"generated": 4, "branches": 0, "turns": 0}
