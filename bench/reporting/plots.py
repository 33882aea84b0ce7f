"""Plots as SVG: the same bytes from the same numbers, readable on a light and on a dark page.

Nothing is painted behind them; text is grey of a middle tone, and stays text.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot, ticker

INK = "#7d7d7d"
COLOURS = ("#2f81f7", "#e0823d", "#3fa45b", "#b26fd0", "#d64f5f", "#2aa3a3", "#a08a3c", "#888888")
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "ramet",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}

Series = Mapping[str, Sequence[tuple[float, float]]]


@contextmanager
def figure(width: float, height: float, columns: int = 1, **more: Any) -> Any:
    with pyplot.rc_context(STYLE):
        drawn, axes = pyplot.subplots(
            1, columns, figsize=(width, height), layout="constrained", squeeze=False, **more
        )
        try:
            yield drawn, list(axes[0])
        finally:
            pyplot.close(drawn)


def svg(drawn: Any) -> str:
    """The figure as it goes into a file."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", out.getvalue(), flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: 'DejaVu Sans', Verdana, sans-serif", text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def bars(
    labels: Sequence[str],
    groups: Mapping[str, Sequence[float | None]],
    xlabel: str,
    *,
    log: bool = False,
    line: float | None = None,
) -> str:
    """Horizontal bars: for each label one of each group, the first on top.

    On a logarithmic axis they begin at the line.
    """
    height = 0.55 + len(labels) * (0.16 * len(groups) + 0.16)
    with figure(8, height) as (drawn, (axes,)):
        thick = 0.84 / len(groups)
        for at, (name, values) in enumerate(groups.items()):
            there = [(place, value) for place, value in enumerate(values) if value is not None]
            places = [place + thick * (at - (len(groups) - 1) / 2) for place, _ in there]
            begin = line if log and line is not None else 0.0
            widths = [value - begin for _, value in there]
            colour = COLOURS[at % len(COLOURS)]
            axes.barh(places, widths, thick * 0.92, left=begin, label=name, color=colour)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.45, -0.55)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
        if line is not None:
            axes.axvline(line, color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel(xlabel)
        if len(groups) > 1:
            drawn.legend(loc="outside upper center", ncols=min(4, len(groups)))
        return svg(drawn)


def lines(
    panels: Mapping[str, Series],
    xlabel: str,
    ylabel: str,
    *,
    logx: int = 2,
    logy: bool = True,
    line: float | None = None,
) -> str:
    """Lines over a logarithmic axis, panels beside each other, on one scale and with one legend."""
    width = 1.5 + 2.9 * len(panels) if len(panels) > 1 else 6.5
    with figure(width, 3.3, len(panels), sharey=True) as (drawn, axes):
        names = list(dict.fromkeys(name for series in panels.values() for name in series))
        handles: dict[str, Any] = {}
        for panel, (title, series) in zip(axes, panels.items(), strict=True):
            for name, points in series.items():
                colour = COLOURS[names.index(name) % len(COLOURS)]
                drawn_line = panel.plot(*zip(*points, strict=True), marker="o", color=colour)
                handles.setdefault(name, drawn_line[0])
            panel.set_title(title)
            panel.set_xscale("log", base=logx)
            panel.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _short(x)))
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            places = sorted({x for points in series.values() for x, _ in points})
            panel.set_xticks(places)
            panel.set_xlabel(xlabel)
            if logy:
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
                panel.yaxis.set_minor_formatter(ticker.NullFormatter())
            else:
                panel.set_ylim(bottom=0)
            if line is not None:
                panel.axhline(line, color=INK, linewidth=1, linestyle="--")
        axes[0].set_ylabel(ylabel)
        if len(names) > 1:
            shown = [handles[name] for name in names]
            drawn.legend(shown, names, loc="outside right upper")
        return svg(drawn)


def trace(points: Sequence[tuple[float, float]], xlabel: str, ylabel: str) -> str:
    """One line over time, on plain axes; the height from nothing."""
    with figure(6.5, 2.6) as (drawn, (axes,)):
        axes.plot(*zip(*points, strict=True), color=COLOURS[0])
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0, top=1.15 * max(y for _, y in points))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        return svg(drawn)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 10_000 else f"{value:g}"


def matrix(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Iterable[float]], title: str
) -> str:
    """Numbers around 1 as coloured fields: less is green, more is red."""
    with figure(1.4 + 0.75 * len(columns), 0.9 + 0.36 * len(rows)) as (drawn, (axes,)):
        shown = [list(line) for line in values]
        axes.pcolormesh(shown, cmap="RdYlGn_r", vmin=-0.4, vmax=2.4)
        for y, line in enumerate(shown):
            for x, value in enumerate(line):
                place = x + 0.5, y + 0.5
                axes.text(*place, f"{value:.2f}", ha="center", va="center", color="#111111")
        axes.set_xticks([x + 0.5 for x in range(len(columns))], columns)
        axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
        axes.invert_yaxis()
        axes.grid(False)
        axes.tick_params(length=0)
        axes.set_title(title)
        return svg(drawn)
