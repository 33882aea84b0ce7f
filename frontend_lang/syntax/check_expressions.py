"""Finds the mistakes in an expression: unknown names, attributes and functions."""

from collections.abc import Collection

from ramet.errors import Span, near_miss
from ramet.nodes import GEN_ATTRIBUTES
from ramet.syntax import tree
from ramet.syntax.functions import FUNCTIONS
from ramet.syntax.kinds import ANY, Branches, Generated, Kind, Names, OneBranch, Parsed
from ramet.syntax.source import Source
from ramet.syntax.tokens import STATEMENTS
from ramet.syntax.tree import Expr


class Expressions:
    """Checks expressions of one source, which has these programs."""

    def __init__(self, source: Source, programs: Collection[str]) -> None:
        self._source = source
        self._programs = programs

    def _wrong(self, span: Span, message: str) -> None:
        self._source.mistake(span, message)

    def kind(self, expr: Expr, names: Names) -> Kind:
        """Check an expression; the kind of value that it has."""
        match expr:
            case tree.Name():
                return self._name(expr, names)
            case tree.Attribute():
                return self._attribute(expr, self.kind(expr.of, names))
            case tree.Index():
                of = self.kind(expr.of, names)
                self.kind(expr.key, names)
                return OneBranch(of.names) if isinstance(of, Branches) else ANY
            case tree.Slice():
                of = self.kind(expr.of, names)
                for bound in (expr.start, expr.stop, expr.step):
                    if bound is not None:
                        self.kind(bound, names)
                return of if isinstance(of, Branches) else ANY
            case tree.Comprehension():
                of = self.kind(expr.source, names)
                item = OneBranch(of.names) if isinstance(of, Branches) else ANY
                inner = {**names, **dict.fromkeys(expr.targets, item)}
                if expr.condition is not None:
                    self.kind(expr.condition, inner)
                self.kind(expr.item, inner)
                return ANY
            case tree.Function():
                self._function(expr, names)
                return ANY
            case _:
                for child in tree.children(expr):
                    self.kind(child, names)  # pyright: ignore[reportArgumentType]
                return ANY

    def _name(self, expr: tree.Name, names: Names) -> Kind:
        if expr.id in names:
            return names[expr.id]
        instead = {"True": "true", "False": "false", "None": "none", "null": "none"}.get(expr.id)
        if instead is not None:
            hint = f"; did you mean {instead!r}?"
        elif expr.id in FUNCTIONS:
            hint = f"; the function {expr.id} needs parentheses"
        else:
            hint = near_miss(expr.id, names)
        self._wrong(expr.span, f"unknown variable {expr.id!r}{hint}")
        return ANY

    def _attribute(self, expr: tree.Attribute, of: Kind) -> Kind:
        match of:
            case Generated(what, attributes) if expr.name not in attributes:
                hint = near_miss(expr.name, attributes)
                self._wrong(
                    expr.span,
                    f"{what} has no attribute {expr.name!r} ({', '.join(attributes)}){hint}",
                )
            case Parsed(keys) if expr.name in keys and expr.name in GEN_ATTRIBUTES:
                self._wrong(
                    expr.span,
                    f"every gen has an attribute {expr.name!r}; "
                    f'write ["{expr.name}"] for the key of that name',
                )
            case Branches(names) | OneBranch(names):
                if expr.name not in names:
                    hint = near_miss(expr.name, names)
                    self._wrong(expr.span, f"the branches have no variable {expr.name!r}{hint}")
                elif isinstance(of, OneBranch):
                    return names[expr.name]
                elif isinstance(inner := names[expr.name], Generated | Parsed | Branches):
                    return inner
            case _:
                pass
        return ANY

    def _function(self, expr: tree.Function, names: Names) -> None:
        for child in (*expr.arguments, *(setting.value for setting in expr.named)):
            self.kind(child, names)
        function = FUNCTIONS.get(expr.name)
        if function is None:
            if expr.name in self._programs:
                hint = f"; a program is called by a line: `call {expr.name}(...) as result`"
            elif expr.name in names:
                hint = f"; {expr.name!r} is a variable"
            elif expr.name in STATEMENTS:
                hint = f"; {expr.name} begins a line of its own"
            else:
                hint = near_miss(expr.name, FUNCTIONS)
            self._wrong(expr.span, f"there is no function {expr.name!r}{hint}")
            return
        if expr.named:
            self._wrong(expr.named[0].span, f"{expr.name} takes no named arguments")
        count = len(expr.arguments)
        most = count if function.most is None else function.most
        if not expr.named and not function.least <= count <= most:
            self._wrong(expr.span, f"{expr.name} takes {function.says}; {count} given")
