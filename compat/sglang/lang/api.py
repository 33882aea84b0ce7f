"""SGLang's name for `ramet.compat.sglang.api`."""

from ramet.compat.sglang.api import *  # noqa: F403
