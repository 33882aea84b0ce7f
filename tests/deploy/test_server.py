"""How deploy/ runs the server, held against what the server has: options, times, ports, folders.

Nothing here needs Docker or systemd; what can be tried with them is tried where they are.
"""

import asyncio
import configparser
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ramet.runtime import config as engine_config
from ramet.runtime.cli import app, serving
from ramet.runtime.server import ServerConfig
from ramet.runtime.server.serve import CLOSE_S
from ramet.runtime.tokenizer import Tokenizer
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    PAGE,
    PROMETHEUS,
    ROOT,
    SERVICES,
    UNIT,
    instructions,
)
from tests.pages import blocks_of
from tests.runtime.conftest import byte_tokenizer as byte_tokenizer
from tests.runtime.server.serving import listening

LEAST_STOP_S = ServerConfig().drain_s + ServerConfig().stall_s + 2 * CLOSE_S
"""Seconds after SIGTERM until the server has ended: runs, answers read slowly, the engine."""


def seconds(text: str) -> float:
    (number,) = re.findall(r"^(\d+)s?$", text)
    return float(number)


# -- options and environment


def commands() -> Iterator[list[str]]:
    """The words behind `ramet serve`, wherever it is called."""
    (entry, *_) = entries = [json.loads(each) for each in instructions("ENTRYPOINT")]
    for each in entries:
        assert each[:2] == ["ramet", "serve"]
        yield each[2:]
    yield entry[2:] + SERVICES["server"]["command"]
    (start,) = re.findall(r"^ExecStart=\S+/ramet serve (.*)", UNIT, re.MULTILINE)
    yield start.split()
    yield re.findall(r"`(--[\w-]+)[ `]", re.sub(r"`--(target|gpus|cpus|stop-timeout)\b", "", PAGE))


def test_every_option_is_one_of_the_server() -> None:
    known = {
        option
        for parameter in typer.main.get_command(app.app).commands["serve"].params  # type: ignore[attr-defined]
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for words in commands():
        options = {word for word in words if word.startswith("-")}
        assert options
        assert options <= known


def test_every_variable_of_ours_is_read() -> None:
    sources = "".join(map(inspect.getsource, (engine_config, serving)))
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    named = {*re.findall(r"\bRAMET_[A-Z]+\b", "".join([*texts, PAGE]))}
    assert {"RAMET_CACHE", "RAMET_KEYS"} <= named
    assert all(f'"{name}"' in sources for name in named)


def test_what_caches_is_told_where() -> None:
    for name in ("RAMET_CACHE", "HF_HOME", "TRITON_CACHE_DIR"):
        assert re.search(rf"\b{name}=/var/cache/ramet\b", DOCKERFILE)
        assert re.search(rf"\b{name}=%C/ramet\b", UNIT)


# -- times, ports, versions


def test_nobody_kills_a_server_that_drains() -> None:
    (stop,) = re.findall(r"^TimeoutStopSec=(.*)", UNIT, re.MULTILINE)
    times = [
        stop,
        SERVICES["server"]["stop_grace_period"],
        *re.findall(r"--stop-timeout (\d+)", PAGE),
    ]
    assert len(times) == 3
    assert all(seconds(each) > LEAST_STOP_S for each in times)
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_a_proxy_waits_for_as_long_as_a_run_may_take() -> None:
    config = ServerConfig()
    most = config.wait_s + config.program.seconds
    assert f"{most:g} seconds in all" in PAGE
    assert all(seconds(each) > most for each in re.findall(r"proxy_read_timeout (\w+);", PAGE))


def test_ports_are_of_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service["ports"]]
    ports += re.findall(r"^docker run .*-p (\S+)", PAGE, re.MULTILINE)
    assert len(ports) == 4
    assert all(ip_address(port.split(":")[0]).is_loopback for port in ports)
    assert "--host" not in next(line for line in UNIT.split("\n") if line.startswith("ExecStart"))


def test_everybody_means_the_same_port() -> None:
    port = str(ServerConfig().port)
    assert instructions("EXPOSE") == [port]
    assert f"http://127.0.0.1:{port}/ready" in DOCKERFILE
    assert SERVICES["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{port}"]}]


def test_images_have_a_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    stages = {each.split(" AS ")[1] for each in instructions("FROM")}
    assert {"cpu", "cuda"} <= stages
    assert instructions("FROM")[-1].endswith(" AS cpu"), "the default target"
    images = {each.split(" AS ")[0] for each in instructions("FROM")} - stages
    images |= {service["image"] for service in SERVICES.values()}
    assert all(re.search(r":v?\d+\.\d+\.\d+", image) for image in images)
    assert SERVICES["server"]["image"] == f"ramet:{version}"
    (python,) = {image for image in images if image.startswith("python:")}
    assert re.match(r"python:3\.(1[1-9])\.", python)


# -- what goes into the image


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    first, *rules = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source.rstrip("/")
        for each in instructions("COPY")
        if not each.startswith("--from")
        for source in each.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / each).exists() for each in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {Path(folder).parts[0] for folder in packages["package-dir"].values()} <= copied


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert instructions("USER") == ["10001:10001"]
    for each in instructions("VOLUME"):
        assert all(f" {folder}" in DOCKERFILE.split("VOLUME")[0] for folder in each.split())
    assert SERVICES["server"]["read_only"] is True
    for service in SERVICES.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["init"] is True


# -- compose


def test_every_file_that_is_mounted_is_there() -> None:
    volumes = [each for service in SERVICES.values() for each in service["volumes"]]
    for each in volumes:
        source, target, *_ = each.split(":")
        if source.startswith("."):
            assert (DEPLOY / source).is_file()
            assert each.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]
        assert target.startswith("/")
    targets = {each.split(":")[1] for each in volumes}
    assert {*" ".join(instructions("VOLUME")).split()} <= targets
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in targets
    assert str(Path(home).parent) == provider["options"]["path"]
    assert f"/etc/prometheus/{PROMETHEUS['rule_files'][0]}" in targets


def test_secrets_are_files_that_somebody_reads() -> None:
    for service in SERVICES.values():
        for name in service["secrets"]:
            assert COMPOSE["secrets"][name] == {"file": f"secrets/{name}"}
            said = yaml.safe_dump([service, PROMETHEUS])
            assert f"/run/secrets/{name}" in said
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().split()


def test_the_secrets_of_the_page_are_keys(tmp_path: Path) -> None:
    (script,) = (block.code for block in blocks_of(PAGE) if block.language == "sh")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True)
    made = tmp_path / "secrets"
    assert {path.name for path in made.iterdir()} == {*COMPOSE["secrets"]}
    keys = serving.keys_of(str(made / "keys"), None)
    assert sorted(keys.values()) == ["me", "metrics"]
    assert keys[(made / "metrics_key").read_text().strip()] == "metrics"
    assert ServerConfig(host="0.0.0.0", keys=keys)
    assert made.stat().st_mode & 0o777 == 0o700


def test_the_one_for_gpus_changes_the_server_alone() -> None:
    over = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text())
    assert [*over] == ["services"]
    assert [*over["services"]] == ["server"]
    assert over["services"]["server"]["build"] == {"target": "cuda"}


# -- what can be tried


def test_the_health_check_tells_ready_from_not(byte_tokenizer: Tokenizer) -> None:
    words = json.loads(instructions("HEALTHCHECK")[0].split("CMD ")[1])
    assert words[0] == "python"

    async def checked(url: str) -> int:
        code = words[2].replace("http://127.0.0.1:8000", url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait()

    async def main() -> None:
        async with listening(byte_tokenizer) as (served, _):
            url = str(served.client.base_url).rstrip("/")
            assert await checked(url) == 0
            served.app.state.server.runs.turns.closed = True
            assert await checked(url) == 1

    asyncio.run(main())


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "ramet.service"
    unit.write_text(UNIT.replace("/opt/ramet/bin/ramet", sys.executable))
    for words in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", *words, str(unit)],
            capture_output=True,
            text=True,
            env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr, "a warning"


def test_the_unit_may_write_where_it_says() -> None:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment]
    parsed.read_string(UNIT)
    service: Any = parsed["Service"]
    assert service["CacheDirectory"] == service["StateDirectory"] == "ramet"
    assert service["ProtectSystem"] == "strict"
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    (name, _, file) = service["LoadCredential"].partition(":")
    assert f"--keys %d/{name}" in service["ExecStart"]
    assert file in PAGE


def _a_daemon_answers() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None and subprocess.run([docker, "info"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
def test_the_image_builds_and_refuses_to_run_without_keys() -> None:
    if not _a_daemon_answers():
        pytest.skip("needs a Docker daemon")
    index = os.environ.get("TORCH_INDEX", "")
    build = f"docker build -q -f deploy/Dockerfile --build-arg TORCH_INDEX={shlex.quote(index)} ."
    image = subprocess.run(
        shlex.split(build), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    done = subprocess.run(
        ["docker", "run", "--rm", "--init", "--read-only", "--tmpfs", "/tmp", image],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "key" in done.stderr
