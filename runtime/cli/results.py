"""A finished run for a person: its value, its states, and how each choice was made."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ramet.pictures.wrap import clipped, printable
from ramet.runtime.cli.live import label_of
from ramet.runtime.cli.terminal import as_json
from ramet.runtime.core import EngineStats
from ramet.runtime.report import legend, sharing_table, state_tree
from ramet.runtime.result import Finished
from ramet.runtime.values import GenInfo, Info, ScoreInfo, SelectInfo

_BAR = 20  # characters of a probability of 1
_SNIPPET = 60  # cells of an option or a hypothesis


def show(console: Console, finished: Finished) -> None:
    """The value, the tree of states, and tables for what was chosen or searched."""
    _heading(console, "value")
    value = finished.value
    text = printable(value) if isinstance(value, str) else as_json(value, indent=2)
    console.print(text, soft_wrap=True)
    _heading(console, "states")
    console.print(state_tree(finished))
    console.print(legend())
    for title, table in _tables(finished):
        _heading(console, title)
        console.print(table)


def show_stats(console: Console, finished: Finished, stats: EngineStats, block_size: int) -> None:
    """What sharing saved."""
    _heading(console, "sharing")
    console.print(sharing_table([finished], stats, block_size))


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold underline"))


def _tables(finished: Finished) -> Iterator[tuple[str, Table]]:
    """One for each variable with more to tell than its value."""
    for state in finished.root.walk():
        for name, info in state.infos.items():
            table = _table(info)
            if table is not None:
                yield label_of(name, state.path), table


def _table(info: Info) -> Table | None:
    match info:
        case SelectInfo():
            return _options(info)
        case ScoreInfo():
            table = _columns("text", "log-probability", "a token")
            table.add_row(_text(info.continuation), f"{info.value:.3f}", f"{info.mean:.3f}")
            return table
        case GenInfo(texts=texts, scores=scores) if texts:
            table = _columns("beam", "score", "text")
            for rank, (text, score) in enumerate(zip(texts, scores, strict=True)):
                style = "bold" if rank == 0 else ""
                table.add_row(str(rank), f"{score:.3f}", _text(text), style=style)
            return table
        case _:
            return None


def _options(info: SelectInfo) -> Table:
    table = _columns("option", "probability", "", "score")
    for option, prob in sorted(info.probs.items(), key=lambda item: -item[1]):
        bar = Text("█" * round(_BAR * prob), "blue")
        style = "bold" if option == info.text else ""
        score = f"{info.scores[option]:.3f}"
        table.add_row(_text(option), f"{prob:.1%}", bar, score, style=style)
    return table


def _columns(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name)
    return table


def _text(text: str) -> Text:
    return Text(clipped(printable(text), _SNIPPET))
