"""Expressions to values. A name or an interpolated text stays lazy; whatever computes waits.

Knows no statement. Every error is an `EvaluationError` at the place of the expression.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from ramet.callsite import placed
from ramet.errors import EvaluationError, Span, near_miss
from ramet.expressions import Expression, Sum, Term
from ramet.limits import Limits
from ramet.meter import Meter
from ramet.syntax import tree
from ramet.syntax.functions import (
    FUNCTIONS,
    Refused,
    bounded,
    hold_text,
    items,
    named,
    number,
    text,
    whole,
    written,
)
from ramet.syntax.operators import ARITHMETIC, COMPARE
from ramet.syntax.scope import BranchOf, Group, Names, Row, looked, settled, written_out
from ramet.syntax.tree import Expr
from ramet.values import Value, attributes, is_part, is_text


class Evaluator:
    """Computes expressions over some names; `meter` counts what that takes."""

    def __init__(self, names: Names, meter: Meter) -> None:
        self.names = names
        self._meter = meter

    def value(self, expr: Expr) -> Any:
        """What the expression stands for; names, attributes and texts may be lazy."""
        try:
            return _EVALUATE[type(expr)](self, expr)
        except Refused as refused:
            raise EvaluationError(str(refused), expr.span) from None
        except RecursionError:
            raise EvaluationError("the value nests too deeply", expr.span) from None
        except OverflowError:
            raise EvaluationError("the result is too large", expr.span) from None

    def settled(self, expr: Expr) -> Any:
        """The value itself, after waiting for it if need be."""
        return self.plain(self.value(expr), expr.span)

    def plain(self, value: Any, span: Span) -> Any:
        """What the value is, after waiting for it if need be."""
        return settled(value, span, self._meter)

    def text(self, expr: Expr) -> Term:
        """The value as a text to append: a generated text stays lazy."""
        return self._spelled(self.value(expr), expr.span)

    def truth(self, expr: Expr) -> bool:
        return bool(self.settled(expr))

    def bind(self, targets: Sequence[str], item: Any, span: Span) -> None:
        """Bind the target to the item, or several of them to the items of a list."""
        if len(targets) == 1:
            self.names[targets[0]] = item
            return
        row = self.plain(item, span)
        if not isinstance(row, list) or len(row) != len(targets):  # pyright: ignore[reportUnknownArgumentType]
            raise EvaluationError(f"each item has to be a list of {len(targets)}", span)
        for target, each in zip(targets, row, strict=True):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            self.names[target] = each

    # -- one method for each kind of expression

    def _literal(self, expr: tree.Literal) -> Any:
        return expr.value

    def _template(self, expr: tree.Template) -> Term:
        terms: list[Term] = []
        for part in expr.parts:
            found = part if isinstance(part, str) else self.text(part)
            terms += found.terms if isinstance(found, Sum) else (found,)
        return self._made(joined(terms), expr.span)

    def _made(self, value: Any, span: Span) -> Any:
        """The value, if it is not too large; counted."""
        if isinstance(value, Sum):
            size = _size(value.terms)
        else:
            size = len(value) if isinstance(bounded(value), str | list | dict) else 0
        self._meter.made(size, span)
        return value

    def _spelled(self, value: Any, span: Span) -> Term:
        if isinstance(value, Value) and is_part(value):
            return value
        if isinstance(value, Sum):
            return value
        if isinstance(value, Group | BranchOf):
            raise EvaluationError("a branch is no text; name one of its variables", span)
        try:
            return bounded(written(self.plain(value, span)))
        except Refused as refused:
            raise EvaluationError(str(refused), span) from None

    def _name(self, expr: tree.Name) -> Any:
        if expr.id not in self.names:
            hint = near_miss(expr.id, self.names)
            raise EvaluationError(f"{expr.id!r} has no value yet{hint}", expr.span)
        return self.names[expr.id]

    def _attribute(self, expr: tree.Attribute) -> Any:
        return self._of(self.value(expr.of), expr.name, expr.span)

    def _of(self, value: Any, name: str, span: Span) -> Any:
        match value:
            case Value() if name in attributes(value):
                return getattr(value, name)
            case Value():
                with placed(span):
                    return self._of(looked(value), name, span)
            case Group(branches=branches):
                return Row(self._of(branch, name, span) for branch in branches)
            case BranchOf(names=names):
                return self._key(names, name, span, "the branch has no variable")
            case Row():
                return Row(self._of(item, name, span) for item in value)
            case dict():
                return self._key(value, name, span, "the map has no key")
            case _:
                raise EvaluationError(f"{_a(value)} has no attribute {name!r}", span)

    def _key(self, map: dict[str, Any], name: str, span: Span, says: str) -> Any:
        if name not in map:
            raise EvaluationError(f"{says} {name!r}{near_miss(name, map)}", span)
        return map[name]

    def _index(self, expr: tree.Index) -> Any:
        of, key = self.value(expr.of), self.settled(expr.key)
        of = self._looked(of, expr.span)
        if isinstance(of, dict):
            if not isinstance(key, str):
                raise EvaluationError(f"the key of a map is a text, not {_a(key)}", expr.key.span)
            return self._key(of, key, expr.key.span, "the map has no key")
        row = self._row(of, expr.span)
        at = whole(key, "the number of an item")
        if not -len(row) <= at < len(row):
            raise EvaluationError(f"there is no item {at}; there are {len(row)}", expr.key.span)
        return row[at]

    def _slice(self, expr: tree.Slice) -> Any:
        of = self._looked(self.value(expr.of), expr.span)
        bounds = [
            None if e is None else self.settled(e) for e in (expr.start, expr.stop, expr.step)
        ]
        numbers = [None if bound is None else whole(bound) for bound in bounds]
        if numbers[2] == 0:
            raise Refused("the step of a slice cannot be 0")
        row = self._row(of, expr.span)[slice(*numbers)]
        if isinstance(of, Group):
            return Group(row)
        return self._made(Row(row) if isinstance(of, Row) else row, expr.span)

    def _looked(self, value: Any, span: Span) -> Any:
        try:
            with placed(span):
                if isinstance(value, Value):
                    return looked(value)
                return written_out(value) if isinstance(value, Expression) else value
        except Refused as refused:
            raise EvaluationError(str(refused), span) from None

    def _row(self, value: Any, span: Span) -> Any:
        if isinstance(value, Group):
            return value.branches
        if not isinstance(value, list | tuple | str):
            raise EvaluationError(f"{_a(value)} has no items", span)
        return value  # pyright: ignore[reportUnknownVariableType]

    def _list(self, expr: tree.ListOf) -> Any:
        return [self.value(item) for item in expr.items]

    def _map(self, expr: tree.MapOf) -> Any:
        return {key: self.value(value) for key, value in expr.items}

    def _comprehension(self, expr: tree.Comprehension) -> Any:
        inner = Evaluator(dict(self.names), self._meter)
        found: list[Any] = []
        for item in self.each(expr.source):
            self._meter.step(expr.span)
            inner.bind(expr.targets, item, expr.source.span)
            if expr.condition is None or inner.truth(expr.condition):
                found.append(inner.value(expr.item))
                bounded(found)
        return self._made(found, expr.span)

    def each(self, expr: Expr) -> Sequence[Any]:
        """The items that a loop goes through; those of a row stay lazy."""
        value = self._looked(self.value(expr), expr.span)
        if isinstance(value, Group):
            return value.branches
        if isinstance(value, list):
            return value  # pyright: ignore[reportUnknownVariableType]
        try:
            return items(value)
        except Refused as refused:
            raise EvaluationError(str(refused), expr.span) from None

    def _function(self, expr: tree.Function) -> Any:
        found = [self.value(argument) for argument in expr.arguments]
        if expr.name == "len" and isinstance(found[0], Group | list):
            row = found[0]
            return len(row.branches if isinstance(row, Group) else row)  # pyright: ignore[reportUnknownArgumentType]
        spans = [argument.span for argument in expr.arguments]
        if expr.name == "join" and _is_lazy_row(found[0]):
            return self._lazy_join(found, spans, expr.span)
        self._meter.go_on(expr.span)
        arguments = [self.plain(value, span) for value, span in zip(found, spans, strict=True)]
        return self._made(FUNCTIONS[expr.name].call(*arguments), expr.span)

    def _lazy_join(self, found: Sequence[Any], spans: Sequence[Span], span: Span) -> Term:
        """Generated texts joined stay lazy."""
        separator = text(self.plain(found[1], spans[1])) if len(found) > 1 else ""
        terms: list[Term] = []
        size = 0
        for item in found[0]:
            part = _terms(self._spelled(item, spans[0]))
            size += _size(part)
            hold_text(size)
            terms += [separator, *part]
        return self._made(joined(terms[1:]), span)

    def _signed(self, expr: tree.Signed) -> Any:
        value = number(self.settled(expr.of))
        return -value if expr.sign == "-" else value

    def _not(self, expr: tree.Not) -> bool:
        return not self.truth(expr.of)

    def _logic(self, expr: tree.Logic) -> Any:
        value = None
        for item in expr.items:
            value = self.settled(item)
            if bool(value) is (expr.word == "or"):
                break
        return value

    def _choice(self, expr: tree.Choice) -> Any:
        return self.value(expr.then if self.truth(expr.condition) else expr.otherwise)

    def _chain(self, expr: tree.Chain) -> Any:
        value = self.value(expr.first)
        for sign, right in expr.rest:
            value = self._combined(sign, value, self.value(right), right.span)
        return value

    def _combined(self, sign: str, left: Any, right: Any, span: Span) -> Any:
        if sign == "+" and (_is_text(left) and _is_text(right)):
            return self._made(joined([*_terms(left), *_terms(right)]), span)
        if sign == "+" and isinstance(left, list) and isinstance(right, list):
            return self._made([*left, *right], span)
        left, right = self.plain(left, span), self.plain(right, span)
        self._meter.go_on(span)
        try:
            return self._made(ARITHMETIC[sign](left, right), span)
        except Refused as refused:
            raise EvaluationError(str(refused), span) from None
        except ZeroDivisionError:
            raise EvaluationError("a division by 0", span) from None
        except OverflowError:
            raise EvaluationError("the result is too large", span) from None

    def _comparison(self, expr: tree.Comparison) -> bool:
        left = self.settled(expr.first)
        for sign, each in expr.rest:
            right = self.settled(each)
            self._meter.go_on(each.span)
            try:
                if not COMPARE[sign](left, right):
                    return False
            except Refused as refused:
                raise EvaluationError(str(refused), each.span) from None
            left = right
        return True


def constant(expr: Expr) -> tuple[object] | None:
    """The value of an expression without names and functions, in a tuple; None for any other."""
    allowed = (tree.Literal, tree.Template, tree.ListOf, tree.MapOf, tree.Signed)
    if not all(isinstance(node, allowed) for node, _ in tree.walk(expr)):
        return None
    try:
        return (Evaluator({}, Meter(Limits())).settled(expr),)
    except EvaluationError:
        return None


def joined(terms: Sequence[Term]) -> Term:
    """The terms as one text, neighbouring plain texts merged; lazy if one of them is."""
    hold_text(_size(terms))
    row: list[Term] = []
    for plain, group in groupby(terms, key=lambda term: isinstance(term, str)):
        if not plain:
            row += group
        elif merged := "".join(map(str, group)):
            row.append(merged)
    if not row:
        return ""
    return row[0] if len(row) == 1 and _is_text(row[0]) else Sum(tuple(row))


def _size(terms: Sequence[Term]) -> int:
    """Characters; a lazy text counts as one."""
    return sum(len(term) if isinstance(term, str) else 1 for term in terms)


def _is_lazy_row(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Expression) for item in value)  # pyright: ignore[reportUnknownVariableType]


def _is_text(value: Any) -> bool:
    return isinstance(value, str | Sum) or (isinstance(value, Value) and is_text(value))


def _terms(value: Any) -> Sequence[Term]:
    return value.terms if isinstance(value, Sum) else (value,)


def _a(value: object) -> str:
    return {Group: "a group of branches", BranchOf: "a branch"}.get(type(value)) or named(value)


_EVALUATE: dict[type[Any], Callable[[Evaluator, Any], Any]] = {
    tree.Literal: Evaluator._literal,
    tree.Template: Evaluator._template,
    tree.Name: Evaluator._name,
    tree.Attribute: Evaluator._attribute,
    tree.Index: Evaluator._index,
    tree.Slice: Evaluator._slice,
    tree.ListOf: Evaluator._list,
    tree.MapOf: Evaluator._map,
    tree.Comprehension: Evaluator._comprehension,
    tree.Function: Evaluator._function,
    tree.Signed: Evaluator._signed,
    tree.Not: Evaluator._not,
    tree.Chain: Evaluator._chain,
    tree.Comparison: Evaluator._comparison,
    tree.Logic: Evaluator._logic,
    tree.Choice: Evaluator._choice,
}
