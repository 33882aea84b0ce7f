"""SGLang's `Runtime`: an engine behind the interface of a server that it starts. Here it is in
this process, and has no address."""

import json
import logging
import os
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from ramet.compat.sglang.backend.local import LocalBackend
from ramet.compat.sglang.engine import Engine
from ramet.compat.sglang.errors import UnsupportedError
from ramet.compat.sglang.server_args import ServerArgs

__all__ = ["Runtime"]


class Runtime:
    """Programs run on it: `set_default_backend(Runtime(model_path=...))`."""

    def __init__(
        self, log_level: str = "error", launch_timeout: float = 300.0, **settings: Any
    ) -> None:
        """Load a model; settings are those of `ServerArgs`.

        A first argument that is no level of logging is the model, as it was in old programs.
        """
        if log_level.upper() not in logging.getLevelNamesMapping():
            settings = {"model_path": log_level, **settings}
        self.engine = Engine(**settings)
        self.endpoint: LocalBackend = self.engine.endpoint
        self.server_args: ServerArgs = self.engine.server_args
        self.pid = os.getpid()

    @property
    def url(self) -> NoReturn:
        raise UnsupportedError("a Runtime is in this process and has no address; use its methods")

    generate_url = url

    def generate(self, prompt: Any, sampling_params: Any = None, **options: Any) -> str:
        """The answer of `Engine.generate`, as JSON."""
        return json.dumps(self.engine.generate(prompt, sampling_params, **options))

    async def async_generate(
        self, prompt: Any, sampling_params: Any = None, **options: Any
    ) -> AsyncIterator[str]:
        """The text in pieces, as they come."""
        seen = 0
        answers = await self.engine.async_generate(prompt, sampling_params, stream=True, **options)
        async for answer in answers:
            if piece := answer["text"][seen:]:
                seen += len(piece)
                yield piece

    add_request = async_generate

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        return self.engine.encode(*args, **kwargs)

    def cache_prefix(self, prefix: str) -> None:
        self.endpoint.cache_prefix(prefix)

    def flush_cache(self) -> bool:
        return self.endpoint.flush_cache()

    def get_tokenizer(self) -> Any:
        return self.engine.tokenizer

    async def get_server_info(self) -> dict[str, Any]:
        return self.engine.get_server_info()

    def shutdown(self) -> None:
        self.engine.shutdown()
