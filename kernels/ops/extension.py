"""Builds `csrc/` with the machine's own compiler against the installed torch, once, and loads it.

The library is kept in a cache folder under a name that tells the sources, torch and the processor's
vectors apart, so that nothing stale is ever loaded. Where it cannot be built, everything runs on
torch's own operators, and a warning says why, once.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path

import torch

_SOURCES = Path(__file__).parent / "csrc"
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-O3", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-w")
_VECTORS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c"),
    "AVX2": ("-mavx2", "-mfma", "-mf16c"),
}
_MORE = {  # of AVX512, by torch's question for it, which is not public
    "_is_vnni_supported": "-mavx512vnni",
    "_is_avx512_bf16_supported": "-mavx512bf16",
}
_SECONDS = 600  # that a compiler may take


class BuildError(Exception):
    """The library cannot be built here; the text says why."""


_lock = threading.Lock()
_outcome: bool | None = None  # of this process: a library can be loaded once


def loaded(folder: Path | None = None) -> bool:
    """Whether `torch.ops.ramet` is there; builds it first where it must. The first call decides.

    Args:
        folder: where libraries are kept; None: `~/.cache/ramet/kernels`.
    """
    global _outcome
    with _lock:
        if _outcome is None:
            _outcome = _load(folder or Path("~/.cache/ramet/kernels").expanduser())
        return _outcome


def _load(folder: Path) -> bool:
    try:
        path = _library(folder)
        try:
            torch.ops.load_library(str(path))
        except OSError:  # kept from another machine, or cut short: once more
            path.unlink(missing_ok=True)
            torch.ops.load_library(str(_library(folder)))
    except (BuildError, OSError) as error:
        warnings.warn(
            f"the compiled kernels cannot be used, attention will be slower: {error}", stacklevel=4
        )
        return False
    return True


def _library(folder: Path) -> Path:
    """The library for this torch and this processor, built if it is not there."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = (*_FLAGS, *_VECTORS.get(capability, ()))
    if capability == "AVX512":
        flags += tuple(f for name, f in _MORE.items() if getattr(torch.cpu, name, bool)())
    elif capability == "AVX2" and getattr(torch.cpu, "get_capabilities", dict)().get("avx_vnni"):
        flags += ("-mavxvnni",)
    texts = [path.read_bytes() for path in sorted(_SOURCES.iterdir())]
    versions = (torch.__version__, platform.machine(), *platform.libc_ver())
    told = b"\0".join([" ".join((*versions, *flags)).encode(), *texts])
    path = folder / f"{hashlib.blake2b(told, digest_size=12).hexdigest()}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # The lock goes with its process, however that ends.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _build(path, flags)
    return path


def _build(path: Path, flags: tuple[str, ...]) -> None:
    """Try the compilers there are, one after the other."""
    compilers = list(dict.fromkeys(filter(None, map(shutil.which, _COMPILERS))))
    if not compilers:
        raise BuildError(f"there is no C++ compiler (looked for {', '.join(_COMPILERS)})")
    said = [_compile(compiler, path, flags) for compiler in compilers if not path.exists()]
    if not path.exists():
        raise BuildError(f"{'; '.join(said)} (GCC 12 and clang 15 or newer will do)")


def _compile(compiler: str, path: Path, flags: tuple[str, ...]) -> str:
    """Make the library, or say why not."""
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        command = [
            compiler,
            *flags,
            *(f"-I{root / 'include' / part}" for part in ("", "torch/csrc/api/include")),
            *map(str, sorted(_SOURCES.glob("*.cpp"))),
            f"-L{root / 'lib'}",
            *("-ltorch_cpu", "-ltorch", "-lc10"),
            *_threads(root / "lib"),
            *("-o", str(made)),
        ]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as process:
            try:
                _, said = process.communicate(timeout=_SECONDS)
            except BaseException as error:  # the compiler's own children, too
                os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return f"{compiler} took more than {_SECONDS} seconds"
        if process.returncode:
            first = next((line for line in said.splitlines() if "error" in line), said[:200])
            return f"{compiler} failed: {first}"
        os.replace(made, path)
    return ""


def _threads(libraries: Path) -> list[str]:
    """torch's own OpenMP library, so that both use one pool of threads."""
    own = sorted([*libraries.glob("libgomp*"), *libraries.glob("libiomp5*")])
    return [str(own[0])] if own else []
