"""Every error as one JSON shape, `{"error": {"message", "type", "param", "code", …}}`.

A client's mistake is 4xx and says what to change; no answer has a traceback, a path or an address.
"""

import json
import re
from collections.abc import Sequence
from math import ceil
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ramet.errors import (
    Diagnostic,
    GraphError,
    LanguageError,
    LimitError,
    ParameterError,
    RametError,
    SourceError,
    Span,
)
from ramet.runtime.errors import (
    Aborted,
    ContextLengthError,
    EngineClosed,
    GenerationError,
    RequestError,
    RuledOut,
    SamplingError,
    StepError,
)

RETRY_S = 1

MESSAGE = 2_000
PARAM = 200
LINE = 1_000
"""Characters of a message, of a field's name, and of a line of a source: what a client sent comes
back in them, and many times over."""


class Refused(RametError):
    """A request that is answered with an error.

    `code` is for machines, `param` the field it is about, `retry` the seconds after which to try
    again; `more` is added to the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry: float | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry = retry
        self.more = more

    @property
    def body(self) -> dict[str, Any]:
        """The inside of `{"error": …}`."""
        return {
            "message": _short(str(self), MESSAGE),
            "type": _TYPES.get(self.status) or _TYPES[self.status // 100 * 100],
            "param": None if self.param is None else _short(self.param, PARAM),
            "code": self.code,
            **self.more,
        }


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    422: "run_error",
    429: "rate_limit_error",
    499: "cancelled_error",
    500: "server_error",
    503: "overloaded_error",
}


def respond(error: Refused) -> Response:
    """The answer to a request that is refused."""
    headers = {} if error.retry is None else {"Retry-After": str(max(1, ceil(error.retry)))}
    # In ASCII: a message may quote half a character.
    body = json.dumps({"error": error.body}, separators=(",", ":"))
    answer = Response(body, error.status, headers, "application/json")
    if error.status in (408, 413):  # nobody reads the rest of the body
        answer.headers["Connection"] = "close"
    if error.status == 401:  # a line each, Basic first: browsers read one scheme of a line
        answer.headers.append("WWW-Authenticate", 'Basic realm="ramet", charset="UTF-8"')
        answer.headers.append("WWW-Authenticate", 'Bearer realm="ramet"')
    return answer


INTERNAL = "the server failed; the request was not at fault"


def refused(error: Exception) -> Refused:
    """What a client is told of any exception."""
    match error:
        case Refused():
            return error
        case SourceError(diagnostics=diagnostics):
            message = "; ".join(f"line {d.span.line}: {d.message}" for d in diagnostics[:3])
            return Refused(
                400,
                f"the program has {_many(len(diagnostics), 'mistake')}: {message}",
                code="program_error",
                param="source",
                diagnostics=diagnostics_of(error),
            )
        case LimitError(limit=limit, value=most):
            return Refused(400, error.message, code="limit_exceeded", limit=limit, most=most)
        case ParameterError(field=field):
            return Refused(400, error.message, code="invalid_value", param=field)
        case GraphError():
            return Refused(400, error.message, code="graph_error", param=error.path or "graph")
        case LanguageError():
            return Refused(
                400, error.message, code="program_error", diagnostics=diagnostics_of(error)
            )
        case ContextLengthError():
            return Refused(400, str(error), code="context_length_exceeded")
        case RequestError():
            return Refused(400, str(error), code=_code(error))
        case Aborted():
            return Refused(499, "it was cancelled", code="cancelled")
        case StepError():
            return Refused(
                503, "the step of this run failed; try again", code="step_failed", retry=RETRY_S
            )
        case RuledOut():
            return Refused(422, str(error), code=_code(error))
        case SamplingError() | EngineClosed():
            code, status = (
                ("engine_closed", 503) if isinstance(error, EngineClosed) else (None, 500)
            )
            message = "the server is closing" if status == 503 else INTERNAL
            return Refused(status, message, code=code, retry=RETRY_S if status == 503 else None)
        case GenerationError():
            return Refused(422, str(error), code=_code(error))
        case _:
            return Refused(500, INTERNAL, code="internal_error")


def diagnostics_of(error: LanguageError) -> list[dict[str, Any]]:
    """Each mistake with its place: line and column count from one; `source` is the line."""
    found: Sequence[Diagnostic]
    if isinstance(error, SourceError):
        found = error.diagnostics
    elif error.span is not None:
        found = [Diagnostic(error.span, error.message)]
    else:
        return [{"message": _short(error.message, MESSAGE)}]
    return [{"message": _short(each.message, MESSAGE), **_place(each.span)} for each in found]


def _place(span: Span) -> dict[str, Any]:
    text = None if span.text is None else _short(span.text, LINE)
    return {"line": span.line, "column": span.column, "source": text}


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _code(error: Exception) -> str:
    """`ConstraintError` as `constraint_error`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


# -- handlers


async def on_ramet_error(request: Request, error: Exception) -> Response:
    return respond(refused(error))


async def on_validation(request: Request, error: Exception) -> Response:
    """The first field that is wrong, by its place in the body."""
    assert isinstance(error, RequestValidationError), "it is registered for that"
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(place) or None
    message = first["msg"].removeprefix("Value error, ")
    shown = f"{param}: {message}" if param else message
    return respond(Refused(400, shown, code="invalid_request", param=param))


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is registered for that"
    message = {404: "there is no such route", 405: "the route has no such method"}
    said = message.get(error.status_code, str(error.detail))
    answer = respond(Refused(error.status_code, said, code=None))
    answer.headers.update(error.headers or {})
    return answer
