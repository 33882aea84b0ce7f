"""What a generated text is worth, or why it is worth nothing. Knows no engine."""

from ramet.errors import shown
from ramet.nodes import Gen, Sample
from ramet.runtime.errors import GenerationError, InvalidValue
from ramet.types import value_of

_HALF = "\ufffd"


def value(node: Gen | Sample, text: str) -> object:
    """The value of a whole text; `InvalidValue` if it has none."""
    try:
        return value_of(node.type, text)
    except ValueError as error:
        raise InvalidValue(node.name, text, str(error)) from error


def cut_short(
    node: Gen | Sample, text: str, finish_reason: str, stop: str | None, tokens: int
) -> GenerationError:
    """What ended a text of so many tokens before it was whole, and what to do about it.

    Half a character at its end is not shown.
    """
    kind = "" if node.type is None else node.type.kind
    if finish_reason == "stop":
        why = f"the stop {stop!r}" if stop is not None else "a stop token"
        remedy = "leave that stop out"
    elif tokens < node.params.max_tokens:
        why, remedy = "the end of the model's context", "shorten the prompt"
    else:
        why = f"max_tokens={node.params.max_tokens}"
        remedy = "give it more"
    whole = shown(text.rstrip(_HALF))
    return GenerationError(
        f"gen {node.name}: {why} cut the text {whole} before it was a whole {kind}; {remedy}"
    )
