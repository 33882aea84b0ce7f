"""`/tokenize` and `/detokenize`: what the model reads of a text, and the text of tokens."""

from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ramet.runtime.server.context import TheServer
from ramet.runtime.server.guard import check_text
from ramet.runtime.server.openai.requests import MAX_MESSAGES, Integer, Message, Wire
from ramet.runtime.server.routes.openai import check_model

router = APIRouter(tags=["tokens"])


class TokenizeRequest(Wire):
    """A text, or messages."""

    model: str | None = Field(default=None, max_length=512)
    prompt: str | None = None
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=MAX_MESSAGES)
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
    tokens: Annotated[list[Integer], Field(max_length=1 << 20)]


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, server: TheServer) -> dict[str, Any]:
    """The tokens of a text, or of messages as a chat writes them."""
    check_model(server, body.model)
    prompts, tokenizer = server.prompts, server.prompts.tokenizer
    if body.messages is not None:
        check_text([message.text for message in body.messages], server.most_bytes)
        tokens = prompts.chat(body.messages, prompts=body.add_generation_prompt is not False)
    else:
        text = body.prompt or ""
        check_text([text], server.most_bytes)
        encode = prompts.plain if body.parse_special is False else prompts.whole
        tokens = encode(text, start=body.add_special_tokens is not False)
    told = {"count": len(tokens), "max_model_len": server.engine.engine.core.context}
    if body.return_token_strs:
        spelled = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in tokens]
        return {"tokens": tokens, **told, "token_strs": spelled}
    return {"tokens": tokens, **told}


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, server: TheServer) -> dict[str, Any]:
    """The text of tokens, with the names of control tokens."""
    check_model(server, body.model)
    prompts = server.prompts
    prompts.check(body.tokens)
    backend = prompts.tokenizer.hf.backend_tokenizer
    return {"prompt": backend.decode(body.tokens, skip_special_tokens=False)}
