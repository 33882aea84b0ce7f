"""What OpenAI's and SGLang's routes answer, and those for tokens, as records of /openapi.json."""

from typing import Literal, TypeAlias

from ramet.runtime.server.shapes import Absent, Shape

# -- OpenAI's


class CachedTokens(Shape):
    cached_tokens: int


class TokenUsage(Shape):
    """Of all prompts and choices of a request together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionLogprobs(Shape):
    """One entry for each token; null for the first of a prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Shape):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(Shape):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage


class CompletionPart(Shape):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionChunk(Shape):
    """Of a stream. The last one has the usage, if it is asked for, and no choice."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionPart]
    usage: TokenUsage | None = None


class TokenLogprob(Shape):
    token: str
    logprob: float
    bytes: list[int]


class DrawnLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Shape):
    content: list[DrawnLogprob]
    refusal: None


class ChatMessage(Shape):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Shape):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Shape):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage


class ChatDelta(Shape):
    role: Literal["assistant"] | Absent = None
    content: str | Absent = None


class ChatPart(Shape):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class ChatChunk(Shape):
    """Of a stream. The last one has the usage, if it is asked for, and no choice."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatPart]
    usage: TokenUsage | None = None


class ModelCard(Shape):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["ramet"]
    root: str
    """The model as it was loaded."""
    max_model_len: int
    """Tokens of a context."""


class ModelList(Shape):
    object: Literal["list"]
    data: list[ModelCard]


# -- tokens


class Tokenized(Shape):
    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | Absent = None


class Detokenized(Shape):
    prompt: str


# -- SGLang's

LogprobEntry: TypeAlias = tuple[float | None, int, str | None]
"""Log-probability, token, text."""


class SglStop(Shape):
    type: Literal["stop"]
    matched: int | str
    """A token, or a text."""


class SglLength(Shape):
    type: Literal["length"]
    length: int


class SglMeta(Shape):
    id: str
    finish_reason: SglStop | SglLength | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | Absent = None
    input_token_logprobs: list[LogprobEntry] | Absent = None
    input_top_logprobs: list[list[LogprobEntry] | None] | Absent = None
    output_token_logprobs: list[LogprobEntry] | Absent = None
    output_token_logprobs_length: int | Absent = None
    output_top_logprobs: list[list[LogprobEntry]] | Absent = None


class SglAnswer(Shape):
    """One of a stream has all the text so far."""

    text: str
    output_ids: list[int]
    meta_info: SglMeta
    index: int | Absent = None
    """Of its prompt, in a stream of several."""


class SglModel(Shape):
    model_path: str
    tokenizer_path: str
    is_generation: Literal[True]


class SglServer(Shape):
    model_path: str
    context_length: int
    max_total_num_tokens: int
    page_size: int
