"""How an engine is set up. The only reader of the environment."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ramet.limits import Limits
from ramet.runtime.errors import EngineError

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
KV_DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "float8": "float8_e4m3fn"}
"""What keys and values can be kept in, and torch's name for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of one engine, fixed for its life.

    Raises:
        EngineError: a value is out of range; the field is named.
    """

    model: str = "smollm2-135m"  # embedded name, directory, .gguf file or hub id
    device: str = "cpu"  # cpu, cuda, cuda:N
    dtype: str | None = None  # float32 (None: on CPU), bfloat16 (None: on CUDA), float16; CPU: int8
    kv_dtype: str | None = None  # of keys and values: bfloat16, float16; CUDA: float8; None: dtype
    block_size: int = 16  # tokens a block holds
    num_blocks: int | None = None  # None: on CPU a quarter of the free memory, at most 4 GiB; on
    # CUDA nine tenths of the device, less the weights and what a full step takes
    sharing: bool = True  # find and share equal prefixes; forks share either way
    step_tokens: int = 1024  # most tokens one forward pass runs over
    prefill_chunk: int | None = None  # most prompt tokens of one sequence in a step
    max_sequences: int = 256  # most sequences in a step
    max_context: int | None = None  # lower than the model's own context, if set
    share: float = 0.5  # of the pool and of a step's sequences, for one scope while others wait
    cuda_graphs: bool = True  # on CUDA, decode steps run as graphs
    seed: int = 0  # of programs that set none
    limits: Limits = field(default_factory=Limits)  # of one run
    cache_dir: Path | None = None  # converted models; None: $RAMET_CACHE or ~/.cache/ramet

    def __post_init__(self) -> None:
        for name in ("block_size", "step_tokens", "max_sequences"):
            self._at_least_one(name, getattr(self, name))
        for name in ("num_blocks", "prefill_chunk", "max_context"):
            if getattr(self, name) is not None:
                self._at_least_one(name, getattr(self, name))
        if not 0 < self.share <= 1:
            raise EngineError(f"share: {self.share} is out of range; expected over 0, up to 1")
        self._check_device()

    def _check_device(self) -> None:
        """The words alone: whether the device is there is seen when the model is loaded."""
        if not _DEVICE.fullmatch(self.device):
            raise EngineError(f"device: {self.device!r}; expected 'cpu', 'cuda' or 'cuda:N'")
        if self.kv_dtype is not None and self.kv_dtype not in KV_DTYPES:
            raise EngineError(f"kv_dtype: {self.kv_dtype!r}; expected {', '.join(KV_DTYPES)}")
        if self.device == "cpu" and self.kv_dtype == "float8":
            raise EngineError("kv_dtype: 'float8' needs device='cuda'; on CPU take 'bfloat16'")
        if self.device != "cpu" and self.dtype == "int8":
            raise EngineError(
                f"dtype: 'int8' is for device='cpu'; on {self.device!r} leave dtype out, which "
                "takes bfloat16"
            )

    @staticmethod
    def _at_least_one(name: str, value: int) -> None:
        if value < 1:
            raise EngineError(f"{name}: {value} is out of range; expected 1 or more")

    @property
    def models(self) -> Path:
        """The folder of converted models."""
        if self.cache_dir is not None:
            return self.cache_dir
        if folder := os.environ.get("RAMET_CACHE"):
            return Path(folder)
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ramet"

    def blocks(self, block_bytes: int) -> int:
        """How many blocks of that many bytes the pool gets, on CPU."""
        if self.num_blocks is not None:
            return self.num_blocks
        return max(64, min(4 << 30, _free_memory() // 4) // block_bytes)


def _free_memory() -> int:
    """Bytes that can be had without swapping, within this process's control group."""
    limits = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        limits = [int(found[1]) << 10] if found else limits
    if group.exists() and (limit := group.read_text().strip()).isdigit():
        limits.append(int(limit))
    return min(limits)
