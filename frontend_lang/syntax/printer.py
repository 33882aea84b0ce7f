"""A syntax tree as its canonical text: what `parse` reads back as the same tree.

Four blanks a block, comments and single blank lines kept, lines of 100 columns at most where a
bracket allows it. Where each word goes is here; how an expression is spelled is in spelling.py.
"""

from collections.abc import Iterator

from ramet.syntax import tree
from ramet.syntax.spelling import Spelling
from ramet.syntax.tree import Block, Expr, Module, Statement

COLUMNS = 100
_BLANKS = 4


def print_module(module: Module) -> str:
    """The programs with a blank line between them, and the comments after the last."""
    printer = _Printer()
    for program in module.programs:
        printer.statement(program, 0, first=not printer.lines)
    printer.lines += module.tail
    return "".join(f"{line}\n" for line in printer.lines)


class _Printer:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def _block(self, block: Block, depth: int) -> None:
        for at, statement in enumerate(block):
            self.statement(statement, depth, first=not at)

    def statement(self, line: Statement, depth: int, *, first: bool = False) -> None:
        """The lines of a statement, with what stands before it and behind it."""
        trivia = line.trivia
        if not first and (trivia.gap or isinstance(line, tree.Program)):
            self.lines.append("")
        margin = " " * (depth * _BLANKS)
        self.lines += [f"{margin}{comment}".rstrip() for comment in trivia.lead]
        head, body = _spelled(line)
        indent = len(margin) + _BLANKS * (2 if body else 1)
        text = margin + _filled(head, len(margin), indent)
        self.lines.append(f"{text}  {trivia.tail}" if trivia.tail else text)
        self._block(body, depth + 1)
        if isinstance(line, tree.If):
            for arm in line.arms[1:]:
                self.statement(arm, depth)
            if line.otherwise is not None:
                self.statement(line.otherwise, depth)


def _filled(pieces: list[str], column: int, indent: int) -> str:
    """The pieces with blanks between them, or line ends where one would be too long.

    Brackets that close do not count: they may hang over the edge.
    """
    text = ""
    for at, piece in enumerate(pieces):
        begin, *more = piece.split("\n")
        if at and column + 1 + len(begin.rstrip(")]}:")) > COLUMNS:
            text += "\n" + " " * indent
            column = indent
        elif at:
            text += " "
            column += 1
        text += piece
        column = len(more[-1]) if more else column + len(begin)
    return text


def _spelled(line: Statement) -> tuple[list[str], Block]:
    """The words of a statement, and the block under it."""
    words = Spelling()
    body: Block = ()
    match line:
        case tree.Program(name, parameters, body):
            words.write(f"program {name}(")
            for at, parameter in enumerate(parameters):
                if at:
                    words.separate()
                _parameter(words, parameter)
            words.write("):")
        case tree.TextLine(text):
            words.expr(text)
        case tree.Turn(role, None, body):
            words.write(f"{role}:")
        case tree.Turn(role, content):
            words.write(f"{role} ")
            words.expr(_present(content))
        case tree.Gen():
            words.write("gen ")
            _gen(words, line)
        case tree.Select(name, _, settings):
            words.write(f"select {name} from ")
            _options(words, line)
            if settings:
                words.write(" ")
                words.within("(", settings, ")")
        case tree.Score(name, of):
            words.write(f"score {name} of ")
            _guarded(words, of, "of")
        case tree.Fork(targets, over, group, body):
            words.write("fork ")
            _branches(words, targets, over)
            words.write(f" as {group}:")
        case tree.ForkGen(gen, group, body):
            words.write("fork gen ")
            _gen(words, gen)
            words.write(f" as {group}:")
        case tree.Keep(branch):
            words.write("keep ")
            words.expr(branch)
        case tree.Let(name, value):
            words.write(f"let {name} = ")
            words.expr(value)
        case tree.If(arms):
            words.write("if ")
            words.expr(arms[0].condition)
            words.write(":")
            body = arms[0].body
        case tree.Arm(condition, body):
            words.write("elif ")
            words.expr(condition)
            words.write(":")
        case tree.Otherwise(body):
            words.write("else:")
        case tree.For(targets, over, body):
            words.write(f"for {', '.join(targets)} in ")
            words.expr(over)
            words.write(":")
        case tree.While(condition, limit, body):
            words.write("while ")
            _guarded(words, condition, "limit")
            words.write(" limit ")
            _guarded(words, limit, "limit")
            words.write(":")
        case tree.Call(fresh, program, arguments, named, to):
            words.write(f"{'call' if fresh else 'extend'} {program}")
            words.within("(", (*arguments, *named), ")")
            words.write(f" as {to}" if to is not None else "")
        case tree.Return(None):
            words.write("return")
        case tree.Return(value):
            words.write("return ")
            words.expr(_present(value))
        case _:
            raise AssertionError(f"{type(line).__name__} is no statement of a whole tree")
    return words.pieces, body


def _parameter(words: Spelling, parameter: tree.Parameter) -> None:
    words.write(parameter.name if parameter.type is None else f"{parameter.name}: {parameter.type}")
    if parameter.default is not None:
        words.write("=" if parameter.type is None else " = ")
        words.expr(parameter.default)


def _gen(words: Spelling, gen: tree.Gen) -> None:
    words.write(gen.name)
    if gen.type is not None:
        words.write(f": {gen.type.name}")
        if gen.type.argument is not None:
            words.write("(")
            words.expr(gen.type.argument)
            words.write(")")
        words.write(" " if gen.settings else "")
    if gen.settings:
        words.within("(", gen.settings, ")")


def _branches(words: Spelling, targets: tuple[str, ...], over: Expr) -> None:
    """What a fork is over. One name with `in` reads as a comparison, `gen` in front as a gen."""
    if len(targets) == 1:
        over = tree.Comparison(tree.Name(targets[0]), (("in", over),))
    elif targets:
        words.write(f"{', '.join(targets)} in ")
    apart = len(targets) < 2 and _word(_edge(over, 0)) == "gen"
    _guarded(words, over, "as", apart=apart)


def _options(words: Spelling, line: tree.Select) -> None:
    """Settings right behind a name would read as a call, except where it stands alone."""
    alone = isinstance(line.options, tree.Name)
    apart = bool(line.settings) and not alone and isinstance(_edge(line.options, -1), tree.Name)
    _guarded(words, line.options, "from", apart=apart)


def _guarded(words: Spelling, expr: Expr, taken: str, *, apart: bool = False) -> None:
    """The expression; in parentheses if its line would take a name in it for that word."""
    apart = apart or any(_word(each) == taken for each in _outside_brackets(expr))
    words.write("(" if apart else "")
    words.expr(expr)
    words.write(")" if apart else "")


def _operands(expr: Expr) -> tuple[Expr, ...]:
    """Those that no bracket holds."""
    match expr:
        case (
            tree.Attribute(of) | tree.Index(of) | tree.Slice(of) | tree.Signed(_, of) | tree.Not(of)
        ):
            return (of,)
        case tree.Chain(first, rest) | tree.Comparison(first, rest):
            return (first, *(operand for _, operand in rest))
        case tree.Logic(_, items):
            return items
        case tree.Choice(then, condition, otherwise):
            return then, condition, otherwise
        case _:
            return ()


def _outside_brackets(expr: Expr) -> Iterator[Expr]:
    left = [expr]
    while left:
        expr = left.pop()
        yield expr
        left += _operands(expr)


def _edge(expr: Expr, side: int) -> Expr:
    """What stands first (0), or last (-1), in the spelling of an expression."""
    closed = (tree.Attribute, tree.Index, tree.Slice) if side else (tree.Signed, tree.Not)
    while not isinstance(expr, closed) and (operands := _operands(expr)):
        expr = operands[side]
    return expr


def _word(expr: Expr) -> str | None:
    match expr:
        case tree.Name(word) | tree.Attribute(_, word) | tree.Function(word):
            return word
        case _:
            return None


def _present(expr: Expr | None) -> Expr:
    assert expr is not None, "the cases before have none"
    return expr
