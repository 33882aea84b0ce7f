"""What can be appended to a state: texts, `gen`, `select`, `score`, turns, and sums of them.

An expression is a description; nothing happens before a state takes it. Knows neither states nor
graphs. A value of a run (`ramet.values`) is an expression, too.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, cast

from ramet.callsite import callsite
from ramet.domains import Domain, checked
from ramet.errors import AppendError, ParameterError, near_miss, shown
from ramet.hints import type_of
from ramet.lazy import Lazy
from ramet.nodes import Method, Role
from ramet.params import SAMPLING_FIELDS, SEED, TEMPERATURE, SamplingParams
from ramet.types import Type, choice_type, json_type

P = ParamSpec("P")


class Expression(Lazy):
    """Something that can be appended; `+` joins it with texts and other expressions.

    Only a value, or a sum of values and texts, can be looked at.
    """

    __slots__ = ()

    def look(self) -> Any:
        what = type(self).__name__.lower()
        raise AppendError(
            f"a {what} has no value yet: append it first, or join it with +", callsite()
        )

    def __add__(self, other: Any) -> Any:
        return Sum((*terms_of(self), *terms_of(other)))

    def __radd__(self, other: Any) -> Any:
        return Sum((*terms_of(other), *terms_of(self)))


Term: TypeAlias = str | Expression
"""What a state takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Sum(Expression):
    """Terms one after the other. One of texts and values alone can be looked at as a string."""

    terms: tuple[Term, ...]

    def look(self) -> str:
        return "".join(map(str, self.terms))


@dataclass(frozen=True, slots=True, eq=False)
class Generation(Expression):
    """A `gen` that no state has taken yet."""

    name: str
    params: SamplingParams
    type: Type | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Selection(Expression):
    """A `select` that no state has taken yet."""

    name: str
    options: tuple[str, ...]
    by: Method = "mean_logprob"
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scored(Expression):
    """A `score` that no state has taken yet."""

    name: str
    content: "Term"


@dataclass(frozen=True, slots=True, eq=False)
class Turn(Expression):
    """A whole turn of the chat."""

    role: Role
    content: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keywords(SamplingParams):
    """What `gen` takes: how to draw, and what the text must be."""

    type: Any = None  # no type checker can say yet that it takes a hint
    regex: str | None = None
    json_schema: Mapping[str, Any] | bool | str | None = None
    grammar: str | None = None
    choices: Iterable[str] | None = None


_TYPED: dict[str, Callable[[Any], Type | None]] = {
    "type": type_of,
    "regex": partial(Type, "regex"),
    "json_schema": json_type,
    "grammar": partial(Type, "grammar"),
    "choices": choice_type,
}
"""The keywords that say what the text must be, each with what makes a type of it."""


def _takes_fields_of(
    record: Callable[P, object],
) -> Callable[[Callable[..., Generation]], Callable[Concatenate[str, P], Generation]]:
    """Give a function the record's keywords, so that they are written down only there.

    A type checker and an editor see each with its type; `inspect.signature` does, too.
    """

    def decorate(function: Callable[..., Generation]) -> Callable[Concatenate[str, P], Generation]:
        name, _ = inspect.signature(function).parameters.values()
        keywords = inspect.signature(record).parameters.values()
        signature = inspect.Signature([name, *keywords], return_annotation=Generation)
        function.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


@_takes_fields_of(_Keywords)
def gen(name: str, /, **fields: Any) -> Generation:
    """Draw tokens, append them, and bind them to the name.

    Args:
        type: what the value arrives as: `int`, `float`, `bool`, a `Literal`, an `Enum`, a
            dataclass, a pydantic model, `list[int]`, `Card | None`. `str` is any text.
        regex: the text must match this pattern as a whole.
        json_schema: the text is JSON of this schema, and the value arrives parsed.
        grammar: the text obeys this grammar, in Lark's notation.
        choices: the text is one of these.
        fields: those of `SamplingParams`.

    Raises:
        ParameterError: a field is unknown, out of range, or contradicts another.
    """
    typed = {name: fields.pop(name, None) for name in _TYPED}
    try:
        for field in fields.keys() - SAMPLING_FIELDS.keys():
            hint = near_miss(field, (*SAMPLING_FIELDS, *_TYPED))
            raise ParameterError(
                field, fields[field], f"unknown sampling parameter {shown(field)}{hint}"
            )
        params = SamplingParams.from_dict(fields)
        return Generation(_name(name, "gen"), params, _type_of(typed))
    except ParameterError as error:
        raise error.at(callsite()) from None


def _type_of(typed: Mapping[str, Any]) -> Type | None:
    given = [name for name, value in typed.items() if value is not None]
    if len(given) > 1:
        raise ParameterError(given[1], typed[given[1]], f"gen takes one of {' and '.join(given)}")
    return _TYPED[given[0]](typed[given[0]]) if given else None


def select(
    name: str,
    options: Sequence[str],
    *,
    by: Method = "mean_logprob",
    temperature: float = 0.0,
    seed: int | None = None,
) -> Selection:
    """Score every option on the context, append the best (or one drawn), bind it to the name."""
    return Selection(
        _name(name, "select"),
        _options(options),
        by,
        _placed("temperature", temperature, TEMPERATURE),
        _placed("seed", seed, SEED),
    )


def score(name: str, content: Term) -> Scored:
    """Bind the log-probability of the content as a continuation; nothing is appended."""
    return Scored(_name(name, "score"), _content(content))


def system(content: Term) -> Turn:
    """A turn that sets the rules of the chat."""
    return Turn("system", _content(content))


def user(content: Term) -> Turn:
    """A turn of the person."""
    return Turn("user", _content(content))


def assistant(content: Term) -> Turn:
    """A turn of the model: what it said, or `gen` what it says now."""
    return Turn("assistant", _content(content))


def join(values: "Iterable[str | Expression]", separator: str = "") -> Sum:
    """The values as one text with the separator between them; what is lazy stays lazy."""
    row: list[Term] = []
    for value in values:
        row += [separator, *terms_of(value)]
    return Sum(tuple(row[1:]))


def terms_of(item: object) -> tuple[Term, ...]:
    """The item as a flat row of terms; `AppendError` if it is none."""
    match item:
        case Sum(terms):
            return terms
        case str() | Expression():
            return (item,)
        case _:
            raise AppendError(
                f"a text or an expression is needed here, not {shown(item)}{_hint(item)}",
                callsite(),
            )


def _hint(item: object) -> str:
    if isinstance(item, bool | int | float):
        return "; write str(...) around it"
    if callable(item):
        return "; is a pair of parentheses missing?"
    if isinstance(item, Iterable) and not isinstance(item, bytes):
        return "; ramet.join(...) makes one of several"
    return ""


def _name(name: object, what: str) -> str:
    if not isinstance(name, str):
        raise AppendError(f"{what} needs the name of a variable, not {shown(name)}", callsite())
    return name


def _options(options: object) -> tuple[str, ...]:
    if isinstance(options, str) or not isinstance(options, Iterable):
        raise AppendError(f"select needs a list of options, not {shown(options)}", callsite())
    row = tuple(cast("Iterable[object]", options))
    for option in row:
        if not isinstance(option, str):
            raise AppendError(f"an option must be a text, not {shown(option)}", callsite())
    return cast("tuple[str, ...]", row)


def _placed(name: str, value: object, domain: Domain) -> Any:
    try:
        return checked(name, value, domain)
    except ParameterError as error:
        raise error.at(callsite()) from None


def _content(content: object) -> Term:
    row = terms_of(content)
    return row[0] if len(row) == 1 else Sum(row)
