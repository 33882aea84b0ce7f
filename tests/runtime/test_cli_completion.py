"""What a shell suggests, asked as a shell asks it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.cli import PYTHON, TIPS, WRONG, ramet, write

LOUD = f"""\
from pathlib import Path

Path("was_run").touch()
{PYTHON}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tips_ramet=TIPS, wrong_ramet=WRONG, loud_py=LOUD)
    return tmp_path


def suggested(*words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    env = {
        "_RAMET_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["ramet", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return ramet(env=env).stdout.split()


def test_files_that_a_command_takes(folder: Path) -> None:
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    (folder / "more" / "deep.ramet").touch()
    assert suggested("check", "") == ["loud.py", "more/", "tips.ramet", "wrong.ramet"]
    assert suggested("run", "ti") == ["tips.ramet"]
    assert suggested("check", "tips.ramet", "more/") == ["more/deep.ramet"]
    assert suggested("check", "nowhere/") == []


def test_programs_of_the_file() -> None:
    assert suggested("run", "tips.ramet", "--program", "") == ["one", "tips"]
    assert suggested("run", "loud.py", "--program", "a") == ["ask"]


def test_parameters_that_are_not_given_yet() -> None:
    assert suggested("run", "tips.ramet", "--arg", "") == ["topic=", "n="]
    assert suggested("run", "tips.ramet", "--arg", "t") == ["topic="]
    assert suggested("run", "tips.ramet", "-a", "n=3", "--arg", "") == ["topic="]
    assert suggested("run", "tips.ramet", "--program", "one", "--arg", "") == ["a="]
    assert suggested("graph", "loud.py", "--arg", "") == ["q=", "n="]


def test_inputs_of_a_graph(folder: Path) -> None:
    (folder / "g.json").write_text(ramet("graph", "tips.ramet", "--json").stdout)
    assert suggested("run", "g.json", "--arg", "") == ["topic="]


def test_limits_and_models() -> None:
    assert suggested("run", "tips.ramet", "--limit", "s") == [
        "source_bytes=",
        "statements=",
        "steps=",
        "seconds=",
    ]
    assert suggested("run", "tips.ramet", "--model", "sm") == ["smollm2-135m"]


@pytest.mark.parametrize("file", ["wrong.ramet", "nowhere.ramet", "-", "more.py"])
def test_a_file_that_is_wrong_suggests_nothing(file: str, folder: Path) -> None:
    (folder / "more.py").write_text("def (")
    assert suggested("run", file, "--arg", "") == []
    assert suggested("run", file, "--program", "") == []


def test_nothing_of_the_file_is_run_and_no_engine_is_loaded(folder: Path) -> None:
    code = (
        "import os, sys\nfrom ramet.runtime.cli.app import app\n"
        "os.environ |= {'_RAMET_COMPLETE': 'complete_bash', 'COMP_CWORD': '4',"
        " 'COMP_WORDS': 'ramet run loud.py --arg '}\n"
        "try:\n    app(prog_name='ramet')\nfinally:\n    print({'torch', 'numpy'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.split("\n")[:3] == ["q=", "n=", "set()"], out.stderr
    assert not (folder / "was_run").exists()


def test_install_completion_is_offered() -> None:
    assert "--install-completion" in ramet("--help").stdout
