"""`/tokenize` and `/detokenize`: what the model reads of a text, and the text of tokens."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ramet.runtime.errors import ContextLengthError
from ramet.runtime.server.context import Server, TheServer
from ramet.runtime.server.document import told
from ramet.runtime.server.guard import check_text
from ramet.runtime.server.openai.prompts import Prompts, aside
from ramet.runtime.server.openai.requests import Integers, Messages, Wire
from ramet.runtime.server.openai.shapes import Detokenized, Tokenized
from ramet.runtime.server.routes.openai import check_model

router = APIRouter(tags=["tokens"])


class TokenizeRequest(Wire):
    """A text, or messages."""

    model: str | None = Field(default=None, max_length=512)
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None  # what the tokenizer puts before a text; it does
    parse_special: bool | None = None  # False: control tokens in the prompt are text
    add_generation_prompt: bool | None = None  # what invites the assistant; it does
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("contradiction", "give either a prompt, or messages")
        return self


class DetokenizeRequest(Wire):
    """Tokens."""

    model: str | None = Field(default=None, max_length=512)
    tokens: Annotated[Integers, Field(max_length=1 << 20)]


@router.post("/tokenize", responses=told(Tokenized, 404))
async def tokenize(body: TokenizeRequest, server: TheServer) -> dict[str, Any]:
    """The tokens of a text, or of messages as a chat writes them."""
    check_model(server, body.model)
    texts = [message.text for message in body.messages or []] or [body.prompt or ""]
    check_text(texts, server.most_bytes)
    size = sum(map(len, texts)) + len(texts)
    context = server.engine.engine.core.context
    return await aside(size, lambda: _tokens_of(server.prompts, body)) | {"max_model_len": context}


def _tokens_of(prompts: Prompts, body: TokenizeRequest) -> dict[str, Any]:
    if body.messages is not None:
        tokens = prompts.chat(body.messages, prompts=body.add_generation_prompt is not False)
    else:
        encode = prompts.plain if body.parse_special is False else prompts.whole
        tokens = encode(body.prompt or "", start=body.add_special_tokens is not False)
    told: dict[str, Any] = {"tokens": tokens, "count": len(tokens)}
    if body.return_token_strs:
        spell = prompts.tokenizer.token_bytes
        told["token_strs"] = [spell(token).decode("utf-8", "replace") for token in tokens]
    return told


@router.post("/detokenize", responses=told(Detokenized, 404))
async def detokenize(body: DetokenizeRequest, server: TheServer) -> dict[str, Any]:
    """The text of tokens, with the names of control tokens."""
    check_model(server, body.model)
    check_tokens(server, body.tokens)
    decode = server.prompts.tokenizer.hf.backend_tokenizer.decode
    text = await aside(len(body.tokens), lambda: decode(body.tokens, skip_special_tokens=False))
    return {"prompt": text}


def check_tokens(server: Server, tokens: Sequence[int]) -> None:
    """Raises `ContextLengthError` for more than the context, `PromptError` for one that is none."""
    context = server.engine.engine.core.context
    if len(tokens) > context:
        raise ContextLengthError(len(tokens), context)
    server.prompts.check(tokens)
