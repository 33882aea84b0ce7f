"""What a server answers that is no result, as the error that a local run would raise."""

from collections.abc import Mapping
from typing import Any

from ramet.errors import Diagnostic, LimitError, RametError, SourceError, Span


class RemoteError(RametError):
    """A server refused a request, or a run failed there.

    `status` is that of the answer, if it was one; `code` is for machines; `details` has all that
    the server told.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details or {}


def error_of(told: Mapping[str, Any], status: int | None = None) -> RametError:
    """The error that a server told of: a `SourceError` or a `LimitError` where it was one there."""
    message, code = str(told.get("message")), told.get("code")
    placed = [each for each in told.get("diagnostics") or () if "line" in each]
    if code == "program_error" and placed:
        return SourceError(_diagnostic(each) for each in placed)
    if code == "limit_exceeded" and "limit" in told:
        return LimitError(told["limit"], told["most"], message)
    return RemoteError(message, status=status, code=code, details=told)


def _diagnostic(told: Mapping[str, Any]) -> Diagnostic:
    span = Span("program", told["line"], told["column"], told.get("source"))
    return Diagnostic(span, told["message"])
