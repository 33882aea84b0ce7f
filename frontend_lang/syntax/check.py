"""Finds the mistakes that a tree shows without being run: names, types, settings, roles, calls.

Every mistake is noted at the source. What only a run can know is left to the run.
"""

import keyword
from collections.abc import Mapping

from ramet.errors import Span, near_miss
from ramet.laws import MAX_BRANCHES
from ramet.nodes import SCORE_ATTRIBUTES, SELECT_ATTRIBUTES, TYPES, Role
from ramet.syntax import tree
from ramet.syntax.check_expressions import Expressions
from ramet.syntax.check_settings import Settings
from ramet.syntax.evaluate import constant
from ramet.syntax.kinds import (
    ANY,
    Anything,
    Branches,
    Generated,
    Kind,
    Names,
    OneBranch,
    bound_in,
    changed,
    joined,
)
from ramet.syntax.source import Source
from ramet.syntax.tree import Block, Expr


def check(module: tree.Module, source: Source) -> None:
    """Note every mistake of the tree at the source."""
    programs: dict[str, tree.Program] = {}
    for program in module.programs:
        if program.name in programs:
            source.mistake(program.span, f"there is a program {program.name!r} already")
        programs.setdefault(program.name, program)
    for program in module.programs:
        _Checker(program, programs, source).check()
    _check_recursion(programs, source)


class _Checker:
    """Goes through one program in its order."""

    def __init__(
        self, program: tree.Program, programs: Mapping[str, tree.Program], source: Source
    ) -> None:
        self._program = program
        self._programs = programs
        self._source = source
        self._expressions = Expressions(source, programs)
        self._settings = Settings(source, self._expressions)

    def _kind(self, expr: Expr, names: Names) -> Kind:
        return self._expressions.kind(expr, names)

    def check(self) -> None:
        names: dict[str, Kind] = {}
        optional = False
        for parameter in self._program.parameters:
            self._parameter(parameter, optional)
            optional = optional or parameter.default is not None
            names[parameter.name] = ANY
        self._block(self._program.body, names, None, on_branch=False)

    def _wrong(self, span: Span, message: str) -> None:
        self._source.mistake(span, message)

    def _parameter(self, parameter: tree.Parameter, optional: bool) -> None:
        if keyword.iskeyword(parameter.name):
            self._wrong(
                parameter.span,
                f"{parameter.name!r} cannot name a parameter: Python could not pass it",
            )
        if parameter.type is not None and parameter.type not in TYPES:
            hint = near_miss(parameter.type, TYPES)
            self._wrong(parameter.span, f"{parameter.type!r} is no type ({', '.join(TYPES)}){hint}")
        if parameter.default is None:
            if optional:
                self._wrong(
                    parameter.span,
                    f"{parameter.name!r} has no default, but a parameter before it has one",
                )
        elif (value := constant(parameter.default)) is None:
            self._wrong(parameter.default.span, "a default is a constant")
        elif parameter.type in _PYTHON and not _fits(value[0], parameter.type):
            self._wrong(
                parameter.default.span, f"the default of {parameter.name!r} is no {parameter.type}"
            )

    # -- statements

    def _block(
        self, block: Block, names: dict[str, Kind], role: Role | None, *, on_branch: bool
    ) -> None:
        """Check the statements; `names` gets what they bind."""
        done = False
        for statement in block:
            if done:
                self._wrong(statement.span, "this is never reached: a return comes before it")
                done = False
            self._statement(statement, names, role, on_branch)
            done = isinstance(statement, tree.Return)

    def _statement(
        self, line: tree.Statement, names: dict[str, Kind], role: Role | None, on_branch: bool
    ) -> None:
        match line:
            case tree.Broken():
                names |= dict.fromkeys(line.names, ANY)
                self._block(line.body, names, role, on_branch=on_branch)
            case tree.TextLine():
                self._kind(line.text, names)
            case tree.Turn():
                if role is not None:
                    self._wrong(line.span, f"the {role} turn is still open; turns do not nest")
                if line.content is not None:
                    self._kind(line.content, names)
                self._block(line.body, names, line.role, on_branch=on_branch)
            case tree.Gen():
                names[line.name] = self._settings.gen(line, names, branches=False)
            case tree.Select():
                self._settings.select(line, names)
                names[line.name] = Generated("a select", SELECT_ATTRIBUTES)
            case tree.Score():
                self._kind(line.of, names)
                names[line.name] = Generated("a score", SCORE_ATTRIBUTES)
            case tree.Fork():
                self._fork(line, names, role)
            case tree.ForkGen():
                own = {**names, line.gen.name: self._settings.gen(line.gen, names, branches=True)}
                self._block(line.body, own, role, on_branch=True)
                names[line.group] = Branches(own)
            case tree.Keep():
                self._keep(line, names)
            case tree.Let():
                names[line.name] = self._kind(line.value, names)
            case tree.If():
                self._if(line, names, role, on_branch)
            case tree.For():
                self._kind(line.over, names)
                names |= dict.fromkeys(line.targets, ANY)
                self._loop(line.body, names, role, on_branch)
            case tree.While():
                self._limit(line.limit, names)
                self._kind(line.condition, names | bound_in(line.body))
                self._loop(line.body, names, role, on_branch)
            case tree.Call():
                self._call(line, names)
            case tree.Return():
                if on_branch:
                    self._wrong(line.span, "a branch cannot return; its names can be read outside")
                if line.value is not None:
                    kind = self._kind(line.value, names)
                    if isinstance(kind, Branches | OneBranch):
                        self._wrong(
                            line.value.span,
                            "a program cannot return a branch; name one of its variables",
                        )
            case tree.Program():
                self._wrong(line.span, "a program stands at the top of the source, not in another")
            case _:
                pass

    def _loop(
        self, body: Block, names: dict[str, Kind], role: Role | None, on_branch: bool
    ) -> None:
        """A name that a turn binds is there in the next one."""
        names |= bound_in(body)
        self._block(body, names, role, on_branch=on_branch)

    def _if(
        self, line: tree.If, names: dict[str, Kind], role: Role | None, on_branch: bool
    ) -> None:
        """A name that one of the arms binds may be there afterwards."""
        after: dict[str, Kind] = {}
        for arm in line.arms:
            self._kind(arm.condition, names)
            own = dict(names)
            self._block(arm.body, own, role, on_branch=on_branch)
            after |= joined(after, changed(names, own))
        if line.otherwise is not None:
            own = dict(names)
            self._block(line.otherwise.body, own, role, on_branch=on_branch)
            after |= joined(after, changed(names, own))
        names |= joined(names, after)

    def _fork(self, line: tree.Fork, names: dict[str, Kind], role: Role | None) -> None:
        self._kind(line.over, names)
        found = constant(line.over)
        if found is not None:
            over = found[0]
            if isinstance(over, bool) or not isinstance(over, int | list):
                self._wrong(line.over.span, "fork takes a whole number, or a list")
            elif (count := over if isinstance(over, int) else len(over)) < 1:
                self._wrong(line.over.span, f"a fork into {count} branches; at least 1 is needed")
            elif count > MAX_BRANCHES:
                most = f"{MAX_BRANCHES:,} is the most"
                self._wrong(line.over.span, f"a fork into {count:,} branches; {most}")
            elif isinstance(over, int) and line.targets:
                self._wrong(line.over.span, f"fork ... in takes a list; write range({over})")
        own: dict[str, Kind] = {**names, **dict.fromkeys(line.targets, ANY)}
        self._block(line.body, own, role, on_branch=True)
        names[line.group] = Branches(own)

    def _keep(self, line: tree.Keep, names: dict[str, Kind]) -> None:
        kind = self._kind(line.branch, names)
        if isinstance(kind, OneBranch):
            names |= kind.names
        elif isinstance(kind, Branches):
            self._wrong(line.branch.span, "keep takes one branch; write which, in brackets")
        elif not isinstance(kind, Anything):
            self._wrong(line.branch.span, "keep takes a branch of a fork")

    def _limit(self, limit: Expr, names: Names) -> None:
        self._kind(limit, names)
        found = constant(limit)
        if found is not None and (isinstance(found[0], bool) or not isinstance(found[0], int)):
            self._wrong(limit.span, "the limit of a while is a whole number")

    # -- calls

    def _call(self, line: tree.Call, names: dict[str, Kind]) -> None:
        for argument in line.arguments:
            self._kind(argument, names)
        for setting in line.named:
            self._kind(setting.value, names)
        if line.to is not None:
            names[line.to] = ANY
        called = self._programs.get(line.program)
        if called is None:
            hint = near_miss(line.program, self._programs)
            self._wrong(line.span, f"there is no program {line.program!r}{hint}")
            return
        if not line.fresh and line.to is not None and not _returns(called):
            self._wrong(
                line.span, f"{line.program} returns nothing to bind; leave out 'as {line.to}'"
            )
        takes = [parameter.name for parameter in called.parameters]
        if len(line.arguments) > len(takes):
            self._wrong(
                line.arguments[len(takes)].span,
                f"{line.program} takes {len(takes)} arguments at most, not {len(line.arguments)}",
            )
        given = set(takes[: len(line.arguments)])
        for setting in line.named:
            if setting.name not in takes:
                hint = near_miss(setting.name, takes)
                self._wrong(setting.span, f"{line.program} has no parameter {setting.name!r}{hint}")
            elif setting.name in given:
                self._wrong(setting.span, f"{setting.name!r} is given already")
            given.add(setting.name)
        missing = [p.name for p in called.parameters if p.default is None and p.name not in given]
        if missing and given <= set(takes):  # else a name is misspelled, which is told
            self._wrong(line.span, f"{line.program} needs {', '.join(map(repr, missing))} as well")


_PYTHON: dict[str | None, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "map": (dict,),
}


def _fits(value: object, type: str | None) -> bool:
    allowed = _PYTHON.get(type, (object,))
    return isinstance(value, allowed) and (not isinstance(value, bool) or type in ("bool", None))


def _check_recursion(programs: Mapping[str, tree.Program], source: Source) -> None:
    """Programs that call each other in a circle would never end."""
    done: set[str] = set()
    for name in programs:
        _follow(name, programs, done, source)


def _follow(
    begin: str, programs: Mapping[str, tree.Program], done: set[str], source: Source
) -> None:
    path: list[str] = [begin]
    left = [_calls(programs[begin])] if begin not in done else []
    while left:
        if not left[-1]:
            left.pop()
            done.add(path.pop())
            continue
        call = left[-1].pop()
        if call.program in path:
            circle = [*path[path.index(call.program) :], call.program]
            source.mistake(call.span, f"programs call each other in a circle: {' → '.join(circle)}")
        elif call.program in programs and call.program not in done:
            path.append(call.program)
            left.append(_calls(programs[call.program]))


def _returns(program: tree.Program) -> bool:
    """Whether it may return something; a mistake in it may stand where it does."""
    return any(isinstance(node, tree.Return | tree.Broken) for node, _ in tree.walk(program))


def _calls(program: tree.Program) -> list[tree.Call]:
    """Its calls, the last one first."""
    found = [node for node, _ in tree.walk(program) if isinstance(node, tree.Call)]
    return sorted(found, key=lambda call: (call.span.line, call.span.column), reverse=True)
