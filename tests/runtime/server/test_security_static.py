"""What the code of the server never does, and what its page never does: read, not run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("frontend_lang", "runtime", "cache", "kernels")
SERVER = sorted((ROOT / "runtime" / "server").rglob("*.py"))
SHIPPED = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PAGE = sorted((ROOT / "runtime" / "server" / "page").iterdir())

RUNS_CODE = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "joblib"}
FETCHES = {"urllib", "httpx", "httpx2", "requests", "aiohttp", "ftplib", "smtplib", "http"}
CALLS = {"torch.load", "numpy.load", "np.load", "os.system", "os.popen", "jinja2.Environment"}
CHECKS = {"auth.py", "middleware.py", "guard.py", "config.py", "idempotency.py"}
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|"
    r"javascript:|setAttribute\(\s*[\"']on|\bon\w+\s*=|DOMParser|createContextualFragment"
)


def calls(path: Path) -> list[str]:
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_data_is_run(path: Path) -> None:
    found = calls(path)
    assert not RUNS_CODE & {*found}
    assert not CALLS & {*found}
    assert not MODULES & imported(path)
    text = path.read_text()
    assert "shell=True" not in text
    assert "trust_remote_code=True" not in text


@pytest.mark.parametrize("path", SERVER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_server_asks_nobody(path: Path) -> None:
    assert not FETCHES & imported(path)
    assert "chat_template=" not in path.read_text(), "templates are the model's"


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_no_check_is_an_assertion(name: str) -> None:
    """Python leaves assertions out where it is told to."""
    tree = ast.parse((ROOT / "runtime" / "server" / name).read_text())
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def test_no_middleware_hides_who_leaves() -> None:
    for path in SERVER:
        text = path.read_text()
        assert "BaseHTTPMiddleware" not in text
        assert ".middleware(" not in text


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.name)
def test_the_page_writes_text_and_no_markup(path: Path) -> None:
    text = path.read_text()
    assert not SINKS.search(text), SINKS.search(text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "it works offline"
    assert path.suffix != ".html" or not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)", text)
