"""The threads of torch's kernels on CPU, and how they wait for each other. Loads no torch.

A step has some two hundred parallel regions, at whose ends threads wait. Those of libgomp wait
awake before they sleep, but not where it has more threads than there are cores: then each region
ends with a system call and a wake-up, a tenth of a step on two cores (`docs/decisions/0035`).
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

SPINS = "10000"
"""Turns of waiting awake, some 0.3 ms: longer than between two regions of a layer, and short beside
a step, so that who has nothing to do for longer leaves its core to others."""

_SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_shortly() -> None:
    """Threads that wait sleep after `SPINS` turns, unless the environment says how they wait. For
    whoever owns the process, before torch is loaded: it is read then."""
    if not any(name in os.environ for name in _SAID):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def apart(work: Callable[[], T]) -> T:
    """What the work gives, from a thread that ends with it, and with it those of its kernels: each
    thread that calls kernels has some, for as long as it is there.

    Raises what the work raises.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="ramet-apart", daemon=True)
    thread.start()
    found = future.result()
    thread.join()
    return found
