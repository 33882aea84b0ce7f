"""The routes that SGLang's frontend calls, so that its programs run against this server."""

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ramet.cache import forget
from ramet.errors import RametError
from ramet.runtime.server.asks import Item
from ramet.runtime.server.context import TheServer, TheTenant
from ramet.runtime.server.document import told
from ramet.runtime.server.errors import Refused, refused
from ramet.runtime.server.openai.answering import Items, check_number, items_of
from ramet.runtime.server.openai.shapes import SglAnswer, SglModel, SglServer
from ramet.runtime.server.sglang import Answers, GenerateRequest, ask_of
from ramet.runtime.server.sse import DONE, EventStream, event, first_of, while_connected

router = APIRouter(tags=["sglang"])


@router.post(
    "/generate", responses=told(SglAnswer | list[SglAnswer], 422, 429, 503, events=SglAnswer)
)
async def generate(
    body: GenerateRequest, request: Request, server: TheServer, tenant: TheTenant
) -> Response:
    """Go on with texts, or score them. A stream's answers hold all the text so far."""
    since = time.perf_counter()
    tokenizer = server.prompts.tokenizer
    check_number(server, body.prompts)
    prompts = [await server.prompts.one(each, server.most_bytes) for each in body.prompts]
    asks = [
        ask_of(body, sampling, prompt.tokens, tokenizer)
        for sampling, prompt in zip(body.samplings, prompts, strict=True)
    ]
    for ask in asks:
        server.runs.check(ask)
    if body.stream and any(ask.samples > 1 for ask in asks):
        raise Refused(400, "a stream has one sample of each prompt: n is over 1", param="n")
    items = items_of(server, tenant, asks, since)
    answers = Answers(body, asks, tokenizer)
    if not body.stream:
        await while_connected(request, _take_all(items, answers))
        return JSONResponse(answers.all())
    first, close = await first_of(request, items)
    return EventStream(
        _events(first, items, answers), stall_s=server.config.stall_s, on_close=close
    )


async def _take_all(items: Items, answers: Answers) -> None:
    async with aclosing(items):
        async for number, item in items:
            answers.take(number, item)


async def _events(
    first: Awaitable[tuple[int, Item]], items: Items, answers: Answers
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(items):
            if (answer := answers.take(*await first)) is not None:
                yield event(answer)
            async for number, item in items:
                if (answer := answers.take(number, item)) is not None:
                    yield event(answer)
    except Exception as error:
        yield event({"error": refused(error).body})
        if not isinstance(error, RametError):
            raise
    yield DONE


@router.get("/get_model_info", responses=told(SglModel))
@router.get("/model_info", responses=told(SglModel))
async def get_model_info(server: TheServer) -> dict[str, Any]:
    """Which model, for a chat template to be found by its name."""
    model = server.engine.engine.config.model
    return {"model_path": model, "tokenizer_path": model, "is_generation": True}


@router.get("/server_info", responses=told(SglServer))
@router.get("/get_server_info", responses=told(SglServer))
async def server_info(server: TheServer) -> dict[str, Any]:
    """The model, and how much room there is."""
    core = server.engine.engine.core
    return {
        "model_path": server.engine.engine.config.model,
        "context_length": core.context,
        "max_total_num_tokens": core.pool.num_blocks * core.pool.block_size,
        "page_size": core.pool.block_size,
    }


@router.get("/health_generate", response_class=Response, responses=told({}, 503))
async def health_generate(server: TheServer) -> Response:
    """As `/health`: whether steps finish."""
    if server.health.trouble is not None:
        raise Refused(503, server.health.trouble, code="unhealthy", retry=1)
    return Response(status_code=200)


@router.post("/flush_cache", response_class=PlainTextResponse, responses=told({}, 503))
async def flush_cache(server: TheServer, tenant: TheTenant) -> Response:
    """Forget every prefix of the tenant."""
    await server.engine.ask(lambda core: forget(core.pool, [], tenant.scope))
    return Response("Cache flushed.\n", media_type="text/plain")
