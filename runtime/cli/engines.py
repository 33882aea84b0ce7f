"""From the options of a command to an engine."""

from contextlib import nullcontext

from ramet.runtime.cli.exits import NoEngine
from ramet.runtime.cli.jobs import Job
from ramet.runtime.cli.terminal import err
from ramet.runtime.engine import Engine
from ramet.runtime.errors import EngineError


def open_engine(job: Job) -> Engine:
    """The engine for a job; `NoEngine` if it, or its model, cannot be loaded."""
    console = err()
    loading = console.status(f"Loading {job.model}…") if console.is_terminal else nullcontext()
    try:
        with loading:
            return Engine(
                job.model,
                device=job.device,
                dtype=job.dtype,
                seed=job.seed or 0,
                limits=job.limits,
            )
    except (EngineError, OSError) as error:
        raise NoEngine(str(error)) from error
