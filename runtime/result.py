"""What a finished program leaves: its value, its variables, its states and what they cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ramet.errors import UnknownVariable
from ramet.graph import Graph
from ramet.runtime.context import Context, Span
from ramet.runtime.sequence import Usage
from ramet.runtime.values import Info


@dataclass(frozen=True, slots=True)
class FinishedState:
    """One state of a run: the program's own, or a branch."""

    path: str  # "" for the program's own; "/2.0" is branch 0 of its second draw or fork
    written: tuple[Span, ...]  # what was appended on this state itself
    variables: Mapping[str, object]
    infos: Mapping[str, Info] = field(repr=False)  # how each variable came about
    usage: Usage  # of this state alone
    branches: "tuple[FinishedState, ...]" = ()

    @property
    def text(self) -> str:
        """What was appended on this state; a branch's begins at its fork."""
        return "".join(span.text for span in self.written)

    def walk(self) -> "Iterator[FinishedState]":
        """This state and all under it, parents first."""
        yield self
        for branch in self.branches:
            yield from branch.walk()


@dataclass(frozen=True, slots=True)
class Finished:
    """The outcome of a run."""

    value: Any  # what the program returned; without a return, its variables
    graph: Graph = field(repr=False)  # every node it came to
    root: FinishedState = field(repr=False)

    def __getitem__(self, name: str) -> object:
        """The value of a variable on the program's own state."""
        if name not in self.root.variables:
            raise UnknownVariable(name, self.root.variables)
        return self.root.variables[name]

    def info(self, name: str) -> Info:
        """How a variable of the program's own state came about: log-probabilities, the options'
        probabilities, and so on."""
        if name not in self.root.infos:
            raise UnknownVariable(name, self.root.infos)
        return self.root.infos[name]

    @property
    def text(self) -> str:
        """All text of the program's own state."""
        return self.root.text

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from ramet.runtime.report_html import html_tree  # only a notebook needs it

        return html_tree(self)

    @property
    def usage(self) -> Usage:
        """Of all states together."""
        total = Usage()
        for state in self.root.walk():
            total.add(state.usage)
        return total


def state_of(context: Context) -> FinishedState:
    """A state with its branches, as a record."""
    return FinishedState(
        path=context.path,
        written=tuple(context.written),
        variables=dict(context.values),
        infos=dict(context.infos),
        usage=context.usage,
        branches=tuple(map(state_of, context.children)),
    )
