"""What a program appends to a state: text, generations, choices, turns. Data only."""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import fields
from typing import Any

from ramet.compat.sglang.sampling import SglSamplingParams


class SglExpr:
    """Something that can be appended; `+` makes lists of them, also with strings."""

    def __add__(self, other: Any) -> "SglExprList":
        return SglExprList([*_parts(self), *_parts(other)])

    def __radd__(self, other: Any) -> "SglExprList":
        return SglExprList([*_parts(other), *_parts(self)])

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__.removeprefix('Sgl')}({shown})"


def _parts(expr: Any) -> list[SglExpr]:
    expr = SglConstantText(expr) if isinstance(expr, str) else expr
    assert isinstance(expr, SglExpr), f"{expr!r} is neither text nor an expression"
    return expr.expr_list if isinstance(expr, SglExprList) else [expr]


class SglExprList(SglExpr):
    def __init__(self, expr_list: Iterable[SglExpr]) -> None:
        self.expr_list = list(expr_list)


class SglConstantText(SglExpr):
    def __init__(self, value: str) -> None:
        self.value = value


class SglGen(SglExpr):
    """A generation; settings that are None follow the run."""

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.name = name
        self.sampling_params = SglSamplingParams.unset(**settings)
        self.apart: SglSeparateReasoning | None = None  # takes the reasoning out of its text

    def __repr__(self) -> str:
        given = {f.name: getattr(self.sampling_params, f.name) for f in fields(SglSamplingParams)}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Gen({', '.join([repr(self.name), *shown])})"


class SglSelect(SglExpr):
    def __init__(
        self, name: str | None, choices: Sequence[str], temperature: float, choices_method: Any
    ) -> None:
        self.name = name
        self.choices = list(choices)
        self.temperature = temperature
        self.choices_method = choices_method


class SglRoleBegin(SglExpr):
    def __init__(self, role: str) -> None:
        self.role = role


class SglRoleEnd(SglExpr):
    def __init__(self, role: str) -> None:
        self.role = role


class SglVarScopeBegin(SglExpr):
    def __init__(self, name: str) -> None:
        self.name = name


class SglVarScopeEnd(SglExpr):
    def __init__(self, name: str) -> None:
        self.name = name


class SglVariable(SglExpr):
    """A variable of a state, by name; a fork or another program may append it."""

    def __init__(self, name: str, source: Any) -> None:
        self.name = name
        self.source = source  # what has a `get_var`


class SglCommitLazy(SglExpr):
    """Tell the backend that this text will be shared."""


class SglConcateAndAppend(SglExpr):
    """The texts that these states wrote since their fork."""

    def __init__(self, states: Sequence[Any]) -> None:
        self.states = states


class SglSeparateReasoning(SglExpr):
    """The reasoning in what `expr` generates goes into a variable of its own."""

    def __init__(self, model_type: str | None, expr: SglExpr) -> None:
        self.model_type = model_type
        self.name = generated_name(expr)
        if self.name is None:
            raise ValueError("separate_reasoning needs a gen with a name")

    @property
    def reasoning(self) -> str:
        """The variable it goes into."""
        return f"{self.name}_reasoning_content"

    def around(self, expr: Any) -> Any:
        """A copy of the expression whose generation is parted by this."""
        if isinstance(expr, SglExprList):
            return SglExprList(map(self.around, expr.expr_list))
        if isinstance(expr, SglGen) and expr.name == self.name:
            expr = copy(expr)
            expr.apart = self
        return expr


class SglImage(SglExpr):
    def __init__(self, path: Any) -> None:
        self.path = path


class SglVideo(SglExpr):
    def __init__(self, path: Any, num_frames: int) -> None:
        self.path = path
        self.num_frames = num_frames


def generated_name(expr: Any) -> str | None:
    """The name of the first generation in an expression."""
    if isinstance(expr, SglExprList):
        return next(filter(None, map(generated_name, expr.expr_list)), None)
    return expr.name if isinstance(expr, SglGen) else None


def text_or_expr(given: Any) -> SglExpr:
    """A string as an expression; an expression as it is."""
    return SglConstantText(given) if isinstance(given, str) else given
