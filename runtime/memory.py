"""How many blocks there is room for.

On a GPU that is measured, as vLLM does it: the weights are loaded, one full step is run, and what
the device has left besides is for blocks. On CPU it is guessed from the free memory (`config.py`).
"""

import numpy as np
import torch

from ramet.kernels import Step
from ramet.runtime.config import EngineConfig
from ramet.runtime.devices import kv_dtype_of
from ramet.runtime.errors import EngineError
from ramet.runtime.inputs import Inputs
from ramet.runtime.models import Model
from ramet.runtime.runner import Runner, layout_of

SHARE = 0.9
"""Of the device's memory. The rest is for CUDA graphs, sampling, and what is lost in between."""

MOST_BLOCKS = 1 << 20
"""Of a pool that is measured. The host keeps an object for each: where blocks are so small that
more would fit, `num_blocks` takes more, and a larger `block_size` makes use of all the memory."""


def blocks_for(model: Model, config: EngineConfig) -> int:
    """How many blocks the pool of this model gets.

    Raises:
        EngineError: the device has no room for them.
    """
    kv_dtype = kv_dtype_of(config.kv_dtype, model.shape.dtype, model.shape.device)
    block = layout_of(model.shape, 0, config.block_size, kv_dtype).block_bytes
    if config.num_blocks is not None or model.shape.device.type == "cpu":
        return config.blocks(block)
    step = step_bytes(model, config, kv_dtype)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(model.shape.device)
    return blocks_that_fit(free, total, step, block)


def blocks_that_fit(free: int, total: int, step: int, block: int) -> int:
    """Blocks of `block` bytes in what is left of the device's share, up to `MOST_BLOCKS`.

    Args:
        free: bytes of the device that nobody has, with the weights on it.
        total: bytes of the device.
        step: bytes that a full step takes while it runs.

    Raises:
        EngineError: not one block fits.
    """
    taken = total - free
    fitting = (int(total * SHARE) - taken - step) // block
    if fitting < 1:
        raise EngineError(
            f"no room for keys and values: of {_gib(total)} on the device, {_gib(taken)} are taken "
            f"by the weights and by others, and a step takes {_gib(step)}: lower step_tokens, take "
            "a smaller model, or set num_blocks"
        )
    return min(fitting, MOST_BLOCKS)


def step_bytes(model: Model, config: EngineConfig, kv_dtype: torch.dtype) -> int:
    """Bytes that a step of `step_tokens` prompt tokens takes at most, each of them scored.

    Runs one. That compiles the kernels, too.
    """
    device = model.shape.device
    inputs, step = full_step(config.step_tokens, model.shape.context, config.block_size)
    blocks = int((step.block_tables >= 0).sum())
    runner = Runner(model, blocks, config.block_size, config.models / "kernels", kv_dtype)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    runner.forward(inputs, step).log_softmax(-1)
    return torch.cuda.max_memory_allocated(device) - before


def full_step(tokens: int, context: int, block_size: int) -> tuple[Inputs, Step]:
    """So many prompt tokens, in as few sequences as the context allows; all rows are wanted."""
    starts = np.arange(0, tokens, context)
    lengths = np.minimum(tokens - starts, context)
    needed = -(-lengths // block_size)
    inside = np.arange(needed.max()) < needed[:, None]
    tables = np.full(inside.shape, -1, np.int64)
    tables[inside] = np.arange(needed.sum())
    places = np.arange(tokens) % context
    sequences = np.arange(tokens) // context
    slots = tables[sequences, places // block_size] * block_size + places % block_size
    step = Step(
        query_starts=torch.from_numpy(np.append(starts, tokens)),
        contexts=torch.from_numpy(lengths),
        block_tables=torch.from_numpy(tables),
        slots=torch.from_numpy(slots),
    )
    return Inputs(np.zeros(tokens, np.int64), places, np.arange(tokens)), step


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
