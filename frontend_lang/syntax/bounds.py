"""The most that any run of a program in text can take, where a trace cannot know what it will do.

Loops count to their limits, of the arms of an `if` the dearest; what is not known before a run and
has no limit of its own has no bound. Runs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ramet.errors import LanguageError, LimitError
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.params import SamplingParams
from ramet.syntax import tree
from ramet.syntax.evaluate import Evaluator
from ramet.syntax.kinds import bound_in
from ramet.syntax.scope import Names
from ramet.syntax.tree import Block, Expr

MAX_VISITS = 20_000
"""Statements that are looked at; a program that takes more has no bound."""


@dataclass(frozen=True, slots=True)
class Bound:
    """At most this much in one run; None: nobody can say."""

    generated: int | None = 0  # tokens drawn, those of every sample and beam
    branches: int | None = 0  # begun, calls too
    turns: int | None = 0  # of loops

    def __add__(self, other: "Bound") -> "Bound":
        return self._each(other, _plus)

    def __or__(self, other: "Bound") -> "Bound":
        """Whichever is more."""
        return self._each(other, _more)

    def times(self, count: int | None) -> "Bound":
        return self._each(Bound(count, count, count), _times)

    def _each(self, other: "Bound", combine: Callable[..., int | None]) -> "Bound":
        return Bound(
            combine(self.generated, other.generated),
            combine(self.branches, other.branches),
            combine(self.turns, other.turns),
        )


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _more(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else max(a, b)


def _times(a: int | None, b: int | None) -> int | None:
    if a == 0 or b == 0:
        return 0
    return None if a is None or b is None else a * b


NOTHING = Bound()
UNKNOWN = Bound(None, None, None)


def bound_of(
    program: tree.Program,
    programs: Mapping[str, tree.Program],
    arguments: Mapping[str, Any],
) -> Bound:
    """The bound of a checked program with these arguments; those left out are not known."""
    return _Walk(programs).program(program, arguments, set())


class _Walk:
    def __init__(self, programs: Mapping[str, tree.Program]) -> None:
        self._programs = programs
        self._visits = 0
        self._meter = Meter(Limits(steps=10_000, made=1_000_000))
        self._spent = False  # once the meter is full, nothing more is computed

    def program(
        self, program: tree.Program, arguments: Mapping[str, Any], unknown: set[str]
    ) -> Bound:
        """With these arguments; of those in `unknown` only that they are given is known."""
        names: Names = {}
        for parameter in program.parameters:
            if parameter.name in arguments:
                names[parameter.name] = arguments[parameter.name]
            elif parameter.default is not None and parameter.name not in unknown:
                known = self._known(parameter.default, {})
                names |= {} if known is None else {parameter.name: known[0]}
        return self._block(program.body, names)

    def _block(self, block: Block, names: Names) -> Bound:
        total = NOTHING
        for line in block:
            self._visits += 1
            if self._visits > MAX_VISITS:
                return UNKNOWN
            total += self._line(line, names)
        return total

    def _line(self, line: tree.Statement, names: Names) -> Bound:
        match line:
            case tree.Turn(body=body):
                return self._block(body, names)
            case tree.Gen():
                names.pop(line.name, None)
                return self._gen(line, names)
            case tree.Select(name=name) | tree.Score(name=name):
                names.pop(name, None)
                return NOTHING
            case tree.Fork():
                return self._fork(line, names)
            case tree.ForkGen():
                count = self._most(line.gen, ("n", "beams"), names)
                own = {n: v for n, v in names.items() if n != line.gen.name}
                each = self._block(line.body, own).times(count)
                names.pop(line.group, None)
                return self._gen(line.gen, names) + Bound(0, count, 0) + each
            case tree.Let(name=name, value=value):
                known = self._known(value, names)
                names.pop(name, None)
                if known is not None:
                    names[name] = known[0]
                return NOTHING
            case tree.If():
                return self._if(line, names)
            case tree.For():
                return self._for(line, names)
            case tree.While():
                self._forget(names, line.body)
                turns = self._whole(line.limit, names)
                if self._known(line.condition, names) == (False,):
                    turns = 0
                return (self._block(line.body, dict(names)) + Bound(0, 0, 1)).times(turns)
            case tree.Keep():
                names.clear()  # whatever the branch bound stands for them now
                return NOTHING
            case tree.Call():
                return self._call(line, names)
            case _:
                return NOTHING

    def _gen(self, line: tree.Gen, names: Names) -> Bound:
        tokens = self._setting(line, "max_tokens", names)
        count = self._most(line, ("n", "best_of", "beams"), names)
        if tokens is None or count is None:
            return Bound(None, 0, 0)
        return Bound(tokens * count, 0, 0)

    def _most(self, line: tree.Gen, settings: Sequence[str], names: Names) -> int | None:
        """The largest of these settings."""
        known = [self._setting(line, name, names) for name in settings]
        found = [each for each in known if each is not None]
        return max(found) if len(found) == len(known) else None

    def _setting(self, line: tree.Gen, name: str, names: Names) -> int | None:
        for setting in line.settings:
            if setting.name == name:
                return self._whole(setting.value, names)
        return getattr(SamplingParams(), name)

    def _fork(self, line: tree.Fork, names: Names) -> Bound:
        items = self._items(line.over, names)
        own = {n: v for n, v in names.items() if n not in line.targets}
        names.pop(line.group, None)
        return self._block(line.body, own).times(items) + Bound(0, items, 0)

    def _if(self, line: tree.If, names: Names) -> Bound:
        """The arm that is taken, if it is known; else the dearest."""
        dearest = NOTHING
        for arm in line.arms:
            known = self._known(arm.condition, names)
            if known is not None and known[0]:
                dearest |= self._block(arm.body, dict(names))
                break
            if known is None:
                dearest |= self._block(arm.body, dict(names))
        else:
            if line.otherwise is not None:
                dearest |= self._block(line.otherwise.body, dict(names))
        for arm in line.arms:
            self._forget(names, arm.body)
        self._forget(names, line.otherwise.body if line.otherwise is not None else ())
        return dearest

    def _for(self, line: tree.For, names: Names) -> Bound:
        turns = self._items(line.over, names)
        self._forget(names, line.body)
        for target in line.targets:
            names.pop(target, None)
        return (self._block(line.body, dict(names)) + Bound(0, 0, 1)).times(turns)

    def _call(self, line: tree.Call, names: Names) -> Bound:
        called = self._programs[line.program]
        given = {p.name: v for p, v in zip(called.parameters, line.arguments, strict=False)}
        given |= {setting.name: setting.value for setting in line.named}
        known = {name: self._known(value, names) for name, value in given.items()}
        if line.to is not None:
            names.pop(line.to, None)
        arguments = {name: value[0] for name, value in known.items() if value is not None}
        inner = self.program(called, arguments, set(given) - set(arguments))
        return inner + Bound(0, 1 if line.fresh else 0, 0)

    # -- what is known

    def _forget(self, names: Names, block: Block) -> None:
        for name in bound_in(block):
            names.pop(name, None)

    def _known(self, expr: Expr, names: Names) -> tuple[Any] | None:
        """The value in a tuple, if it can be known."""
        if self._spent:
            return None
        try:
            return (Evaluator(names, self._meter).settled(expr),)
        except LimitError:
            self._spent = True
        except LanguageError:
            pass
        return None

    def _whole(self, expr: Expr, names: Names) -> int | None:
        known = self._known(expr, names)
        whole = known is not None and isinstance(known[0], int) and not isinstance(known[0], bool)
        return known[0] if known is not None and whole else None

    def _items(self, expr: Expr, names: Names) -> int | None:
        known = self._known(expr, names)
        if known is None:
            return None
        return len(known[0]) if isinstance(known[0], list | str | dict) else known[0]
