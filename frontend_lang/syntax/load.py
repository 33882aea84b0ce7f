"""Source to programs that run: parsed, checked, and given a body that executes the tree."""

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, TypeAlias

from ramet.errors import LanguageError, near_miss
from ramet.limits import Limits
from ramet.program import Program
from ramet.state import State
from ramet.syntax import tree
from ramet.syntax.blocks import LIMITS, parse_source
from ramet.syntax.bounds import Bound, bound_of
from ramet.syntax.check import check
from ramet.syntax.evaluate import constant
from ramet.syntax.execute import Frame, Unit
from ramet.syntax.printer import print_module
from ramet.syntax.source import Source
from ramet.syntax.tree import Module


class TextProgram(Program[..., Any]):
    """A program in text: pure, and its tree can be asked for bounds."""

    def __init__(self, tree: tree.Program, module: Module) -> None:
        super().__init__(_body(tree, module), tree.name, pure=True)
        self.tree = tree
        self._module = module

    @property
    def source(self) -> str:
        """All programs of its file, in canonical text."""
        return print_module(Module(self._module.programs))

    def most(self, **arguments: Any) -> Bound:
        """What a run can take at most, whatever it will see; arguments may be left out."""
        trees = {each.name: each for each in self._module.programs}
        return bound_of(self.tree, trees, self._bound | arguments)


Library: TypeAlias = dict[str, TextProgram]


def load(path: str | Path, name: str | None = None, *, limits: Limits = LIMITS) -> TextProgram:
    """The program of that name in a file, or its last one.

    Raises:
        SourceError: the file has mistakes; all of them are in it.
        LimitError: it is too long, nests too deeply, or has too many statements.
        OSError: the file cannot be read.
    """
    return loads(read_source(path), name, file=str(path), limits=limits)


def loads(
    text: str, name: str | None = None, *, file: str = "<string>", limits: Limits = LIMITS
) -> TextProgram:
    """As `load`, from a string; `file` is what errors call it."""
    programs = library(text, file=file, limits=limits)
    if name is None:
        return [*programs.values()][-1]
    if name not in programs:
        raise LanguageError(f"{file} has no program {name!r}{near_miss(name, programs)}")
    return programs[name]


def library(text: str, *, file: str = "<string>", limits: Limits = LIMITS) -> Library:
    """Every program of a source by name, in its order."""
    return programs_of(checked(text, file=file, limits=limits))


def checked(text: str, *, file: str = "<string>", limits: Limits = LIMITS) -> Module:
    """The tree of a source without mistakes; raises as `load`."""
    source = Source(text, file)
    module = parse_source(source, limits)
    check(module, source)
    source.check()
    return module


def read_source(path: str | Path) -> str:
    """The text of a file, without a byte order mark; `LanguageError` if it is no UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LanguageError(f"{path} is no UTF-8 text: byte {error.start} is wrong") from None


def programs_of(module: Module) -> Library:
    """Every program of a checked tree by name."""
    return {each.name: TextProgram(each, module) for each in module.programs}


class _Called(dict[str, Program[..., Any]]):
    """The programs that another one calls, each made when it is called first: none refers to
    whoever calls it, so that all of them go when nobody has them any more."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Program[..., Any]:
        found = next(each for each in self._module.programs if each.name == name)
        self[name] = TextProgram(found, self._module)
        return self[name]


def _body(program: tree.Program, module: Module) -> Callable[..., Any]:
    names = [parameter.name for parameter in program.parameters]
    keeps = any(isinstance(node, tree.Keep) for node, _ in tree.walk(program))
    unit = Unit(_Called(module), keeps)

    def body(state: State, /, *arguments: Any) -> Any:
        given = dict(zip(names, arguments, strict=True))
        returned = Frame(state, given, unit).run(program.body)
        return None if returned is None else returned.value

    body.__name__ = body.__qualname__ = program.name
    body.__doc__ = "\n".join(comment.lstrip("# ") for comment in program.trivia.lead) or None
    state = next(name for name in ("s", "state", "_") if name not in names)
    parameters = [
        Parameter(state, Parameter.POSITIONAL_OR_KEYWORD),
        *map(_parameter, program.parameters),
    ]
    body.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return body


def _parameter(parameter: tree.Parameter) -> Parameter:
    known = None if parameter.default is None else constant(parameter.default)
    return Parameter(
        parameter.name,
        Parameter.POSITIONAL_OR_KEYWORD,
        default=Parameter.empty if known is None else known[0],
        annotation=_ANNOTATIONS.get(parameter.type, Parameter.empty),
    )


_ANNOTATIONS: dict[str | None, type] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list,
    "map": dict,
}
