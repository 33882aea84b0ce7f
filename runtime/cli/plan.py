"""`ramet plan`: what a run can take, before it runs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from rich.table import Table
from rich.text import Text as Line

from ramet.graph import Graph
from ramet.nodes import Branch, Call, Gen, Node, Open, Sample, Score, Select, Text, kind_of
from ramet.passes import common_prefix
from ramet.passes.plan import TURN, Plan, plan as plan_of
from ramet.pictures.wrap import clipped, printable
from ramet.runtime.cli.compiling import compiled_and_most
from ramet.runtime.cli.exits import failure
from ramet.runtime.cli.terminal import out, print_json

Count = Callable[[str], int]
_CHARACTERS = 4  # of a token, where no tokenizer counts
_ROWS = 24  # states that a person is shown


def plan(
    file: str, name: str | None, given: Sequence[str], model: str | None, *, as_json: bool
) -> None:
    """Show the plan of a program with these arguments."""
    count = _estimate if model is None else _counter(model)
    found, most = compiled_and_most(file, name, given)
    made = plan_of(found.graph, count)
    prefix = common_prefix([found.graph])
    texts = ["".join(map(str, node.parts)) for node in prefix if isinstance(node, Text)]
    shared = sum(map(count, texts)) + TURN * sum(isinstance(node, Open) for node in prefix)
    text = "".join(texts)
    if as_json:
        data: dict[str, Any] = {
            "program": found.graph.name,
            "counted_by": model,
            "stops": None if found.stops is None else failure(found.stops),
            "shared_prefix": {"tokens": shared, "text": text},
            "most": None if most is None else asdict(most),
            **asdict(made),
        }
        print_json(data)
        return
    console = out()
    console.print(_bounds(found.graph, made, shared, text, model))
    if most is not None:
        console.print(_whole(most))
    console.print()
    console.print(_states(found.graph, made))


def _estimate(text: str) -> int:
    return ceil(len(text) / _CHARACTERS)


def _counter(model: str) -> Count:
    from ramet.runtime.cli.tokenizers import counter  # with transformers

    return counter(model)


def _bounds(graph: Graph, made: Plan, shared: int, text: str, model: str | None) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    by = f"of {model}" if model is not None else f"taken as {_CHARACTERS} characters each"
    chain = " → ".join(_draw(graph.nodes[id]) for id in made.critical)
    rows = [
        (made.prompt, f"prompt tokens at most ({by}), each counted once"),
        (shared, f"of them begin every run: “{clipped(printable(text), 40)}”" if text else ""),
        (made.prompt_alone, "had each draw, option and sample been a request of its own"),
        (made.generated, "tokens drawn at most"),
        (made.critical_tokens, f"of them one after the other: {chain}"),
        (made.context, f"tokens of the longest context at most; {made.context_least} for sure"),
        (made.branches, f"branches; {made.branches_live} at once at most"),
        (made.blocks, f"blocks of {made.block_size} tokens at most"),
        (made.blocks_alone, "blocks without sharing"),
    ]
    table.add_row("program", graph.name)
    for number, what in rows:
        if what:
            table.add_row(f"{number:,}", Line(what))
    if made.inputs:
        table.add_row("", Line(f"not given, and counted as nothing: {', '.join(made.inputs)}"))
    return table


def _whole(most: Any) -> str:
    """The bounds of a program that is not known to its end."""
    drawn, branches, turns = (
        "no bound" if number is None else f"{number:,}"
        for number in (most.generated, most.branches, most.turns)
    )
    return (
        f"Of the whole program, at most: tokens drawn {drawn}, branches {branches}, "
        f"turns of loops {turns}."
    )


def _states(graph: Graph, made: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("state", "own tokens", "context", "uses", "next use"):
        table.add_column(name, justify="left" if name in ("state", "next use") else "right")
    for state in made.states[:_ROWS]:
        later = "" if state.next_use is None else _draw(graph.nodes[state.next_use])
        numbers = (f"{each:,}" for each in (state.own, state.context, state.uses))
        table.add_row(Line(_state(graph, state.begins)), *numbers, Line(later))
    if len(made.states) > _ROWS:
        table.add_row(f"… and {len(made.states) - _ROWS} more")
    return table


def _state(graph: Graph, begins: int) -> str:
    """`program`, or the branches and calls that lead to the state, by node and number."""
    match graph.nodes[begins]:
        case Branch(state=fork, index=index):
            return f"branch {index} of %{fork}"
        case Call(program=program):
            return f"call {program}"
        case _:
            return "program"


def _draw(node: Node) -> str:
    """What draws: its kind, its variable, and its line."""
    assert isinstance(node, Gen | Sample | Select | Score), "only these draw"
    line = "" if node.span is None else f" (line {node.span.line})"
    return f"{kind_of(node)} {node.name}{line}"
