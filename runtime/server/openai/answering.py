"""From asks to an answer, whole or as a stream: the way that both routes go."""

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ramet.errors import RametError
from ramet.runtime.server.asks import Ask, Item
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.context import Server
from ramet.runtime.server.errors import Refused, refused
from ramet.runtime.server.guard import hold
from ramet.runtime.server.merging import merged
from ramet.runtime.server.openai.answers import Answer
from ramet.runtime.server.openai.pieces import Piece, Pieces
from ramet.runtime.server.openai.requests import Sampling
from ramet.runtime.server.sse import DONE, EventStream, event, first_of, while_connected

Items = AsyncGenerator[tuple[int, Item], None]


def check_number(server: Server, prompts: Sequence[object]) -> None:
    """Raises `Refused` for no prompt, or too many; before they are made into tokens."""
    if not prompts:
        raise Refused(400, "the list of prompts is empty", code="prompt_error", param="prompt")
    hold("prompt", len(prompts), server.config.prompts, "prompts")


async def items_of(server: Server, tenant: Tenant, asks: Sequence[Ask], since: float) -> Items:
    """What becomes of all the asks, each item with the number of its ask.

    Raises `Refused` if so many are not taken now, and what ends one of them.
    """
    turns = server.runs.turns
    reservation = turns.reserve(tenant, [len(ask.tokens) for ask in asks])
    try:
        texts = [server.runs.texts(tenant, ask, reservation) for ask in asks]
        watched = [server.metrics.watched(each, since) for each in texts]
        async with aclosing(merged(watched)) as items:
            async for item in items:
                yield item
    finally:
        turns.release(reservation)


async def answered(
    request: Request,
    server: Server,
    body: Sampling,
    items: Items,
    pieces: Pieces,
    answer: Answer,
    choices: int,
) -> Response:
    """The answer to a request; a stream begins with its first item, if that comes soon, so that
    what is refused has a status that says so."""
    if not body.stream:
        told = await while_connected(request, _all(items, pieces))
        return JSONResponse(answer.whole(told, pieces.usage))
    first, close = await first_of(request, items)
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    chunks = _chunks(first, items, pieces, answer, choices, usage)
    return EventStream(chunks, stall_s=server.config.stall_s, on_close=close)


async def _all(items: Items, pieces: Pieces) -> list[Piece]:
    async with aclosing(items):
        return [piece async for number, item in items for piece in pieces.of(number, item)]


async def _chunks(
    first: Awaitable[tuple[int, Item]],
    items: Items,
    pieces: Pieces,
    answer: Answer,
    choices: int,
    usage: bool,
) -> AsyncGenerator[bytes, None]:
    """The events of a stream. An error in the middle is an event, too, and the last."""
    more = {"usage": None} if usage else {}
    try:
        async with aclosing(items):
            for chunk in answer.opening(choices):
                yield event({**chunk, **more})
            for piece in pieces.of(*await first):
                yield event({**answer.chunk(piece), **more})
            async for number, item in items:
                for piece in pieces.of(number, item):
                    yield event({**answer.chunk(piece), **more})
            if usage:
                yield event(answer.closing(pieces.usage))
    except Exception as error:
        yield event({"error": refused(error).body})
        if not isinstance(error, RametError):
            raise
    yield DONE
