"""OpenAI's routes: completions, chats and models."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ramet.runtime.server.context import Server, TheServer, TheTenant
from ramet.runtime.server.document import told
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.guard import check_text, hold
from ramet.runtime.server.openai.answering import answered, check_number, items_of
from ramet.runtime.server.openai.answers import ChatAnswer, CompletionAnswer
from ramet.runtime.server.openai.pieces import Pieces
from ramet.runtime.server.openai.requests import ChatRequest, CompletionRequest
from ramet.runtime.server.openai.settings import chat_ask, completion_ask
from ramet.runtime.server.openai.shapes import (
    ChatChunk,
    ChatCompletion,
    Completion,
    CompletionChunk,
    ModelCard,
    ModelList,
)

router = APIRouter(prefix="/v1", tags=["openai"])

_BEGUN = int(time.time())


@router.post("/completions", responses=told(Completion, 404, 422, 429, 503, events=CompletionChunk))
async def completions(
    body: CompletionRequest, request: Request, server: TheServer, tenant: TheTenant
) -> Response:
    """Go on with a text, or with each of several; as JSON, or as server-sent events."""
    since = time.perf_counter()
    check_model(server, body.model)
    check_number(server, body.prompts)
    n = body.n or 1
    hold("n", n, server.config.n)
    special = body.parse_special is not False
    prompts = [
        await server.prompts.one(each, server.most_bytes, special=special) for each in body.prompts
    ]
    asks = [completion_ask(body, prompt.tokens) for prompt in prompts]
    for ask in asks:
        server.runs.check(ask)
    pieces = Pieces(server.prompts.tokenizer, asks, n, echo=prompts if body.echo else None)
    items = items_of(server, tenant, asks, since)
    answer = CompletionAnswer(server.config.model)
    return await answered(request, server, body, items, pieces, answer, n * len(asks))


@router.post(
    "/chat/completions", responses=told(ChatCompletion, 404, 422, 429, 503, events=ChatChunk)
)
async def chat_completions(
    body: ChatRequest, request: Request, server: TheServer, tenant: TheTenant
) -> Response:
    """Write the assistant's next message; as JSON, or as server-sent events."""
    since = time.perf_counter()
    check_model(server, body.model)
    check_text([message.text for message in body.messages], server.most_bytes)
    continues = body.continue_final_message is True
    tokens = await server.prompts.of_chat(body.messages, continues=continues)
    share = server.config.program.tokens // max(body.n or 1, body.beams or 1)
    ask = chat_ask(body, tokens, min(server.room(len(tokens)), share))
    server.runs.check(ask)
    pieces = Pieces(server.prompts.tokenizer, [ask], ask.samples, chat=True)
    items = items_of(server, tenant, [ask], since)
    answer = ChatAnswer(server.config.model)
    return await answered(request, server, body, items, pieces, answer, ask.samples)


@router.get("/models", responses=told(ModelList))
async def models(server: TheServer) -> dict[str, Any]:
    """The one model that there is."""
    return {"object": "list", "data": [_model(server)]}


@router.get("/models/{id:path}", responses=told(ModelCard))
async def model(id: str, server: TheServer) -> dict[str, Any]:
    """That model, if it is the one."""
    check_model(server, id)
    return _model(server)


def check_model(server: Server, name: str | None) -> None:
    """Raises `Refused` for a model that is not here."""
    known = (server.config.model, server.engine.engine.config.model)
    if name is not None and name not in known:
        raise Refused(
            404,
            f"there is no model {name[:100]!r} here; it is {server.config.model!r}",
            code="model_not_found",
            param="model",
        )


def _model(server: Server) -> dict[str, Any]:
    return {
        "id": server.config.model,
        "object": "model",
        "created": _BEGUN,
        "owned_by": "ramet",
        "root": server.engine.engine.config.model,
        "max_model_len": server.engine.engine.core.context,
    }
