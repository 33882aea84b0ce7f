"""What clients of OpenAI's interface send, as records: names and types.

What a value may be is `SamplingParams`'s to say, and what it comes to `settings`'s. A field that
nobody knows is refused; one of OpenAI's that is not here may only say that it is not used.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from ramet.errors import near_miss, shown

MAX_ITEMS = 4_096
MAX_MESSAGES = 1_024

_NO_TOOLS = "this server calls no tools; leave it out, or ask for JSON by response_format"
_TEXT_ONLY = "this server reads and writes text only"


class Absent:
    """One of OpenAI's fields that is not here: null, or one of the values that mean the same."""

    def __init__(self, *values: Any, why: str) -> None:
        self._values = values
        self._why = why

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"enum": [None, *self._values]}

    def _check(self, value: Any) -> None:
        if value is not None and value not in self._values:
            raise PydanticCustomError("unsupported", "{why}", {"why": self._why})


def said(what: str) -> WrapValidator:
    """Of several shapes, one sentence for a value that has none of them."""

    def check(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("shape", "{what}", {"what": what}) from None

    return WrapValidator(check)


class First:
    """Of a list with mistakes only the first one is told: a million would be, otherwise."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        schema = handler(source)
        schema["fail_fast"] = True
        return schema


FIRST = First()


def few(most: int) -> BeforeValidator:
    """No more items than that, before any of them is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > most:
            message = f"expected at most {most:,} items, not {len(value):,}"
            raise PydanticCustomError("too_long", "{message}", {"message": message})
        return value

    return BeforeValidator(check)


def _whole(value: Any) -> Any:
    """JSON knows no difference between 1 and 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, Field(ge=-(2**63), le=2**64 - 1), BeforeValidator(_whole)]
Integers = Annotated[list[Integer], FIRST]
Tokens = Annotated[Integers, Field(max_length=MAX_ITEMS), few(MAX_ITEMS)]
Texts = Annotated[list[str], FIRST, Field(max_length=MAX_ITEMS), few(MAX_ITEMS)]
Bias = Annotated[dict[str, float], Field(max_length=MAX_ITEMS), few(MAX_ITEMS)]
Stops = Annotated[str | Texts, said("expected a text, or a list")]
Prompt = Annotated[
    str | Texts | Integers | Annotated[list[Integers], FIRST, few(MAX_ITEMS)],
    said("expected a text or its token ids, or a list of one of these"),
]


class Wire(BaseModel):
    """A body. What is sent as a string is no number, and what nobody knows is refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_its_fields(cls, data: Any) -> Any:
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for name in data if isinstance(data, dict) else ():
            if name not in known:
                hint = near_miss(name, known)
                message = f"unknown field {shown(name)}{hint}"
                raise PydanticCustomError("unknown_field", "{message}", {"message": message})
        return data


class StreamOptions(Wire):
    """How a stream ends."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # there is none


class Sampling(Wire):
    """What both routes take. Fields that are null are as if they were left out."""

    model: str = Field(max_length=512)
    n: Integer | None = Field(default=None, ge=1)
    stop: Stops | None = None
    seed: Integer | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Bias | None = None
    max_tokens: Integer | None = Field(default=None, ge=0)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None  # no effect

    # Besides what OpenAI takes.
    top_k: Integer | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Integer | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Tokens | None = None
    stop_regex: str | None = None
    allowed_token_ids: Tokens | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: Texts | None = None
    beams: Integer | None = Field(default=None, ge=1)
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise _wrong("stream_options is given, but stream is not true")
        if self.beams is None or self.beams == 1:
            for name in ("length_penalty", "early_stopping"):
                if getattr(self, name) is not None:
                    raise _wrong(f"{name} is given, but no beams over 1")
        return self


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    prompt: Prompt
    best_of: Integer | None = Field(default=None, ge=1)
    echo: bool | None = None
    logprobs: Integer | None = Field(default=None, ge=0)
    suffix: Annotated[None, Absent("", why="this server fills no gaps; it goes on")] = None
    parse_special: bool | None = None  # False: control tokens in a prompt are text

    @property
    def prompts(self) -> list[Any]:
        """One or several, each a text or its tokens."""
        one = isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int))
        return [self.prompt] if one or not isinstance(self.prompt, list) else [*self.prompt]

    @model_validator(mode="after")
    def _can_stream(self) -> Self:
        if self.stream and (self.best_of or 1) > (self.n or 1):
            raise _wrong("best_of is over n: what is best is not known before the end; no stream")
        return self


Role = Literal["system", "developer", "user", "assistant"]
_NO_RESULTS = "this server calls no tools; write what one gave into a message of the user"


def _no_tool(role: Any) -> Any:
    if role in ("tool", "function"):
        raise PydanticCustomError("unsupported", "{why}", {"why": _NO_RESULTS})
    return role


class TextPart(Wire):
    """A part of a message; there are no others than text."""

    type: Literal["text"]
    text: str


class Message(Wire):
    """One message. `developer` is `system`, as templates know it."""

    role: Annotated[
        Role, said(f"expected one of {', '.join(get_args(Role))}"), BeforeValidator(_no_tool)
    ]
    content: Annotated[
        str | Annotated[list[TextPart], FIRST, Field(max_length=MAX_ITEMS)] | None,
        said(f"expected a text, or a list of parts of the type text; {_TEXT_ONLY}"),
    ]
    name: Annotated[
        None, Absent(why="a chat template has no place for names; write it into the content")
    ] = None
    refusal: Annotated[
        None, Absent("", why="a refusal is not supported; write it into the content")
    ] = None
    audio: Annotated[None, Absent(why=_TEXT_ONLY)] = None
    tool_calls: Annotated[None, Absent([], why=_NO_TOOLS)] = None
    function_call: Annotated[None, Absent(why=_NO_TOOLS)] = None
    tool_call_id: Annotated[None, Absent(why=_NO_RESULTS)] = None
    annotations: Annotated[None, Absent([], why="annotations are not supported")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise _wrong("content is null, which only an assistant's may be")
        return self

    @property
    def text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


Messages = Annotated[
    list[Message], FIRST, Field(min_length=1, max_length=MAX_MESSAGES), few(MAX_MESSAGES)
]


class JsonSchema(Wire):
    """A schema with its name."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    strict: bool | None = None  # it always is


class ResponseFormat(Wire):
    """What the whole text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise _wrong("json_schema is given with the type json_schema, and only with it")
        return self


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: Messages
    max_completion_tokens: Integer | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: Integer | None = Field(default=None, ge=0)
    response_format: ResponseFormat | None = None
    continue_final_message: bool | None = None  # go on in the last message, an assistant's
    add_generation_prompt: bool | None = None  # what invites the assistant; the opposite of that

    # No effect here.
    metadata: Annotated[dict[str, str], Field(max_length=MAX_ITEMS), few(MAX_ITEMS)] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    audio: Annotated[None, Absent(why=_TEXT_ONLY)] = None
    modalities: Annotated[None, Absent(["text"], why=_TEXT_ONLY)] = None
    tools: Annotated[None, Absent([], why=_NO_TOOLS)] = None
    tool_choice: Annotated[None, Absent("none", "auto", why=_NO_TOOLS)] = None
    parallel_tool_calls: Annotated[None, Absent(True, False, why=_NO_TOOLS)] = None
    functions: Annotated[None, Absent([], why=_NO_TOOLS)] = None
    function_call: Annotated[None, Absent("none", "auto", why=_NO_TOOLS)] = None
    prediction: Annotated[None, Absent(why="predicted output is not supported")] = None
    moderation: Annotated[None, Absent(why="this server moderates nothing")] = None
    web_search_options: Annotated[None, Absent(why="this server searches nothing")] = None
    reasoning_effort: Annotated[None, Absent("none", why="there is no reasoning effort to set")] = (
        None
    )
    verbosity: Annotated[None, Absent("medium", why="there is no verbosity to set")] = None
    service_tier: Annotated[None, Absent("auto", "default", why="there is one tier")] = None
    store: Annotated[None, Absent(False, why="this server stores no answers")] = None
    prompt_cache_options: Annotated[
        None, Absent(why="every prompt is cached; there is nothing to set")
    ] = None

    @model_validator(mode="after")
    def _agrees_on_messages(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise _wrong("top_logprobs is given, but logprobs is not true")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise _wrong("continue_final_message is true, but the last message is no assistant's")
        invited = self.add_generation_prompt
        if invited is not None and invited is (self.continue_final_message is True):
            raise _wrong("of add_generation_prompt and continue_final_message one is true")
        return self


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("contradiction", "{message}", {"message": message})
