"""What a run did, as an HTML fragment for a notebook: the sibling of the terminal's tree.

The same tree, numbers and colours as `ramet.runtime.report`. Everything is escaped, all styles are
inline, and the text has the colour of the page around it, light or dark.
"""

from collections.abc import Iterator
from html import escape

from ramet.pictures.wrap import printable
from ramet.runtime.context import Span
from ramet.runtime.report import numbers, snippet, tokens
from ramet.runtime.result import Finished, FinishedState

COLOURS = {"reused": "#2f9e44", "computed": "#c98a00", "generated": "#3b82f6"}
_BAR = 200  # pixels of the widest state's bar
_OPEN = 4  # up to so many states all are shown open
_OPENED = ' open=""'
_BOX = (
    "font:13px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;"
    "max-width:800px;margin:8px 0;color:inherit"
)
_TEXT = (
    "margin:4px 0 6px 18px;padding:6px 10px;max-height:18em;overflow:auto;"
    "border-left:2px solid rgba(128,128,128,.45);background:rgba(128,128,128,.08);color:inherit;"
    "font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;"
    "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext"
)
_GENERATED = "background:rgba(59,130,246,.25);border-radius:2px;color:inherit"
_BRANCHES = "margin-left:7px;padding-left:11px;border-left:1px solid rgba(128,128,128,.45)"


def html_tree(finished: Finished) -> str:
    """Every state of a run with its bar and its text; what the model wrote is highlighted."""
    states = [*finished.root.walk()]
    widest = max(tokens(state.usage) for state in states) or 1
    total = f"{printable(finished.graph.name)}: {numbers(finished.usage)} in all"
    return "".join(
        [
            f'<div role="group" aria-label="{escape(total)}" style="{_BOX}">',
            *_tree(finished, widest, len(states) <= _OPEN),
            _legend(),
            "</div>",
        ]
    )


def _tree(finished: Finished, widest: int, opened: bool) -> Iterator[str]:
    """The states, each inside its parent; a stack takes the place of recursion."""
    root = finished.root
    yield _head(root, finished.graph.name, widest, True)
    stack = [enumerate(root.branches)]
    while stack:
        if (following := next(stack[-1], None)) is None:
            stack.pop()
            yield "</div></details>"
            continue
        index, state = following
        yield _head(state, f"branch {index}", widest, opened)
        stack.append(enumerate(state.branches))


def _head(state: FinishedState, name: str, widest: int, opened: bool) -> str:
    """One state, up to where its branches come."""
    written = "".join(span.text for span in state.written if span.generated)
    return (
        f"<details{_OPENED if opened else ''}>"
        f'<summary style="cursor:pointer"><b>{escape(printable(name))}</b> '
        f"{_bar(state, widest)} "
        f'<span style="opacity:.8">{escape(numbers(state.usage))}</span>'
        f"{_quote(written)}</summary>"
        f'<div style="{_TEXT}">{"".join(map(_span, state.written))}</div>'
        f'<div style="{_BRANCHES}">'
    )


def _quote(text: str) -> str:
    said = escape(printable(snippet(text)))
    return f'<br/><i style="margin-left:18px">“{said}”</i>' if said else ""


def _bar(state: FinishedState, widest: int) -> str:
    usage = state.usage
    parts = (usage.prompt_reused, usage.prompt_computed, usage.generated)
    pieces = (
        f'<span style="display:inline-block;height:.75em;width:{count * _BAR / widest:.1f}px;'
        f'background:{colour}"></span>'
        for count, colour in zip(parts, COLOURS.values(), strict=True)
    )
    return f'<span role="img" aria-label="{escape(numbers(usage))}">{"".join(pieces)}</span>'


def _span(span: Span) -> str:
    text = escape(printable(span.text))
    return f'<mark style="{_GENERATED}">{text}</mark>' if span.generated else text


def _legend() -> str:
    keys = " &#8195; ".join(
        f'<span style="display:inline-block;height:.75em;width:.75em;background:{colour}"></span>'
        f" {name}"
        for name, colour in COLOURS.items()
    )
    return f'<div style="margin-top:6px">{keys}</div>'
