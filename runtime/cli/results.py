"""A finished run for a person: its value, its states, and how each choice was made."""

from collections.abc import Hashable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ramet.pictures.wrap import ELLIPSIS, clipped, printable
from ramet.runtime.cli.live import label_of
from ramet.runtime.cli.terminal import as_json
from ramet.runtime.core import EngineStats
from ramet.runtime.report import legend, sharing_table, state_tree
from ramet.runtime.result import Finished
from ramet.runtime.values import GenInfo, Info, SamplesInfo, ScoreInfo, SelectInfo

_BAR = 20  # most characters of a probability of 1
_SNIPPET = 60  # cells of an option or a hypothesis
_MOST = 20  # options that are shown
_BEFORE = 12  # letters shown before the place where hypotheses part

_Told = tuple[str, str, Info]
"""A variable, the path of its state, and how it came about."""


def show(console: Console, finished: Finished) -> None:
    """The value, the tree of states, and tables for what was chosen or searched."""
    _heading(console, "value")
    value = finished.value
    text = printable(value) if isinstance(value, str) else as_json(value, indent=2)
    console.print(text, soft_wrap=True)
    _heading(console, "states")
    console.print(state_tree(finished))
    console.print(legend())
    for title, table in _tables(finished, console.width):
        _heading(console, title)
        console.print(table)


def show_stats(console: Console, finished: Finished, stats: EngineStats, block_size: int) -> None:
    """What sharing saved."""
    _heading(console, "sharing")
    console.print(sharing_table([finished], stats, block_size))


def _heading(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold underline"))


def _tables(finished: Finished, width: int) -> Iterator[tuple[str, RenderableType]]:
    """One for each select, search and choice of samples; the scores of a name are in one."""
    groups: dict[Hashable, list[_Told]] = {}
    for state in finished.root.walk():
        for name, info in state.infos.items():
            found = info.samples[0] if isinstance(info, SamplesInfo) else info
            groups.setdefault(_group(name, state.path, found), []).append((name, state.path, found))
    for group in groups.values():
        name, path, info = group[0]
        if isinstance(info, SelectInfo):
            yield label_of(name, path), _options(info, min(_BAR, width // 5))
        elif isinstance(info, ScoreInfo):
            yield name if len(group) > 1 else label_of(name, path), _scores(group)
        elif isinstance(info, GenInfo) and info.texts:
            beside = path.rpartition(".")[0] if len(group) > 1 else path
            yield label_of(name, beside), _beams(info)


def _group(name: str, path: str, info: Info) -> Hashable:
    """What stands in one table: also the hypotheses of a search that go on as branches."""
    if isinstance(info, ScoreInfo):
        return name
    if isinstance(info, GenInfo) and info.texts:
        return name, info.texts, info.scores
    return name, path


def _options(info: SelectInfo, widest: int) -> RenderableType:
    """The likeliest, the chosen one always among them."""
    ranked = sorted(info.probs, key=lambda option: -info.probs[option])
    shown = [option for rank, option in enumerate(ranked) if rank < _MOST or option == info.text]
    table = _columns("option", "probability", "", "score")
    for option in shown:
        prob = info.probs[option]
        bar = Text("█" * round(widest * prob), "blue")
        style = "bold" if option == info.text else ""
        table.add_row(_text(option), f"{prob:.1%}", bar, f"{info.scores[option]:.3f}", style=style)
    told = f"entropy {info.entropy:.2f} nats"
    if len(shown) < len(ranked):
        rest = 1 - sum(info.probs[option] for option in shown)
        told = f"and {len(ranked) - len(shown)} more with {rest:.1%} together; {told}"
    return Group(table, Text(told, "dim"))


def _scores(group: Sequence[_Told]) -> Table:
    several = len(group) > 1
    table = _columns(*(["at"] if several else []), "text", "log-probability", "a token")
    for name, path, info in group:
        assert isinstance(info, ScoreInfo), "a group has one kind"
        label = [label_of(name, path)] if several else []
        table.add_row(*label, _text(info.continuation), f"{info.value:.3f}", f"{info.mean:.3f}")
    return table


def _beams(info: GenInfo) -> Table:
    """Best first. What all of them begin with is left out where it would hide how they differ."""
    begin = _agreed(info.texts) - _BEFORE
    cut = begin if begin > 0 and max(map(len, info.texts)) > _SNIPPET else 0
    table = _columns("rank", "score", "text")
    for rank, (text, score) in enumerate(zip(info.texts, info.scores, strict=True)):
        style = "bold" if rank == 0 else ""
        shown = _text(ELLIPSIS + text[cut:] if cut else text)
        table.add_row(str(rank), f"{score:.3f}", shown, style=style)
    return table


def _agreed(texts: Sequence[str]) -> int:
    """How many letters all of them begin with."""
    columns = enumerate(zip(*texts, strict=False))
    parted = (at for at, letters in columns if len(set(letters)) > 1)
    return next(parted, min(map(len, texts)))


def _columns(*names: str) -> Table:
    """Numbers stand under each other, and where the terminal is narrow the texts give way."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        text = name in ("option", "text")
        number = not text and name not in ("", "at")
        table.add_column(name, justify="right" if number else "left", no_wrap=not text)
    return table


def _text(text: str) -> Text:
    return Text(clipped(printable(text), _SNIPPET), no_wrap=True, overflow="ellipsis")
