"""The files of deploy/, read."""

import re
from pathlib import Path

import yaml

from tests.pages import page_of

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
PAGE = page_of("deployment")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = (DEPLOY / "ramet.service").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())


def instructions(name: str) -> list[str]:
    """What stands behind that word in the Dockerfile, with its lines joined."""
    return re.findall(rf"^{name} (.*)", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
