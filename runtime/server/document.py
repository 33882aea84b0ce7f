"""The OpenAPI document: FastAPI's, with the statuses, shapes and keys that really are there.

A route says by `told` what it answers besides what all routes do; that is added here.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from ramet.runtime.server.middleware import OPEN
from ramet.runtime.server.shapes import Error, Shape

Responses = dict[int | str, dict[str, Any]]

ERRORS: Mapping[int, str] = {
    400: "The request is wrong; the message says what to change.",
    401: "A key is needed.",
    403: "A page of another site sent this, or it was sent to a name that is not this machine's.",
    404: "There is no such thing, or no longer.",
    408: "The body did not come in time.",
    409: "The idempotency key came with another request, or somebody cancelled the run.",
    410: "These events are dropped; the result is still there.",
    413: "The body is too large.",
    422: "The run came to where it cannot go on, such as a text that its type rules out.",
    429: "So much is not for one tenant; try again after `Retry-After` seconds.",
    503: "Full, shutting down, or the engine stands still; try again after `Retry-After` seconds.",
}
"""What each error means, whatever the route."""

_ABOUT = """\
Programs for language models, run next to their cache. Every error has one shape, `Error`, and \
every answer has an `X-Request-ID`. Streams are server-sent events; docs/server.md says which."""
_TAGS = {
    "programs": "A client sends a program, and it runs here.",
    "library": "Programs that are stored under a name, checked and planned once.",
    "cache": "What is cached, and what a tenant may do there.",
    "openai": "OpenAI's interface.",
    "tokens": "Texts as tokens, and back.",
    "sglang": "What SGLang's frontend calls.",
    "health": "For those who watch; without a key.",
    "metrics": "For Prometheus.",
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "The key as the password."},
}
_PLACE = "#/components/schemas/{model}"
_ERROR = {"application/json": {"schema": {"$ref": _PLACE.format(model="Error")}}}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


def told(
    shapes: Any, *errors: int, events: type[Shape] | Mapping[str, type[Shape]] | None = None
) -> Responses:
    """What a route answers, besides errors that come with a body, with parameters, or with keys.

    Args:
        shapes: by status, or the one of 200.
        errors: statuses.
        events: of a stream; what each has as data, by its name, or where they have none what all
            have.
    """
    by_status = shapes if isinstance(shapes, dict) else {200: shapes}
    found: Responses = {status: {"model": shape} for status, shape in by_status.items()}
    if events is not None:
        content = {"text/event-stream": {"itemSchema": _event(events)}}
        found.setdefault(200, {})["content"] = content
    return found | {status: {} for status in errors}


def _event(events: type[Shape] | Mapping[str, type[Shape]]) -> dict[str, Any]:
    """The schema of a server-sent event, with those that it refers to."""
    shapes = [*events.values()] if isinstance(events, Mapping) else [events, Error]
    places, more = models_json_schema(
        [(shape, "serialization") for shape in {*shapes}], ref_template=_PLACE
    )

    def json(shape: type[Shape]) -> dict[str, Any]:
        schema = places[shape, "serialization"]
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}

    def named(name: str, shape: type[Shape]) -> dict[str, Any]:
        fields = {"event": {"const": name}, "id": {"type": "string"}, "data": json(shape)}
        return {"type": "object", "required": ["event", "data"], "properties": fields}

    if isinstance(events, Mapping):
        found: dict[str, Any] = {"anyOf": [named(*each) for each in events.items()]}
    else:
        data = {"anyOf": [*map(json, shapes), {"const": "[DONE]"}]}
        found = {"type": "object", "required": ["data"], "properties": {"data": data}}
    return {**found, "$defs": more["$defs"]}


class Documented(FastAPI):
    """An application whose document says what its routes answer. It is made when it is asked for.

    Args:
        keyed: whether a key is needed.
    """

    def __init__(self, *, keyed: bool, **more: Any) -> None:
        tags = [{"name": name, "description": text} for name, text in _TAGS.items()]
        super().__init__(description=_ABOUT, version=version("ramet"), openapi_tags=tags, **more)
        self._keyed = keyed
        self._document: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        if self._document is None:
            self._document = super().openapi()
            _complete(self._document, self._keyed)
        return self._document


def _complete(document: dict[str, Any], keyed: bool) -> None:
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for status in _common(path, operation, keyed):
                responses.setdefault(str(status), {})
            for status, response in responses.items():
                _finish(int(status), response)
                for content in response.get("content", {}).values():
                    schemas |= content.get("itemSchema", {}).pop("$defs", {})
            operation["responses"] = dict(sorted(responses.items()))
            if keyed and path not in OPEN:
                operation["security"] = [{name: []} for name in _KEYS]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    if keyed:
        document["components"]["securitySchemes"] = _KEYS


def _common(path: str, operation: dict[str, Any], keyed: bool) -> set[int]:
    """The errors of all routes that are like this one. FastAPI tells of 422 where a value may be
    wrong; that is 400 here."""
    found: set[int] = set()
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
        found.add(400)
    if "requestBody" in operation:
        found |= {400, 408, 413}
    if "{" in path:
        found.add(404)
    if path not in OPEN:
        found |= {401, 403} if keyed else {403}
    return found


def _finish(status: int, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    for media_type, each in [*content.items()]:
        schema = each.get("schema")
        if not schema and "itemSchema" not in each:
            del content[media_type]  # of which FastAPI knew nothing
        elif schema and "$ref" in schema:
            each["schema"] = {"$ref": schema["$ref"]}
    if status in ERRORS:
        response["description"] = ERRORS[status]
        if not content:
            response["content"] = _ERROR
    if status in (429, 503):
        response["headers"] = _RETRY
