"""Small helpers that programs written for SGLang import beside it."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ramet.compat.sglang.errors import BackendError, UnsupportedError
from ramet.compat.sglang.state import ProgramState

__all__ = [
    "download_and_cache_file",
    "dump_state_text",
    "http_request",
    "launch_server_cmd",
    "normalize_base_url",
    "print_highlight",
    "read_jsonl",
    "terminate_process",
    "wait_for_server",
]


def read_jsonl(filename: str | os.PathLike[str]) -> list[Any]:
    """The lines of a file, each as JSON; empty lines and lines that begin with # are skipped."""
    lines = Path(filename).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip() and not line.startswith("#")]


def dump_state_text(
    filename: str | os.PathLike[str], states: Iterable[ProgramState | str], mode: str = "w"
) -> None:
    """Write the text of every state, with a line above each."""
    with open(filename, mode, encoding="utf-8") as file:
        for index, state in enumerate(states):
            text = state if isinstance(state, str) else state.text()
            file.write(f"{'=' * 40} {index} {'=' * 40}\n{text}\n\n")


def normalize_base_url(host: str, port: int | str | None = None) -> str:
    """`host` with a scheme, and with the port unless it has one."""
    url = host if "://" in host else f"http://{host}"
    has_port = urlsplit(url).port is not None
    return url.rstrip("/") if has_port or port is None else f"{url.rstrip('/')}:{port}"


def http_request(
    url: str,
    json: Any = None,
    stream: bool = False,
    api_key: str | None = None,
    verify: Any = None,
    method: str | None = None,
) -> Any:
    """The response to a POST of JSON, or to a GET where there is none."""
    import httpx2

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    method = method or ("GET" if json is None else "POST")
    with httpx2.Client(timeout=None, verify=True if verify is None else verify) as client:
        return client.request(method, url, json=json, headers=headers)


def download_and_cache_file(url: str, filename: str | None = None) -> str:
    """The path of a file from the network, fetched once."""
    import httpx2

    folder = Path(tempfile.gettempdir())
    path = Path(filename) if filename else folder / url.rstrip("/").rsplit("/", 1)[-1]
    if path.exists():
        return str(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with httpx2.stream("GET", url, follow_redirects=True) as response:
        response.raise_for_status()
        with partial.open("wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
    partial.replace(path)
    return str(path)


def print_highlight(text: Any) -> None:
    print(text, flush=True)


def wait_for_server(base_url: str, timeout: float | None = None, process: Any = None) -> None:
    """Wait until the server lists its models. Raises `TimeoutError`, or `BackendError` if its
    process ended."""
    from ramet.compat.sglang.backend.http import Server

    server, start = Server(base_url), time.monotonic()
    try:
        while True:
            if process is not None and process.poll() is not None:
                raise BackendError(f"the server ended with code {process.returncode}")
            try:
                server.get("/v1/models")
                return
            except BackendError as error:
                if timeout is not None and time.monotonic() - start > timeout:
                    raise TimeoutError(f"{base_url} is not up after {timeout} s") from error
            time.sleep(0.5)
    finally:
        server.close()


def terminate_process(process: "subprocess.Popen[Any]") -> None:
    """End a process that one started, and wait for it."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def launch_server_cmd(command: str, host: str = "0.0.0.0", port: int | None = None) -> NoReturn:
    raise UnsupportedError(
        f"no server is started here ({command!r}); use Runtime(model_path=...) in this process"
    )


def dump_raw(path: str | os.PathLike[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as lines of JSON."""
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
