"""What looks at a lazy thing, all in one place: every operator works on the thing itself.

`+` with a text is not here: it does not look (`ramet.expressions`).
"""

import operator
from collections.abc import Iterator
from typing import Any

from ramet.errors import near_miss

METHODS = frozenset(
    name for kind in (str, list, dict, int, float) for name in dir(kind) if name[0] != "_"
)
"""The public names of the types that values have; asking for one looks."""


class Lazy:
    """Stands for something that `look` gives, perhaps after waiting."""

    __slots__ = ()

    def look(self) -> Any:
        """The thing itself."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return getattr(self.look(), name)
        raise AttributeError(f"a {type(self).__name__} has no {name!r}{near_miss(name, METHODS)}")

    def __str__(self) -> str:
        return str(self.look())

    def __format__(self, spec: str) -> str:
        return format(self.look(), spec)

    def __bool__(self) -> bool:
        return bool(self.look())

    def __hash__(self) -> int:
        return hash(self.look())

    def __len__(self) -> int:
        return len(self.look())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.look())

    def __getitem__(self, key: Any) -> Any:
        return self.look()[key]

    def __contains__(self, item: Any) -> bool:
        return item in self.look()

    def __int__(self) -> int:
        return int(self.look())

    def __float__(self) -> float:
        return float(self.look())

    def __index__(self) -> int:
        return operator.index(self.look())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.look(), digits)

    def __neg__(self) -> Any:
        return -self.look()

    def __abs__(self) -> Any:
        return abs(self.look())

    def __eq__(self, other: object) -> bool:
        return self.look() == other

    def __lt__(self, other: Any) -> Any:
        return self.look() < other

    def __le__(self, other: Any) -> Any:
        return self.look() <= other

    def __gt__(self, other: Any) -> Any:
        return self.look() > other

    def __ge__(self, other: Any) -> Any:
        return self.look() >= other

    def __sub__(self, other: Any) -> Any:
        return self.look() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.look()

    def __mul__(self, other: Any) -> Any:
        return self.look() * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.look()

    def __truediv__(self, other: Any) -> Any:
        return self.look() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.look()

    def __floordiv__(self, other: Any) -> Any:
        return self.look() // other

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.look()

    def __mod__(self, other: Any) -> Any:
        return self.look() % other

    def __rmod__(self, other: Any) -> Any:
        return other % self.look()
