"""What each rule of the grammar builds: nodes of the tree, from the tokens and nodes below it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from lark.visitors import Transformer_NonRecursive

from ramet.errors import Span, shown
from ramet.syntax import tree
from ramet.syntax.source import Source
from ramet.syntax.tokens import Hole, StringToken, Token
from ramet.syntax.tree import Expr, Setting


class Mistake(Exception):
    """What was built makes no sense, at that place."""

    def __init__(self, span: Span, message: str) -> None:
        super().__init__(message)
        self.span = span
        self.message = message


class Builder(Transformer_NonRecursive[Any, Any]):
    """Called by the parser rule by rule, from the bottom up; each rule with what is below it.

    `line` is the place of the line that is being parsed; `holes` has the expressions in its texts
    by the places of their braces.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(visit_tokens=False)
        self._source = source
        self.line = tree.NOWHERE
        self.holes: dict[int, Expr] = {}

    def begin(self, line: Span) -> None:
        """Another line is next."""
        self.line = line
        self.holes = {}

    def _span(self, token: Token) -> Span:
        return self._source.span(token.start_pos)

    # -- expressions

    def name(self, items: Sequence[Token]) -> Expr:
        return tree.Name(_word(items[0]), span=self._span(items[0]))

    def integer(self, items: Sequence[Token]) -> Expr:
        return tree.Literal(int(_word(items[0])), span=self._span(items[0]))

    def number(self, items: Sequence[Token]) -> Expr:
        value = float(_word(items[0]))
        if value == float("inf"):
            raise Mistake(self._span(items[0]), "the number is too large")
        return tree.Literal(value, span=self._span(items[0]))

    def literal(self, items: Sequence[Token]) -> Expr:
        value = {"true": True, "false": False, "none": None}[_word(items[0])]
        return tree.Literal(value, span=self._span(items[0]))

    def string(self, items: Sequence[Token]) -> Expr:
        value = items[0].value
        assert isinstance(value, StringToken), "the scanner makes strings"
        parts = tuple(self.holes[p.at] if isinstance(p, Hole) else p for p in value.parts)
        return tree.Template(parts, value.raw, value.triple, span=self._span(items[0]))

    def attribute(self, items: Sequence[Any]) -> Expr:
        of, name = items
        return tree.Attribute(of, _word(name), span=self._span(name))

    def index(self, items: Sequence[Any]) -> Expr:
        of, bracket, key = items
        return tree.Index(of, key, span=self._span(bracket))

    def slice(self, items: Sequence[Any]) -> Expr:
        of, bracket, start, stop, step = items
        return tree.Slice(of, start, stop, step, span=self._span(bracket))

    def list(self, items: Sequence[Any]) -> Expr:
        return tree.ListOf(_present(items[1:]), span=self._span(items[0]))

    def map(self, items: Sequence[Any]) -> Expr:
        entries: tuple[tuple[Span, str, Expr, bool], ...] = _present(items[1:])
        seen: set[str] = set()
        for span, key, _, _ in entries:
            if key in seen:
                raise Mistake(span, f"the key {shown(key)} is there twice")
            seen.add(key)
        found = tuple((key, value) for _, key, value, _ in entries)
        quoted = bool(entries) and all(quoted for *_, quoted in entries)
        return tree.MapOf(found, quoted, span=self._span(items[0]))

    def entry(self, items: Sequence[Any]) -> tuple[Span, str, Expr, bool]:
        key, value = items
        if isinstance(key, Token):
            span = self._span(key)
            return span, _word(key), value or tree.Name(_word(key), span=span), False
        if not all(isinstance(part, str) for part in key.parts):
            raise Mistake(key.span, "a key is a plain text, without braces")
        return key.span, "".join(key.parts), value, True

    def comprehension(self, items: Sequence[Any]) -> Expr:
        bracket, item, target, source, condition = items
        return tree.Comprehension(
            item, self._targets(target), source, condition, span=self._span(bracket)
        )

    def function(self, items: Sequence[Any]) -> Expr:
        name, arguments = items
        plain, named = self._arguments(arguments)
        return tree.Function(_word(name), plain, named, span=self._span(name))

    def arguments(self, items: Sequence[Any]) -> Sequence[Any]:
        return items

    def choice(self, items: Sequence[Expr]) -> Expr:
        then, condition, otherwise = items
        return tree.Choice(then, condition, otherwise, span=then.span)

    def disjunction(self, items: Sequence[Expr]) -> Expr:
        return tree.Logic("or", tuple(items), span=items[0].span)

    def conjunction(self, items: Sequence[Expr]) -> Expr:
        return tree.Logic("and", tuple(items), span=items[0].span)

    def negated(self, items: Sequence[Any]) -> Expr:
        word, of = items
        return tree.Not(of, span=self._span(word))

    def compares(self, items: Sequence[Token]) -> str:
        return " ".join(map(_word, items))

    def comparison(self, items: Sequence[Any]) -> Expr:
        return tree.Comparison(items[0], _pairs(items), span=items[0].span)

    def sum(self, items: Sequence[Any]) -> Expr:
        return self._chain(items)

    def term(self, items: Sequence[Any]) -> Expr:
        return self._chain(items)

    def _chain(self, items: Sequence[Any]) -> Expr:
        words = [_word(each) if isinstance(each, Token) else each for each in items]
        return tree.Chain(items[0], _pairs(words), span=self._span(items[1]))

    def signed(self, items: Sequence[Any]) -> Expr:
        sign, of = items
        return tree.Signed(_word(sign), of, span=self._span(sign))

    # -- lines

    def program(self, items: Sequence[Any]) -> tree.Program:
        name, *parameters = items
        found: tuple[tree.Parameter, ...] = _present(parameters)
        seen: set[str] = set()
        for parameter in found:
            if parameter.name in seen:
                raise Mistake(parameter.span, f"a parameter {parameter.name!r} is there already")
            seen.add(parameter.name)
        return tree.Program(_word(name), found, span=self._span(name))

    def parameter(self, items: Sequence[Any]) -> tree.Parameter:
        name, kind, default = items
        spelled = None if kind is None else _word(kind)
        return tree.Parameter(_word(name), spelled, default, span=self._span(name))

    def text(self, items: Sequence[Any]) -> tree.TextLine:
        return tree.TextLine(items[0], span=self.line)

    def role(self, items: Sequence[Any]) -> tree.Turn:
        role: Any = _word(items[0])
        return tree.Turn(role, items[1], span=self.line)

    def role_block(self, items: Sequence[Token]) -> tree.Turn:
        role: Any = _word(items[0])
        return tree.Turn(role, None, span=self.line)

    def gen(self, items: Sequence[tree.Gen]) -> tree.Gen:
        return items[0]

    def gen_head(self, items: Sequence[Any]) -> tree.Gen:
        name, kind, argument, settings = items
        type = None
        if kind is not None:
            type = tree.TypeOf(_word(kind), argument, span=self._span(kind))
        return tree.Gen(_word(name), type, settings or (), span=self._span(name))

    def settings(self, items: Sequence[Setting | None]) -> tuple[Setting, ...]:
        found: tuple[Setting, ...] = _present(items)
        self._no_twins(found)
        return found

    def setting(self, items: Sequence[Any]) -> Setting:
        name, value = items
        return Setting(_word(name), value, span=self._span(name))

    def select(self, items: Sequence[Any]) -> tree.Select:
        name, options, settings = items
        plain = isinstance(options, tree.Function) and not options.arguments and settings is None
        if plain and options.named:
            self._no_twins(options.named)
            options, settings = tree.Name(options.name, span=options.span), options.named
        return tree.Select(_word(name), options, settings or (), span=self._span(name))

    def score(self, items: Sequence[Any]) -> tree.Score:
        name, of = items
        return tree.Score(_word(name), of, span=self._span(name))

    def fork_over(self, items: Sequence[Any]) -> tree.Fork:
        over, group = items
        match over:
            case tree.Comparison(tree.Name(id=item), (("in", items_of),)):
                return tree.Fork((item,), items_of, _word(group), span=self.line)
            case _:
                return tree.Fork((), over, _word(group), span=self.line)

    def fork_items(self, items: Sequence[Any]) -> tree.Fork:
        targets, over, group = items
        return tree.Fork(targets, over, _word(group), span=self.line)

    def fork_gen(self, items: Sequence[Any]) -> tree.ForkGen:
        gen, group = items
        return tree.ForkGen(gen, _word(group), span=self.line)

    def keep(self, items: Sequence[Expr]) -> tree.Keep:
        return tree.Keep(items[0], span=self.line)

    def let(self, items: Sequence[Any]) -> tree.Let:
        name, value = items
        return tree.Let(_word(name), value, span=self._span(name))

    def if_line(self, items: Sequence[Expr]) -> tree.If:
        return tree.If((tree.Arm(items[0], span=self.line),), span=self.line)

    def elif_line(self, items: Sequence[Expr]) -> tree.Arm:
        return tree.Arm(items[0], span=self.line)

    def else_line(self, items: Sequence[object]) -> tree.Otherwise:
        return tree.Otherwise(span=self.line)

    def for_line(self, items: Sequence[Any]) -> tree.For:
        target, over = items
        return tree.For(self._targets(target), over, span=self.line)

    def while_line(self, items: Sequence[Any]) -> tree.While:
        condition, limit = items
        if limit is None:
            raise Mistake(
                self.line, "while needs a bound on its turns: write `while condition limit 8:`"
            )
        return tree.While(condition, limit, span=self.line)

    def call(self, items: Sequence[Any]) -> tree.Call:
        return self._call(True, *items)

    def extend(self, items: Sequence[Any]) -> tree.Call:
        return self._call(False, *items)

    def _call(self, fresh: bool, name: Token, arguments: Any, to: Token | None) -> tree.Call:
        plain, named = self._arguments(arguments)
        self._no_twins(named)
        result = None if to is None else _word(to)
        return tree.Call(fresh, _word(name), plain, named, result, span=self._span(name))

    def return_line(self, items: Sequence[Any]) -> tree.Return:
        return tree.Return(items[0], span=self.line)

    def targets(self, items: Sequence[Token]) -> tuple[str, ...]:
        names = tuple(map(_word, items))
        for at, name in enumerate(names):
            if name in names[:at]:
                raise Mistake(self._span(items[at]), f"the name {name!r} is there twice")
        return names

    # -- helpers

    def _targets(self, target: Any) -> tuple[str, ...]:
        return (_word(target),) if isinstance(target, Token) else target

    def _arguments(self, items: Any) -> tuple[tuple[Expr, ...], tuple[Setting, ...]]:
        found = list(items or ())
        named = tuple(each for each in found if isinstance(each, Setting))
        plain = tuple(each for each in found if not isinstance(each, Setting))
        for before, after in pairwise(found):
            if isinstance(before, Setting) and not isinstance(after, Setting):
                raise Mistake(after.span, "an argument without a name comes before those with one")
        return plain, named

    def _no_twins(self, settings: Iterable[Setting]) -> None:
        seen: set[str] = set()
        for setting in settings:
            if setting.name in seen:
                raise Mistake(setting.span, f"{setting.name!r} is there twice")
            seen.add(setting.name)


def _word(token: Token) -> str:
    assert isinstance(token.value, str), "only strings have parts"
    return token.value


def _present(items: Iterable[Any]) -> Any:
    return tuple(each for each in items if each is not None)


def _pairs(items: Sequence[Any]) -> tuple[tuple[str, Expr], ...]:
    return tuple(zip(items[1::2], items[2::2], strict=True))
