"""The values of a run, as the body of a program sees them: lazy until something looks.

Joined with `+` a value stays lazy and becomes a dependency of the graph. Whatever looks at it (a
comparison, an f-string, a length) asks the recorder, which waits in a run and refuses in a trace,
and then works on the real value; nothing stands for a value inside a string.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from ramet.callsite import callsite
from ramet.errors import AppendError, near_miss
from ramet.expressions import Expression, Sum, Term, join
from ramet.nodes import (
    ATTRIBUTES,
    ATTRIBUTES_OF,
    SCALARS,
    Binding,
    Gen,
    Input,
    Part,
    Ref,
    Sample,
    Select,
)
from ramet.recorder import Recorder
from ramet.types import Reader, Type


class Value(Expression):
    """What a node binds, or one of its `ATTRIBUTES`; those are lazy values themselves.

    An instance of a class has what its class declares; a field `text` comes before the attribute.
    """

    __slots__ = ("_recorder", "_ref")

    def __init__(self, recorder: Recorder, ref: Ref) -> None:
        self._recorder = recorder
        self._ref = ref

    def ref_for(self, recorder: Recorder) -> Ref:
        """How a node of that recorder refers to this value."""
        if recorder is not self._recorder:
            raise AppendError("this value belongs to another run of a program", callsite())
        return self._ref

    def look(self) -> Any:
        """The value itself."""
        if self._ref.attribute is None:
            return self._recorder.read(self._ref.node)
        return getattr(known(self), self._ref.attribute)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._ref.attribute is not None:
            return getattr(self.look(), name)
        reader = _reader(self)
        if reader is not None and (name in reader.fields or name not in ATTRIBUTES):
            return getattr(self.look(), name)
        if name in ATTRIBUTES:
            return Value(self._recorder, Ref(self._ref.node, name))
        return super().__getattr__(name)

    def __str__(self) -> str:
        """The value as a text; a typed one as it was generated."""
        value: object = self.look()
        if is_part(self) and not (is_attribute(self) or is_text(self)):
            value = getattr(known(self), "text", value)
        return str(value)

    def __format__(self, spec: str) -> str:
        return format(self.look(), spec) if spec else str(self)

    def __repr__(self) -> str:
        return f"<value of node {place(self)}>"

    def __add__(self, other: Any) -> Any:
        return super().__add__(other) if self._joins(other) else self.look() + _looked(other)

    def __radd__(self, other: Any) -> Any:
        return super().__radd__(other) if self._joins(other) else _looked(other) + self.look()

    def _joins(self, other: Any) -> bool:
        """Whether `+` makes a text, which can wait."""
        if isinstance(other, Value):
            return is_text(self) or is_text(other)
        return isinstance(other, str | Expression)


# What the language asks of a value. No methods: a class may have fields of these names.


def _place(value: Value) -> tuple[Recorder, Ref]:
    return value._recorder, value._ref  # pyright: ignore[reportPrivateUsage]  # in this file


def _bound(value: Value) -> Binding | Input:
    recorder, ref = _place(value)
    return recorder.binds(ref.node)


def _attribute(value: Value) -> str | None:
    return _place(value)[1].attribute


def is_attribute(value: Value) -> bool:
    return _attribute(value) is not None


def attributes(value: Value) -> tuple[str, ...]:
    """What can be asked of it without a look; nothing more of an attribute."""
    return () if is_attribute(value) else ATTRIBUTES_OF[type(_bound(value))]


def is_text(value: Value) -> bool:
    """Whether the value is a text, which `+` joins to others without a look."""
    if is_attribute(value):
        return _attribute(value) == "text" and is_part(value)
    match _bound(value):
        case Gen(params=params, type=type):
            return (type is None or type.is_text) and params.n == 1
        case Sample(type=type):
            return type is None or type.is_text
        case Select():
            return True
        case Input(takes=takes):
            return takes == "str"
        case _:
            return False


def is_part(value: Value) -> bool:
    """Whether the value can be a part of a text."""
    bound = _bound(value)
    several = isinstance(bound, Gen) and bound.params.n > 1
    return not several and _attribute(value) in (None, *SCALARS)


def is_made(value: Value) -> bool:
    """Whether it is an instance of a class, or a list of them."""
    match _bound(value):
        case Gen(type=Type(reader=reader)) | Sample(type=Type(reader=reader)):
            return reader is not None and not is_attribute(value)
        case _:
            return False


def place(value: Value) -> str:
    """The node, and the attribute if it is one: how a value is shown without a look."""
    node, attribute = _place(value)[1].node, _attribute(value)
    return str(node) if attribute is None else f"{node}.{attribute}"


def known(value: Value) -> Any:
    """All that is known of it, as a record; waits for it."""
    recorder, ref = _place(value)
    return recorder.info(ref.node)


def _reader(value: Value) -> Reader | None:
    """What makes it an instance of a class; None where it is none, or a list of them."""
    match _bound(value):
        case Gen(type=Type(reader=reader), params=params):
            return reader if params.n == 1 else None
        case Sample(type=Type(reader=reader)):
            return reader
        case _:
            return None


def _looked(value: Any) -> Any:
    return value.look() if isinstance(value, Value) else value


def parts_for(terms: Iterable[Term], recorder: Recorder) -> tuple[Part, ...]:
    """Texts and values as the parts of a node of that recorder; empty texts are left out."""
    parts = (t.ref_for(recorder) if isinstance(t, Value) else str(t) for t in terms)
    return tuple(part for part in parts if part != "")


class Gathered:
    """One variable over the branches of a fork: a list whose length is known without waiting.

    An index gives the lazy value; iterating, comparing and `in` look at all of them.
    """

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = tuple(values)

    def join(self, separator: str) -> Sum:
        """The values as one lazy text, with the separator between them."""
        return join(self.values, separator)

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> "Gathered": ...
    def __getitem__(self, index: int | slice) -> "Value | Gathered":
        if isinstance(index, slice):
            return Gathered(self.values[index])
        return self.values[index]

    def __iter__(self) -> Iterator[Any]:
        return (value.look() for value in self.values)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Gathered) else other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __getattr__(self, name: str) -> "Gathered":
        readers = [reader for value in self.values if (reader := _reader(value)) is not None]
        if readers and any(name in reader.fields or name not in ATTRIBUTES for reader in readers):
            raise AttributeError(f"a list of values has no {name!r}; write [x.{name} for x in ...]")
        if name in ATTRIBUTES:
            return Gathered([getattr(value, name) for value in self.values])
        raise AttributeError(f"a list of values has no {name!r}{near_miss(name, ATTRIBUTES)}")

    def __str__(self) -> str:
        """The list itself."""
        return str(list(self))

    def __repr__(self) -> str:
        return f"<values of nodes {', '.join(map(place, self.values))}>"
