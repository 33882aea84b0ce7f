"""What a node of a program may ask for; what is too much is refused before it runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ramet.nodes import Gen, Node, Sample, Score, Select, Text
from ramet.params import SamplingParams
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.types import Type


def guard_of(config: ServerConfig, context: int) -> Callable[[Node], None]:
    """Raises `Refused` for a node over a limit; `context` is the model's, in tokens."""
    most = config.prompt_bytes_per_token * context

    def guard(node: Node) -> None:
        match node:
            case Gen() | Sample():
                check_params(config, node.params)
                check_type(config, node.type)
            case Text(parts=parts) | Score(parts=parts):
                check_text(parts, most)
            case Select(options=options):
                check_text(options, most)
            case _:
                pass

    return guard


def check_params(config: ServerConfig, params: SamplingParams) -> None:
    """The settings of one generation."""
    hold("n", params.n, config.n)
    hold("best_of", params.best_of, config.n)
    hold("beams", params.beams, config.beams)
    hold("logprobs", params.logprobs or 0, config.logprobs)
    stops = [params.stop] if isinstance(params.stop, str) else [*params.stop]
    hold("stop", len(stops), config.stops, "stop strings")
    longest = max((len(stop.encode("utf-8", "replace")) for stop in stops), default=0)
    hold("stop", longest, config.stop_bytes, "bytes in a stop string")
    pattern = params.stop_regex or ""
    hold("stop_regex", len(pattern.encode("utf-8", "replace")), config.pattern_bytes, "bytes")


def check_type(config: ServerConfig, type: Type | None) -> None:
    """The source of a pattern, a schema or a grammar."""
    if type is not None:
        most = config.pattern_bytes if type.kind == "regex" else config.schema_bytes
        hold(type.kind, len(type.source.encode("utf-8", "replace")), most, "bytes")


def check_text(parts: Iterable[object], most: int) -> None:
    """What is written out in a text, before it is made into tokens."""
    size = sum(len(part.encode("utf-8", "replace")) for part in parts if isinstance(part, str))
    if size > most:
        raise Refused(
            400,
            f"a text has {size:,} bytes; the context cannot hold more than {most:,}",
            code="context_length_exceeded",
        )


def hold(name: str, value: int, most: int, what: str = "") -> None:
    """Raise `Refused` if the value is over the limit; the message names the field and both."""
    if value > most:
        unit = f" {what}" if what else ""
        raise Refused(
            400,
            f"{name}: {value:,}{unit} is more than the {most:,} that this server takes",
            code="limit_exceeded",
            param=name,
            limit=name,
            most=most,
        )


def hold_size(name: str, value: object, most: int) -> int:
    """Characters of texts and items of a value, each counted wherever it stands; `Refused` for
    more than `most`."""
    size, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, Mapping):
            size += sum(1 + len(str(key)) for key in each)
            left += each.values() if size <= most else ()
        elif isinstance(each, Sequence):
            size += len(each)
            left += each if size <= most else ()
        if size > most:
            raise Refused(
                400,
                f"{name}: it is more than the {most:,} characters and items that this server takes",
                code="limit_exceeded",
                param=name,
                limit="made",
                most=most,
            )
    return size


def hold_nesting(name: str, value: object, most: int) -> None:
    """Raise `Refused` if lists and maps of the value nest deeper."""
    level = [value]
    for _ in range(most + 1):
        level = [
            item
            for each in level
            if isinstance(each, list | dict)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise Refused(
        400,
        f"{name}: it nests deeper than the {most} levels that this server takes",
        code="limit_exceeded",
        param=name,
        limit="nesting",
        most=most,
    )
