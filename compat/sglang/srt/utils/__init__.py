"""SGLang's helpers around a server's process, as far as programs import them."""

import os
import signal
from typing import Any

from ramet.compat.sglang.errors import UnsupportedError

__all__ = ["is_hip", "kill_process_tree", "load_image"]


def is_hip() -> bool:
    """Whether this runs on an AMD device; it runs on none."""
    return False


def kill_process_tree(parent_pid: int, include_parent: bool = True, **options: Any) -> None:
    """End a process that one started, if it is still there; never this one."""
    if include_parent and parent_pid not in (os.getpid(), None):
        try:
            os.kill(parent_pid, signal.SIGTERM)
        except ProcessLookupError:
            return


def load_image(image_file: Any) -> Any:
    raise UnsupportedError("images are not read here: the engine of this project takes text")
