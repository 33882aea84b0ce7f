"""`/v1/cache`: a tenant's window into its part of the cache and the public one, and what it may do
with its own."""

import asyncio
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ramet.cache import explain, forget, spans
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.context import Server, TheServer, TheTenant
from ramet.runtime.server.document import told
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.guard import check_text
from ramet.runtime.server.openai.requests import Messages, Tokens, Wire
from ramet.runtime.server.pins import Pin
from ramet.runtime.server.routes.tokens import check_tokens
from ramet.runtime.server.shapes import (
    CacheWindow,
    Explained,
    Forgotten,
    PinAnswer,
    PinEnded,
    PinList,
)

router = APIRouter(prefix="/v1/cache", tags=["cache"])


class Prefix(Wire):
    """The beginning of a context: a text, tokens, or messages as a chat writes them."""

    prompt: str | Tokens | None = None
    messages: Messages | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("contradiction", "give either a prompt, or messages")
        return self


class PinRequest(Prefix):
    """What to keep, and for how long."""

    seconds: float = Field(gt=0, le=86_400)


@router.get("", responses=told(CacheWindow, 503))
async def window(
    server: TheServer,
    tenant: TheTenant,
    most: Annotated[int, Query(ge=1, le=1_000)] = 200,
    text: Annotated[int, Query(ge=0, le=10_000)] = 120,
) -> dict[str, Any]:
    """The tree of what is cached: `most` spans, with so many characters of each one's text."""
    decode = server.prompts.tokenizer.decode
    found = await server.engine.ask(lambda core: spans(core.pool, tenant.scope, most, text))

    def shown() -> list[dict[str, Any]]:
        return [
            {
                "id": id,
                "above": span.above,
                "start": span.start,
                "tokens": span.tokens,
                "text": decode(span.head, start=span.start == 0)[:text],
                "blocks": span.blocks,
                "held": span.held,
                "found": span.found,
                "maker": span.maker,
                "public": span.public,
            }
            for id, span in enumerate(found.spans)
        ]

    return {
        "block_size": server.engine.engine.core.pool.block_size,
        "spans": await asyncio.to_thread(shown),
        "left_out": found.left_out,
    }


@router.post("/explain", responses=told(Explained, 503))
async def explained(body: Prefix, server: TheServer, tenant: TheTenant) -> dict[str, Any]:
    """How much of a prompt is cached, and where and how it leaves what is."""
    tokens = await _tokens(server, body)
    said = await server.engine.ask(lambda core: explain(core.pool, tokens, tenant.scope))
    decode = server.prompts.tokenizer.decode

    def before() -> str:
        return decode(tokens[: said.found], start=True)[-200:]

    return {
        "tokens": len(tokens),
        "found": said.found,
        "text_found": await asyncio.to_thread(before),
        "wanted": {"tokens": said.wanted, "text": decode(said.wanted)},
        "evicted": said.evicted,
        "nearest": [
            {
                "tokens": each.tokens,
                "text": decode(each.tokens),
                "maker": each.maker,
                "whole": each.whole,
            }
            for each in said.nearest
        ],
    }


@router.post("/forget", responses=told(Forgotten, 503))
async def forgotten(body: Prefix, server: TheServer, tenant: TheTenant) -> dict[str, int]:
    """Forget every context that begins so."""
    return await _forget(server, tenant, await _tokens(server, body))


@router.delete("", responses=told(Forgotten, 400, 503))
async def all_forgotten(request: Request, server: TheServer, tenant: TheTenant) -> dict[str, int]:
    """Forget every context of the tenant's. A query is refused: it would not narrow that."""
    if request.query_params:
        message = "this forgets everything; POST /v1/cache/forget forgets what begins with a prefix"
        raise Refused(400, message, code="unexpected_query")
    return await _forget(server, tenant, [])


@router.post("/pins", status_code=201, responses=told({201: PinAnswer}, 429, 503))
async def pinned(body: PinRequest, server: TheServer, tenant: TheTenant) -> dict[str, Any]:
    """Evict the blocks of this prefix after all others, those too that are yet to be computed."""
    tokens = await _tokens(server, body)
    return _shown(await server.pins.pin(tenant, tokens, body.seconds))


@router.get("/pins", responses=told(PinList))
async def pins(server: TheServer, tenant: TheTenant) -> dict[str, Any]:
    """The tenant's pins."""
    return {"pins": [_shown(pin) for pin in server.pins.of(tenant)]}


@router.delete("/pins/{id}", responses=told(PinEnded))
async def unpinned(id: str, server: TheServer, tenant: TheTenant) -> dict[str, str]:
    """End a pin."""
    if not server.pins.unpin(tenant, id):
        raise Refused(404, f"there is no pin {id[:100]!r}", code="pin_not_found", param="id")
    return {"id": id}


async def _forget(server: Server, tenant: Tenant, tokens: list[int]) -> dict[str, int]:
    gone = await server.engine.ask(lambda core: forget(core.pool, tokens, tenant.scope))
    return {"blocks": gone}


async def _tokens(server: Server, prefix: Prefix) -> list[int]:
    if isinstance(prefix.prompt, list):
        check_tokens(server, prefix.prompt)
        return prefix.prompt
    if prefix.prompt is not None:
        return (await server.prompts.one(prefix.prompt, server.most_bytes)).tokens
    messages = prefix.messages or []
    check_text([message.text for message in messages], server.most_bytes)
    return await server.prompts.of_chat(messages, continues=False)


def _shown(pin: Pin) -> dict[str, Any]:
    left = pin.until - asyncio.get_running_loop().time()
    return {
        "id": pin.id,
        "tokens": pin.tokens,
        "blocks": pin.blocks,
        "seconds_left": round(max(0.0, left), 3),
    }
