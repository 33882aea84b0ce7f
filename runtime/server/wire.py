"""What a run tells, as events of the wire: a name, and the data in the terms of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from starlette.responses import Response

from ramet.runtime.events import (
    BranchKept,
    BranchOpened,
    BranchReleased,
    Event,
    NodeStarted,
    TextDelta,
    ValueBound,
)
from ramet.runtime.jsonable import plain
from ramet.runtime.report_json import detail, report
from ramet.runtime.result import Finished
from ramet.runtime.server.guard import hold_size
from ramet.runtime.server.sse import dumps, dumps_beside
from ramet.runtime.values import GenInfo


def encoded(event: Event, item: Mapping[str, int], *, beside: bool = False) -> tuple[str, str]:
    """Its name, and its data as JSON with the item of a batch.

    Args:
        beside: this is a thread, where a large value may take its time.
    """
    name, data = event_of(event)
    return name, (dumps_beside if beside else dumps)({**item, **data} if item else data)


SMALL = 4_096
"""Characters of a text that is encoded in no time."""


def is_small(event: Event) -> bool:
    """Whether it is encoded in no time: a value may be large, and so may what is known of it."""
    if not isinstance(event, ValueBound):
        return True
    value, info = event.value, event.info
    if not isinstance(value, str) or len(value) > SMALL:
        return False
    return isinstance(info, GenInfo) and not info.logprobs and not info.texts


def event_of(event: Event) -> tuple[str, dict[str, Any]]:
    """Its name, and its data."""
    match event:
        case NodeStarted():
            return "node", asdict(event)
        case TextDelta():
            data = _variable(event)
            data["sample"] = event.sample
            data["text"] = event.text
            if event.tokens:
                data["tokens"] = event.tokens
            return "text", data
        case ValueBound(info=info):
            known = None if info is None else plain(detail(info))
            return "value", {**_variable(event), "value": plain(event.value), "details": known}
        case BranchOpened():
            return "branch_opened", {"path": event.path}
        case BranchKept():
            return "branch_kept", {"path": event.path}
        case BranchReleased():
            return "branch_released", {"path": event.path}


def result_of(finished: Finished) -> dict[str, Any]:
    """The result of a run: value, text, variables, branches, what is known of them, their cost."""
    return plain(report(finished))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run as JSON, made once."""

    text: str
    usage: str  # a part of it

    @classmethod
    def of(cls, finished: Finished, most: int) -> Self:
        """Takes its time where the result is large. `Refused` for one over so many characters and
        items: what it refers to many times is written as often."""
        size = hold_size("result", report(finished), most)
        found = result_of(finished)
        encode = dumps if size <= SMALL else dumps_beside
        return cls(encode(found), dumps(found["usage"]))


class Json(Response):
    """JSON, values as `plain` has them."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dumps(plain(content)).encode()


def _variable(event: TextDelta | ValueBound) -> dict[str, Any]:
    return {"node": event.node, "name": event.name, "path": event.path}
