"""What a server says of a finished run, with the names that a local result has."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from ramet.errors import UnknownVariable, near_miss


@dataclass(frozen=True, slots=True)
class RemoteUsage:
    """What was computed and what was not, in tokens; as the engine counts it."""

    prompt_computed: int = 0
    prompt_reused: int = 0
    generated: int = 0
    forced: int = 0
    copied_blocks: int = 0
    preemptions: int = 0

    @classmethod
    def of(cls, told: Mapping[str, int]) -> Self:
        """Counters that this client does not know are left out."""
        return cls(**{name: told[name] for name in cls.__slots__ if name in told})

    def without(self, others: "Iterable[RemoteUsage]") -> "RemoteUsage":
        """What is left when that of the others is taken away."""
        taken = [asdict(each) for each in others]
        left = {
            name: count - sum(each[name] for each in taken) for name, count in asdict(self).items()
        }
        return RemoteUsage(**left)


class Details:
    """How a variable came about: whatever the server told, by attribute, as `finish_reason`."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._told:
            raise AttributeError(f"nothing is told of {name!r}{near_miss(name, self._told)}")
        return self._told[name]

    def __repr__(self) -> str:
        return f"Details({dict(self._told)!r})"


@dataclass(frozen=True, slots=True)
class RemoteState:
    """One state of a run: the program's own, or a branch."""

    path: str
    text: str
    variables: Mapping[str, Any]
    infos: Mapping[str, Any] = field(repr=False)
    usage: RemoteUsage
    branches: "tuple[RemoteState, ...]" = ()

    def walk(self) -> "Iterator[RemoteState]":
        """This state and all under it, parents first."""
        yield self
        for branch in self.branches:
            yield from branch.walk()


@dataclass(frozen=True, slots=True)
class RemoteFinished:
    """The outcome of a run on a server. Values are in the terms of JSON."""

    value: Any
    root: RemoteState = field(repr=False)
    usage: RemoteUsage  # of all states together

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        usage = RemoteUsage.of(told["usage"])
        root = _state({**told, "path": ""})
        branches = [state.usage for branch in root.branches for state in branch.walk()]
        return cls(told["value"], replace(root, usage=usage.without(branches)), usage)

    def __getitem__(self, name: str) -> Any:
        """The value of a variable on the program's own state."""
        return _known(self.root.variables, name)

    def info(self, name: str) -> Any:
        """How a variable of the program's own state came about; of samples, a list."""
        return _known(self.root.infos, name)

    @property
    def text(self) -> str:
        """All text of the program's own state."""
        return self.root.text


def details_of(told: Any) -> Any:
    """The details of one variable; of samples, a list of them."""
    if isinstance(told, list):
        return [*map(details_of, told)]
    return Details(told) if isinstance(told, dict) else told


def _state(told: Mapping[str, Any]) -> RemoteState:
    return RemoteState(
        path=told["path"],
        text=told["text"],
        variables=told["variables"],
        infos={name: details_of(each) for name, each in told["details"].items()},
        usage=RemoteUsage.of(told["usage"]),
        branches=tuple(map(_state, told["branches"])),
    )


def _known(values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise UnknownVariable(name, values)
    return values[name]
