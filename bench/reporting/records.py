"""The records of `bench/results/`, and where each was measured. Knows no benchmark's rows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One file of results."""

    name: str
    benchmark: str
    rows: list[Row]
    machine: Mapping[str, Any]
    more: Mapping[str, Any]

    def where(self) -> str:
        """The file, the machine, the versions and the commit, in a line."""
        found, versions = self.machine, dict(self.machine.get("versions", {}))
        versions |= self.more.get("versions", {})
        versions["python"] = found.get("python")
        for name, own in self.more.get("peers", {}).items():
            versions |= {f"{name}: {package}": told for package, told in own.items()}
        told = [
            f"`bench/results/{self.name}.json`",
            f"{found.get('cpu', 'processor not told')}, {found.get('cores', '?')} cores, "
            f"{found.get('threads', '?')} torch threads, {found.get('capability', '?')}",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
            f"load average {found['load']:.1f} at the end" if "load" in found else "load not told",
            f"commit {found.get('commit', 'not told')}"
            + " and changes" * found.get("dirty", False),
        ]
        return f"<sub>{'; '.join(told)}.</sub>"


def load(folder: Path) -> dict[str, Record]:
    return dict(_records(folder))


def _records(folder: Path) -> Iterator[tuple[str, Record]]:
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        if isinstance(found.get("rows"), list):
            machine = found.get("machine", {})
            known = {"rows", "machine", "benchmark"}
            more = {key: value for key, value in found.items() if key not in known}
            yield (
                path.stem,
                Record(path.stem, found.get("benchmark", path.stem), found["rows"], machine, more),
            )
