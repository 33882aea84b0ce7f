"""What a run did, drawn for a terminal: the tree of its states, and what sharing saved."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ramet.pictures.wrap import printable
from ramet.runtime.core import EngineStats
from ramet.runtime.result import Finished, FinishedState
from ramet.runtime.sequence import Usage

_BAR = 24  # characters of a state's bar
_SNIPPET = 44  # characters of a state's text


def state_tree(finished: Finished) -> Tree:
    """Every state of a run with a bar: prompt tokens reused, computed, and tokens generated."""
    widest = max(tokens(state.usage) for state in finished.root.walk()) or 1
    tree = Tree(_label(finished.root, finished.graph.name, widest))
    _grow(tree, finished.root, widest)
    return tree


def sharing_table(runs: Sequence[Finished], stats: EngineStats, block_size: int) -> Group:
    """What the runs cost together.

    Asked for is what it would be if every generation, option and branch were a request of its own,
    as it is with a server that sees no programs.
    """
    total = Usage()
    for run in runs:
        total.add(run.usage)
    asked = total.prompt_computed + total.prompt_reused
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column()
    rows = [
        (f"{asked:,}", "prompt tokens, had each gen, option and branch been a request"),
        (f"{total.prompt_reused:,}", f"of them reused ({_percent(total.prompt_reused, asked)})"),
        (f"{total.prompt_computed:,}", "computed"),
        (f"{total.generated:,}", "generated" + _forced(total)),
        (f"{-(-asked // block_size):,}", f"blocks of {block_size} tokens without sharing"),
        (f"{stats.cache.published:,}", "blocks filled and kept to be found again"),
        (f"{total.copied_blocks:,}", "blocks copied on write"),
        (f"{stats.steps:,}", "forward passes"),
    ]
    for number, what in rows:
        table.add_row(number, what)
    return Group(table, legend())


def legend() -> Text:
    """What the colours of the bars mean."""
    return Text.assemble(
        ("█ reused  ", "green"), ("█ computed  ", "yellow"), ("█ generated", "blue")
    )


def numbers(usage: Usage) -> str:
    """What a state cost, in words."""
    parts = (usage.prompt_reused, usage.prompt_computed, usage.generated)
    told = "{} reused, {} computed, {} generated".format(*parts) + _forced(usage)
    if usage.copied_blocks:
        told += f", {usage.copied_blocks} block cop{'y' if usage.copied_blocks == 1 else 'ies'}"
    return told


def snippet(text: str) -> str:
    """The beginning of a text, on one line, with nothing in it that a terminal would obey."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SNIPPET else line[: _SNIPPET - 1] + "…"


def tokens(usage: Usage) -> int:
    """How long a state's bar is."""
    return usage.prompt_reused + usage.prompt_computed + usage.generated


def _grow(tree: Tree, state: FinishedState, widest: int) -> None:
    for index, branch in enumerate(state.branches):
        _grow(tree.add(_label(branch, f"branch {index}", widest)), branch, widest)


def _label(state: FinishedState, name: str, widest: int) -> Text:
    usage = state.usage
    label = Text.assemble((f"{name}  ", "bold"))
    parts = (usage.prompt_reused, usage.prompt_computed, usage.generated)
    for count, colour in zip(parts, ("green", "yellow", "blue"), strict=True):
        label.append("█" * round(count * _BAR / widest), colour)
    label.append(f"  {numbers(usage)}", "dim")
    written = "".join(span.text for span in state.written if span.generated).strip()
    label.append(f"\n“{snippet(written)}”", "italic")
    return label


def _forced(usage: Usage) -> str:
    return f" ({usage.forced:,} forced by a type)" if usage.forced else ""


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"
