"""SGLang's name for `ramet.compat.sglang.chat_template`."""

from ramet.compat.sglang.chat_template import *  # noqa: F403
