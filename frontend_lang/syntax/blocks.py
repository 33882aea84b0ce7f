"""Source to syntax tree: the statements of lines, put into the blocks that indentation makes."""

from collections.abc import Sequence
from dataclasses import replace

from ramet.limits import Limits
from ramet.syntax import tree
from ramet.syntax.parse import Read, Reader
from ramet.syntax.scan import scan
from ramet.syntax.source import Source
from ramet.syntax.tree import Block, Module, Statement

LIMITS = Limits()


def parse(text: str, file: str = "<string>", limits: Limits = LIMITS) -> Module:
    """The syntax tree of a source.

    Raises:
        SourceError: it has mistakes; all that can be seen without knowing names are in it.
        LimitError: it is too long, nests too deeply, or has too many statements.
    """
    source = Source(text, file)
    module = parse_source(source, limits)
    source.check()
    return module


def parse_source(source: Source, limits: Limits) -> Module:
    """The tree as far as the source makes sense; its mistakes are noted there."""
    scanned = scan(source, limits)
    reader = Reader(source, limits)
    reads = [reader.read(line) for line in scanned.lines]
    return Module(_Blocks(source, reads).programs(), scanned.tail)


class _Blocks:
    """Goes through the lines once."""

    def __init__(self, source: Source, reads: Sequence[Read]) -> None:
        self._source = source
        self._reads = reads
        self._at = 0

    def programs(self) -> tuple[tree.Program, ...]:
        statements = self._block(-1)
        outside = [s for s in statements if not isinstance(s, tree.Program | tree.Broken)]
        if outside:
            self._source.mistake(
                outside[0].span,
                "this stands outside of a program; begin one with `program name():`",
            )
        if not statements and not self._source.diagnostics:
            self._source.mistake(self._source.span(0), "there is no program in this source")
        return tuple(each for each in statements if isinstance(each, tree.Program))

    def _block(self, outer: int) -> Block:
        """The statements of the lines that are indented further than `outer`.

        The first line says how far. Of those that differ the first is told, and all are taken in.
        """
        found: list[Statement] = []
        indent = 0 if outer < 0 or self._at == len(self._reads) else self._reads[self._at].indent
        told = False
        while self._at < len(self._reads) and (read := self._reads[self._at]).indent > outer:
            if read.indent != indent and not told:
                told = True
                self._source.mistake(
                    read.statement.span,
                    f"it is indented by {read.indent} blanks, but its block by {indent}",
                )
            self._at += 1
            self._put(found, *self._with_body(read.statement, max(indent, read.indent)))
        return tuple(found)

    def _with_body(self, statement: Statement, indent: int) -> tuple[Statement, Block]:
        """The statement with its block, and what is indented like one and belongs to none."""
        body = self._block(indent)
        match statement:
            case tree.If(arms=(arm,)):
                self._check_body(statement, body)
                return replace(statement, arms=(replace(arm, body=body),)), ()
            case (
                tree.Program() | tree.Fork() | tree.ForkGen() | tree.For() | tree.While()
                | tree.Arm() | tree.Otherwise() | tree.Turn(content=None)
            ):  # fmt: skip
                self._check_body(statement, body)
                return replace(statement, body=body), ()
            case tree.Broken():
                return replace(statement, body=body), ()
            case _:
                if body:
                    self._source.mistake(
                        body[0].span, "it is indented, but the line before it opens no block"
                    )
                return statement, body

    def _check_body(self, head: Statement, body: Block) -> None:
        if not body:
            self._source.mistake(head.span, "it needs a block: lines indented further than it")

    def _put(self, found: list[Statement], statement: Statement, more: Block) -> None:
        if isinstance(statement, tree.Arm | tree.Otherwise):
            self._attach(found, statement)
        else:
            found.append(statement)
        found += more

    def _attach(self, found: list[Statement], arm: tree.Arm | tree.Otherwise) -> None:
        """An `elif` or `else` belongs to the `if` right before it."""
        before = found[-1] if found else None
        word = "elif" if isinstance(arm, tree.Arm) else "else"
        if not isinstance(before, tree.If):
            if not isinstance(before, tree.Broken):
                self._source.mistake(arm.span, f"{word} without an if right before it")
            found.append(tree.Broken((), body=arm.body, span=arm.span))
        elif before.otherwise is not None:
            self._source.mistake(arm.span, f"{word} after the else")
        elif isinstance(arm, tree.Arm):
            found[-1] = replace(before, arms=(*before.arms, arm))
        else:
            found[-1] = replace(before, otherwise=arm)
