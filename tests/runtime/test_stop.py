"""A stop is found however the text is cut, and nothing after it is ever shown."""

import random
import re
from itertools import combinations, pairwise

import pytest

from ramet.params import SamplingParams
from ramet.runtime import stop as stop_module
from ramet.runtime.errors import GenerationError, RequestError
from ramet.runtime.stop import Release, StopChecker


def run(params: SamplingParams, deltas: list[str]) -> tuple[str, Release]:
    """What was shown in all, and the last release. One delta is one token."""
    checker, shown = StopChecker(params), ""
    for count, delta in enumerate(deltas, start=1):
        release = checker.push(delta, count)
        shown += release.text
        if release.stopped:
            return shown, release
    last = checker.finish("", len(deltas))
    return shown + last.text, last


def expected(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The shown text and the stop, letter by letter, the slow way."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            first = max(complete, key=len)
            return text[: end - len(first)], first
    return text, None


def every_split(text: str) -> list[list[str]]:
    inner = range(1, len(text))
    return [
        [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
        for count in range(len(text))
        for cuts in combinations(inner, count)
    ]


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("ab</s>cd", ("</s>",)),
        ("a\n\nb\nc", ("\n\n",)),
        ("abcde", ("b", "abc")),  # the shorter is complete first
        ("xabc", ("bc", "abc")),  # both at once: the one that begins first
        ("aaab", ("aab",)),
        ("ababac", ("abac",)),
        ("né😀é!", ("😀é",)),
        ("aXbYc", ("Y", "X")),
        ("stop", ("stop",)),
        ("nothing", ("nothings", "z")),
        ("aaaa", ("aa",)),
    ],
)
def test_every_split_finds_the_same_stop(text: str, stops: tuple[str, ...]) -> None:
    shown, stop = expected(text, stops)
    for deltas in every_split(text):
        got, release = run(SamplingParams(stop=stops), deltas)
        assert (got, release.stop) == (shown, stop)
        assert release.cut == (None if stop is None else len(shown))
        assert release.stopped == (stop is not None)


def test_random_texts_of_few_letters_over_many_stops() -> None:
    rng = random.Random(21)
    for _ in range(3000):
        text = "".join(rng.choice("ab😀") for _ in range(rng.randrange(20)))
        stops = tuple(
            "".join(rng.choice("ab😀") for _ in range(rng.randrange(1, 6)))
            for _ in range(rng.randrange(1, 16))
        )
        edges = sorted(rng.randint(0, len(text)) for _ in range(rng.randrange(8)))
        deltas = [text[a:b] for a, b in pairwise([0, *edges, len(text)])]
        shown, release = run(SamplingParams(stop=stops), deltas)
        assert (shown, release.stop) == expected(text, stops)


def test_only_the_beginning_of_a_stop_is_held() -> None:
    rng = random.Random(22)
    stops = ("abcd", "bcx", "😀😀😀")
    for _ in range(500):
        checker, text, shown = StopChecker(SamplingParams(stop=stops)), "", ""
        for count in range(1, 30):
            delta = "".join(rng.choice("abcdx😀") for _ in range(rng.randrange(4)))
            release = checker.push(delta, count)
            text, shown = text + delta, shown + release.text
            if release.stopped:
                break
            held = text[len(shown) :]
            assert len(held) < max(map(len, stops))
            assert not held or any(stop.startswith(held) for stop in stops)
            assert not any(stop.startswith(text[at:]) for stop in stops for at in range(len(shown)))


def test_without_stops_nothing_is_held() -> None:
    checker = StopChecker(SamplingParams())
    assert checker.push("abc", 1) == Release("abc")
    assert checker.finish("d", 2) == Release("d")


def test_the_end_releases_what_was_held() -> None:
    checker = StopChecker(SamplingParams(stop="</s>"))
    assert checker.push("a</", 1).text == "a"
    assert checker.finish("s", 2) == Release("</s")


def test_the_end_can_complete_a_stop() -> None:
    checker = StopChecker(SamplingParams(stop="</s>"))
    checker.push("a</s", 1)
    assert checker.finish(">b", 2) == Release("", "</s>", 1)


def test_a_stop_before_min_tokens_is_text() -> None:
    params = SamplingParams(stop=("X", "aXa"), min_tokens=3)
    assert run(params, ["X", "X", "b", "X", "c"]) == ("XXb", Release("", "X", 3))
    shown, release = run(params, ["aX", "q", "X"])
    assert (shown, release.cut) == ("aXq", 3)
    shown, release = run(params, ["a", "X", "a"])
    assert (shown, release.stop) == ("", "aXa")


def test_a_pattern_before_min_tokens_is_text() -> None:
    params = SamplingParams(stop_regex=r"\d+", min_tokens=3)
    shown, release = run(params, ["1", "22", "a", "b3", "c"])
    assert (shown, release.cut) == ("122ab", 5)


@pytest.mark.parametrize(
    ("pattern", "text", "shown"),
    [
        (r"\d\d", "ab1c23d", "ab1c"),
        (r"abc|b", "abcd", "a"),
        (r"(?<=x)y", "yxyz", "yx"),
        (r"\bend\b", "bend end ", "bend "),
        (r"foo(?=bar)", "foobaz foobar", "foobaz "),
        (r"\.$", "a.b", "a"),
        (r"a.*b", "xaccb", "x"),
        (r"(?i)stop", "go STOP", "go "),
        (r"zz", "zaz", "zaz"),
    ],
)
def test_every_split_finds_the_same_match(pattern: str, text: str, shown: str) -> None:
    for deltas in every_split(text)[:600]:
        got, release = run(SamplingParams(stop_regex=pattern), deltas)
        assert got == shown
        assert release.stop == (None if shown == text else pattern)


def test_patterns_equal_strings_where_they_say_the_same() -> None:
    rng = random.Random(23)
    for _ in range(500):
        text = "".join(rng.choice("ab") for _ in range(12))
        stop = "".join(rng.choice("ab") for _ in range(rng.randrange(1, 5)))
        edges = sorted(rng.randint(0, 12) for _ in range(4))
        deltas = [text[a:b] for a, b in pairwise([0, *edges, 12])]
        strings = run(SamplingParams(stop=stop), deltas)
        pattern = run(SamplingParams(stop_regex=re.escape(stop)), deltas)
        assert strings[0] == pattern[0]


def test_strings_and_a_pattern_race_to_be_complete() -> None:
    params = SamplingParams(stop="END", stop_regex=r"\d{2}")
    for deltas in every_split("a1ND12END"):
        assert run(params, deltas) == ("a1ND", run(params, deltas)[1])
    assert run(params, ["xEND12"])[1].stop == "END"


def test_a_copy_goes_its_own_way() -> None:
    first = StopChecker(SamplingParams(stop="ab", stop_regex="xyz"))
    assert first.push("1a", 1).text == "1"
    first.push("", 1)
    second = first.copy()
    assert first.push("b", 2).stopped
    assert second.push("x", 2).text == "a"
    assert second.push("yz", 3) == Release("", "xyz", 2)


@pytest.mark.parametrize("pattern", [r"(a|aa)+[bc]", r"(a|a)*c"])
def test_a_hostile_pattern_is_cut_short(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "_SECONDS_A_CHECK", 0.01)
    checker = StopChecker(SamplingParams(stop_regex="q" + pattern))
    assert checker.push("q", 1).text == ""
    with pytest.raises(GenerationError, match="takes too long"):
        checker.push("a" * 60 + "!", 2)


def test_all_slow_checks_of_a_text_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "_SECONDS_A_TEXT", 0.0)
    with pytest.raises(GenerationError, match="takes too long"):
        StopChecker(SamplingParams(stop_regex="(a|aa)+b")).push("a" * 50 + "!", 1)


@pytest.mark.parametrize("pattern", ["((a{999}){999}){999}", "x{1000000}", "(abc{999}){999}"])
def test_a_pattern_too_large_to_compile_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError, match="repeats too much"):
        StopChecker(SamplingParams(stop_regex=pattern))
