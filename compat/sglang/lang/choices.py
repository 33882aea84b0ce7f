"""SGLang's name for `ramet.compat.sglang.choices`."""

from ramet.compat.sglang.choices import *  # noqa: F403
