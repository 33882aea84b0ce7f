"""Fail unless a wheel holds every module and source of the packages, and nothing else."""

import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent


def expected() -> set[str]:
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return {
        f"{package.replace('.', '/')}/{file.relative_to(ROOT / folder)}"
        for package, folder in folders["package-dir"].items()
        for kind in ("*.py", "csrc/*", "*.lark")
        for file in (ROOT / folder).rglob(kind)
    }


def main() -> None:
    names = {name for name in ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
    missing, foreign = expected() - names, {n for n in names if not n.startswith("ramet/")}
    if missing or foreign:
        sys.exit(f"wheel: missing {sorted(missing)}, foreign {sorted(foreign)}")


if __name__ == "__main__":
    main()
