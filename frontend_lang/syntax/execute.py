"""Runs the statements of a program on a state, as the body of an embedded program would.

Knows states and expressions, no engine: what waits does so inside the recorder. What it records is
what the same program in Python records.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ramet.callsite import placed
from ramet.errors import EvaluationError, LanguageError, ParameterError, Span
from ramet.expressions import Generation, Turn, select
from ramet.params import SamplingParams
from ramet.program import Program
from ramet.state import Branches, State
from ramet.syntax import tree
from ramet.syntax.evaluate import Evaluator
from ramet.syntax.functions import MAX_ITEMS
from ramet.syntax.scope import BranchNames, BranchOf, Group, Names
from ramet.syntax.tree import Block, Expr, Setting
from ramet.types import Type, choice_type, json_type

Programs = Mapping[str, Program[..., Any]]


@dataclass(frozen=True, slots=True)
class Unit:
    """The program that a block belongs to."""

    programs: Programs  # those of its source, which it can call
    keeps: bool  # whether one of its statements keeps a branch


@dataclass(frozen=True, slots=True)
class Returned:
    """The block came to a `return`."""

    value: Any


class Frame:
    """A block on its way: a state, the names of it, and the program it is a part of."""

    def __init__(self, state: State, names: Names, unit: Unit) -> None:
        self.state = state
        self.names = names
        self.unit = unit
        self.meter = state.recorder.meter
        self.evaluator = Evaluator(names, self.meter)

    def run(self, block: Block) -> Returned | None:
        """The statements one after the other; what was returned, if anything was."""
        for statement in block:
            with placed(statement.span):
                returned = _RUN[type(statement)](self, statement)
            if returned is not None:
                return returned
        return None

    # -- one method for each kind of statement

    def _text(self, line: tree.TextLine) -> None:
        self.state += self.evaluator.text(line.text)

    def _turn(self, turn: tree.Turn) -> Returned | None:
        if turn.content is not None:
            self.state += Turn(turn.role, self.evaluator.text(turn.content))
            return None
        with self.state.turn(turn.role):
            return self.run(turn.body)

    def _gen(self, line: tree.Gen) -> None:
        self.state += self._generation(line)
        self.names[line.name] = self.state[line.name]

    def _generation(self, line: tree.Gen) -> Generation:
        settings = self._settings(line.settings)
        kind = None if line.type is None else self._type(line.type)
        try:
            return Generation(line.name, SamplingParams.from_dict(settings), kind)
        except ParameterError as error:
            raise error.at(_place(error.field, line.settings, line.span)) from None

    def _type(self, kind: tree.TypeOf) -> Type | None:
        if kind.argument is None:
            return None if kind.name == "str" else Type(kind.name)  # pyright: ignore[reportArgumentType]
        source = self.evaluator.settled(kind.argument)
        try:
            if kind.name == "json":
                return json_type(source)
            if kind.name == "choice":
                return choice_type(source)
            if not isinstance(source, str):
                raise EvaluationError(f"{kind.name} takes a text", kind.argument.span)
            return Type(kind.name, source)  # pyright: ignore[reportArgumentType]
        except ParameterError as error:
            raise error.at(kind.argument.span) from None

    def _settings(self, settings: tuple[Setting, ...]) -> dict[str, Any]:
        return {each.name: self.evaluator.settled(each.value) for each in settings}

    def _select(self, line: tree.Select) -> None:
        options = self.evaluator.settled(line.options)
        try:
            self.state += select(line.name, options, **self._settings(line.settings))
        except ParameterError as error:
            raise error.at(_place(error.field, line.settings, line.span)) from None
        self.names[line.name] = self.state[line.name]

    def _score(self, line: tree.Score) -> None:
        self.names[line.name] = self.state.score(line.name, self.evaluator.text(line.of))

    def _fork(self, line: tree.Fork) -> None:
        over = self.evaluator.value(line.over)
        if isinstance(over, Group):
            over = over.branches
        if not isinstance(over, list):
            over = self.evaluator.plain(over, line.over.span)
        if isinstance(over, int) and not isinstance(over, bool):
            self.meter.limits.hold("branches", over, line.span)

        def begin(frame: Frame, item: Any) -> None:
            if line.targets:
                frame.evaluator.bind(line.targets, item, line.over.span)

        self._branch(self.state.fork(over), line.group, line.body, begin)

    def _fork_gen(self, line: tree.ForkGen) -> None:
        name = line.gen.name

        def begin(frame: Frame, item: Any) -> None:
            frame.names[name] = frame.state[name]

        branches = self.state.branch(self._generation(line.gen))
        self._branch(branches, line.group, line.body, begin)

    def _branch(
        self,
        branches: Branches,
        group: str,
        body: Block,
        begin: Callable[["Frame", Any], None],
    ) -> None:
        """Run the block on every branch, each with names of its own.

        The group has the states only if the program can keep one; else they are let go when the
        blocks are through, and what they hold goes back.
        """
        made = [
            BranchOf(state if self.unit.keeps else None, BranchNames(self.names))
            for state in branches
        ]
        names = {id(state): each.names for state, each in zip(branches, made, strict=True)}

        def run(state: State, item: Any) -> None:
            frame = Frame(state, names[id(state)], self.unit)
            begin(frame, item)
            frame.run(body)

        branches.each(run)
        self.names[group] = Group(made)

    def _keep(self, line: tree.Keep) -> None:
        branch = self.evaluator.value(line.branch)
        if not isinstance(branch, BranchOf) or branch.state is None:
            raise EvaluationError("keep takes one branch of a fork", line.branch.span)
        self.state.keep(branch.state)
        for name, value in branch.names.bound.items():
            self.names[name] = value  # one by one: a branch notes what it binds

    def _let(self, line: tree.Let) -> None:
        self.names[line.name] = self.evaluator.value(line.value)

    def _if(self, line: tree.If) -> Returned | None:
        for arm in line.arms:
            with placed(arm.span):
                if self.evaluator.truth(arm.condition):
                    return self.run(arm.body)
        return self.run(line.otherwise.body) if line.otherwise is not None else None

    def _for(self, line: tree.For) -> Returned | None:
        for item in list(self.evaluator.each(line.over)):
            self.meter.step(line.span)
            self.evaluator.bind(line.targets, item, line.over.span)
            if (returned := self.run(line.body)) is not None:
                return returned
        return None

    def _while(self, line: tree.While) -> Returned | None:
        limit = self.evaluator.settled(line.limit)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise EvaluationError("the limit of a while is a whole number", line.limit.span)
        for _ in range(limit):
            if not self.evaluator.truth(line.condition):
                return None
            self.meter.step(line.span)
            if (returned := self.run(line.body)) is not None:
                return returned
        return None

    def _call(self, line: tree.Call) -> None:
        program = self.unit.programs[line.program]
        arguments = [self.evaluator.value(each) for each in line.arguments]
        named = {each.name: self.evaluator.value(each.value) for each in line.named}
        run = program.call if line.fresh else program
        try:
            result = run(self.state, *arguments, **named)
        except LanguageError as error:
            raise error.at(line.span) from None
        if line.to is not None:
            self.names[line.to] = result

    def _return(self, line: tree.Return) -> Returned:
        return Returned(None if line.value is None else self._result(line.value))

    def _result(self, expr: Expr) -> Any:
        """The value, in which something may be lazy; a branch may not. All that is in it counts."""
        value = self.evaluator.value(expr)
        left, count = [value], 0
        while left:
            item = left.pop()
            if isinstance(item, Group | BranchOf):
                raise EvaluationError(
                    "a program cannot return a branch; name one of its variables", expr.span
                )
            if isinstance(item, str):
                self.meter.made(len(item), expr.span)
            inner = item.values() if isinstance(item, dict) else item  # pyright: ignore[reportUnknownVariableType]
            if isinstance(item, dict | list | tuple):
                self.meter.made(len(item), expr.span)  # pyright: ignore[reportUnknownArgumentType]
                count += len(item)  # pyright: ignore[reportUnknownArgumentType]
                if count > MAX_ITEMS:
                    raise EvaluationError(
                        f"a program returns at most {MAX_ITEMS:,} items in all", expr.span
                    )
                left += inner
        return value


def _place(name: str, settings: tuple[Setting, ...], otherwise: Span) -> Span:
    """Where the setting of that name stands."""
    return next((each.value.span for each in settings if each.name == name), otherwise)


_RUN: dict[type[tree.Statement], Callable[[Frame, Any], Returned | None]] = {
    tree.TextLine: Frame._text,
    tree.Turn: Frame._turn,
    tree.Gen: Frame._gen,
    tree.Select: Frame._select,
    tree.Score: Frame._score,
    tree.Fork: Frame._fork,
    tree.ForkGen: Frame._fork_gen,
    tree.Keep: Frame._keep,
    tree.Let: Frame._let,
    tree.If: Frame._if,
    tree.For: Frame._for,
    tree.While: Frame._while,
    tree.Call: Frame._call,
    tree.Return: Frame._return,
}
