"""The text of a run while it is written: whole lines, whoever writes when."""

import io

from rich.console import Console

from ramet.runtime.cli.live import Live, colour_of, label_of
from ramet.runtime.events import Event, TextDelta, ValueBound


def told(*events: Event, close: bool = True) -> str:
    file = io.StringIO()
    live = Live(Console(file=file, highlight=False, markup=False))
    for event in events:
        live.take(event)
    if close:
        live.close()
    return file.getvalue()


def delta(node: int, name: str, text: str, path: str = "", sample: int = 0) -> TextDelta:
    return TextDelta(node, name, path, text, sample)


def test_branches_that_write_by_turns_are_shown_one_after_the_other() -> None:
    events = [
        delta(5, "tip", "a", "/0.0"),
        delta(8, "tip", "x", "/0.1"),
        delta(5, "tip", "b", "/0.0"),
        delta(8, "tip", "y", "/0.1"),
        ValueBound(8, "tip", "/0.1", "xy"),
        delta(5, "tip", "c", "/0.0"),
        ValueBound(5, "tip", "/0.0", "abc"),
    ]
    assert told(*events[:4], close=False) == "tip[0] │ ab"
    assert told(*events) == "tip[0] │ abc\ntip[1] │ xy\n"


def test_what_waited_goes_on_as_it_is_written() -> None:
    events = [
        delta(1, "a", "one"),
        delta(2, "longer", "t", "/0.0"),
        ValueBound(1, "a", "", "one"),
        delta(2, "longer", "wo", "/0.0"),
    ]
    assert told(*events, close=False) == "a │ one\nlonger[0] │ two"


def test_lines_of_a_text_stay_beside_the_rule() -> None:
    assert told(delta(1, "ab", "x\ny"), delta(1, "ab", "\nz")) == "ab │ x\n   │ y\n   │ z\n"


def test_a_choice_has_no_text_but_a_value() -> None:
    assert told(ValueBound(1, "label", "", " yes")) == "label │  yes\n"
    assert told(ValueBound(1, "fit", "", -1.5)) == "fit │ -1.5\n"


def test_a_value_that_was_written_is_not_shown_again() -> None:
    assert told(delta(1, "n", "42"), ValueBound(1, "n", "", 42)) == "n │ 42\n"


def test_samples_are_told_apart_and_close_together() -> None:
    events = [
        delta(1, "x", "a", sample=0),
        delta(1, "x", "b", sample=1),
        ValueBound(1, "x", "", ["a", "b"]),
        delta(2, "y", "c"),
    ]
    assert told(*events) == "x │ a\nx(1) │ b\ny    │ c\n"


def test_a_sample_is_through_when_its_branch_begins() -> None:
    """The branch binds the name to what was written before it."""
    events = [
        delta(1, "x", "a", sample=0),
        delta(1, "x", "b", sample=1),
        ValueBound(2, "x", "/0.0", "a"),
        ValueBound(3, "x", "/0.1", "b"),
        delta(4, "y", "c", "/0.0"),
        ValueBound(4, "y", "/0.0", "c"),
    ]
    assert told(*events, close=False).splitlines() == ["x │ a", "x(1) │ b", "y[0] │ c"]


def test_what_was_not_finished_is_known() -> None:
    live = Live(None)
    for event in (delta(1, "a", "x"), ValueBound(1, "a", "", "x"), delta(2, "b", "y", "/0.1")):
        live.take(event)
    assert live.unfinished() == {"b[1]": "y"}


def test_without_a_console_it_can_show_at_the_end() -> None:
    live, file = Live(None), io.StringIO()
    live.take(delta(1, "a", "x"))
    live.close(Console(file=file))
    assert file.getvalue() == "a │ x\n"


def test_places_are_short_and_branches_differ_in_colour() -> None:
    assert label_of("x", "") == "x"
    assert label_of("x", "/2.0/1.13") == "x[0][13]"
    assert label_of("x", "/call2/0.1") == "x@call2[1]"
    assert colour_of("") == "bold"
    assert len({colour_of(f"/0.{index}") for index in range(6)}) == 6
