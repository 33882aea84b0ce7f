"""The calls a program is written with. They make expressions and touch no model."""

from collections.abc import Callable, Sequence
from typing import Any, overload

from ramet.compat.sglang.choices import ChoicesSamplingMethod, token_length_normalized
from ramet.compat.sglang.expressions import (
    SglExpr,
    SglExprList,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglSeparateReasoning,
    SglVideo,
    text_or_expr,
)
from ramet.compat.sglang.global_config import global_config
from ramet.compat.sglang.program import SglFunction, resolved_backend
from ramet.compat.sglang.sampling import checked_regex

__all__ = [
    "assistant",
    "assistant_begin",
    "assistant_end",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_server_info",
    "image",
    "select",
    "separate_reasoning",
    "set_default_backend",
    "system",
    "system_begin",
    "system_end",
    "user",
    "user_begin",
    "user_end",
    "video",
]


@overload
def function(func: Callable[..., Any], num_api_spec_tokens: int | None = None) -> SglFunction: ...
@overload
def function(
    func: None = None, num_api_spec_tokens: int | None = None
) -> Callable[[Callable[..., Any]], SglFunction]: ...
def function(
    func: Callable[..., Any] | None = None, num_api_spec_tokens: int | None = None
) -> SglFunction | Callable[[Callable[..., Any]], SglFunction]:
    """Make a program of a function whose first parameter is `s`.

    `num_api_spec_tokens` is accepted; generations go to the backend one by one.
    """
    if func is not None:
        return SglFunction(func, num_api_spec_tokens=num_api_spec_tokens)
    return lambda func: SglFunction(func, num_api_spec_tokens=num_api_spec_tokens)


def set_default_backend(backend: Any) -> None:
    """What programs run on when they are not told: a backend, a `Runtime` or `Engine`, an engine
    of `ramet.runtime`, or None."""
    global_config.default_backend = None if backend is None else resolved_backend(backend)


def flush_cache(backend: Any = None) -> Any:
    """Forget all cached prefixes; False without a backend."""
    found = backend or global_config.default_backend
    return False if found is None else resolved_backend(found).flush_cache()


def get_server_info(backend: Any = None) -> Any:
    """What the backend says of itself; None without a backend."""
    found = backend or global_config.default_backend
    return None if found is None else resolved_backend(found).get_server_info()


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesSamplingMethod | None = None,
    regex: str | None = None,
    json_schema: str | None = None,
) -> SglGen | SglSelect:
    """Generate text; what is None follows the run. With `choices`, the same as `select`.

    Raises `re.error` for a `regex` that is none.
    """
    if choices:
        method = choices_method or token_length_normalized
        return SglSelect(name, choices, temperature or 0.0, method)
    return SglGen(
        name,
        max_new_tokens=max_tokens,
        min_new_tokens=min_tokens,
        n=n,
        stop=stop,
        stop_token_ids=stop_token_ids,
        stop_regex=stop_regex,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        ignore_eos=ignore_eos,
        return_logprob=return_logprob,
        logprob_start_len=logprob_start_len,
        top_logprobs_num=top_logprobs_num,
        return_text_in_logprobs=return_text_in_logprobs,
        dtype=dtype,
        regex=checked_regex(regex),
        json_schema=json_schema,
    )


_TYPED: tuple[str, ...] = tuple(
    (
        "name max_tokens n stop stop_token_ids stop_regex temperature top_p top_k min_p "
        "frequency_penalty presence_penalty ignore_eos return_logprob logprob_start_len "
        "top_logprobs_num return_text_in_logprobs"
    ).split()
)


def gen_int(*args: Any, **kwargs: Any) -> SglGen | SglSelect:
    """`gen` of a whole number. In order: name, max_tokens, n, stop, and on as `gen`."""
    return gen(dtype=int, **_named("gen_int", args, kwargs))


def gen_string(*args: Any, **kwargs: Any) -> SglGen | SglSelect:
    """`gen` of a string in double quotes; arguments as for `gen_int`."""
    return gen(dtype=str, **_named("gen_string", args, kwargs))


def _named(who: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if len(args) > len(_TYPED):
        raise TypeError(f"{who} takes at most {len(_TYPED)} arguments, not {len(args)}")
    named = dict(zip(_TYPED, args, strict=False))
    for name, value in kwargs.items():
        if name not in _TYPED or name in named:
            problem = "twice" if name in named else "which it does not take"
            raise TypeError(f"{who} was given {name!r} {problem}")
        named[name] = value
    return named


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesSamplingMethod = token_length_normalized,
) -> SglSelect:
    """Append the best of the choices."""
    assert choices, "select needs choices"
    return SglSelect(name, choices, temperature, choices_method)


def image(expr: Any) -> SglImage:
    """An image, for backends that take images: a path, bytes or a PIL image."""
    return SglImage(expr)


def video(path: Any, num_frames: int) -> SglVideo:
    """Frames of a video; no backend of this project takes them."""
    return SglVideo(path, num_frames)


def _turn(role: str, expr: Any) -> SglExprList:
    content = [] if expr is None else [text_or_expr(expr)]
    return SglExprList([SglRoleBegin(role), *content, SglRoleEnd(role)])


def system(expr: Any = None) -> SglExprList:
    """A system message; None makes an empty one."""
    return _turn("system", expr)


def user(expr: Any = None) -> SglExprList:
    return _turn("user", expr)


def assistant(expr: Any = None) -> SglExprList:
    return _turn("assistant", expr)


def system_begin() -> SglRoleBegin:
    return SglRoleBegin("system")


def system_end() -> SglRoleEnd:
    return SglRoleEnd("system")


def user_begin() -> SglRoleBegin:
    return SglRoleBegin("user")


def user_end() -> SglRoleEnd:
    return SglRoleEnd("user")


def assistant_begin() -> SglRoleBegin:
    return SglRoleBegin("assistant")


def assistant_end() -> SglRoleEnd:
    return SglRoleEnd("assistant")


def separate_reasoning(expr: SglExpr | None = None, model_type: str | None = None) -> SglExprList:
    """What the gen in `expr` reasons goes into the variable `NAME_reasoning_content`, and out of
    the text; NAME is the rest."""
    apart = SglSeparateReasoning(model_type, text_or_expr(expr))
    return SglExprList([apart.around(expr), apart])
