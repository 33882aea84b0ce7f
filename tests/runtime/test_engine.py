"""The engine in the caller's thread: batches, streams, the default engine, and its end."""

import threading
from typing import Any

import pytest

import ramet
from ramet.runtime import Engine, Event, Finished, TextDelta, ValueBound
from ramet.runtime.errors import EngineClosed, PromptError
from tests.runtime.conftest import ToyEngine, all_back, toy_words


@pytest.fixture
def engine(toy_engine: ToyEngine) -> Engine:
    return toy_engine()


def gen(name: str, count: int = 4, **fields: Any) -> Any:
    return ramet.gen(name, max_tokens=count, ignore_eos=True, **fields)


@ramet.program
def plain(s: ramet.State, text: str, count: int = 4) -> object:
    s += text
    s += gen("x", count)
    return s["x"]


@ramet.program
def branching(s: ramet.State) -> object:
    s += "go "
    branches = s.fork(2)
    for index, branch in enumerate(branches):
        branch += f"{index} "
        branch += gen("b", 3)
    s += branches["b"].join(" ")
    s += gen("c", 3)
    s += ramet.select("d", [" yes", " no"])
    return s["c"]


def test_results_come_in_the_order_of_the_arguments(engine: Engine) -> None:
    """The first takes longest."""
    arguments = [{"text": f"item {index}", "count": 20 - index} for index in range(12)]
    results = engine.run_batch(plain, arguments)
    for item, result in zip(arguments, results, strict=True):
        assert isinstance(result, Finished)
        assert result.value == toy_words(engine.tokenizer, item["text"], item["count"])
    assert all_back(engine.core)


def test_a_run_is_over_with_its_last_step(engine: Engine) -> None:
    short = engine.start(plain, {"text": "a", "count": 2})
    long = engine.start(plain, {"text": "b", "count": 6})
    over: list[tuple[int, Any]] = []
    while not long.done:
        active = [run for run in (short, long) if not run.done]
        over += [(engine.stats().steps, run) for run in engine.round(active)]
    assert over == [(2, short), (6, long)]
    assert all_back(engine.core)


def test_one_items_error_does_not_end_the_others(engine: Engine) -> None:
    results = engine.run_batch(
        plain, [{"text": "a"}, {"text": ""}, {}, {"text": 5}, {"txet": "a"}, {"text": "b"}]
    )
    assert [type(result).__name__ for result in results] == [
        "Finished",
        "PromptError",
        "ArgumentError",
        "ArgumentError",
        "ArgumentError",
        "Finished",
    ]
    assert all_back(engine.core)


@pytest.mark.parametrize("concurrency", [1, 3, 100])
def test_no_more_programs_than_allowed_are_under_way(engine: Engine, concurrency: int) -> None:
    under_way, most = 0, 0

    @ramet.program
    def counted(s: ramet.State, text: str) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        s += text
        s += gen("x")
        len(s["x"])
        under_way -= 1

    engine.run_batch(counted, [{"text": str(i)} for i in range(10)], concurrency=concurrency)
    assert most == min(concurrency, 10)


def test_a_batch_runs_together(engine: Engine) -> None:
    engine.run_batch(plain, [{"text": f"{i} " * 3} for i in range(20)])
    assert engine.stats().steps < 8


def test_a_batch_of_nothing(engine: Engine) -> None:
    assert engine.run_batch(plain, []) == []


def test_items_of_a_batch_draw_apart(engine: Engine) -> None:
    @ramet.program
    def dice(s: ramet.State) -> object:
        s += "dice"
        s += gen("x", 8, temperature=1.0)
        return s["x"]

    results = [result.value for result in engine.run_batch(dice, [{}] * 4)]  # type: ignore[union-attr]
    assert len(set(results)) == 4
    assert results[0] == engine.run(dice).value
    again = [result.value for result in engine.run_batch(dice, [{}] * 4, concurrency=1)]  # type: ignore[union-attr]
    assert again == results


def test_progress_is_shown_when_it_is_asked_for(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.run_batch(plain, [{"text": "a"}])
    assert capsys.readouterr() == ("", "")
    engine.run_batch(plain, [{"text": "a"}], progress=True)
    assert "plain" in capsys.readouterr().out


# -- streams


def test_the_order_of_events(engine: Engine) -> None:
    """Deltas of a variable before its value, and values in the order in which they are bound."""
    stream = engine.stream(branching)
    events = [event for event in stream if isinstance(event, TextDelta | ValueBound)]
    finished = stream.result()

    bound = [(event.name, event.path) for event in events if isinstance(event, ValueBound)]
    assert sorted(bound[:2]) == [("b", "/1.0"), ("b", "/1.1")]
    assert bound[2:] == [("c", ""), ("d", "")]
    texts: dict[tuple[str, str], str] = {}
    done: dict[tuple[str, str], object] = {}
    for event in events:
        key = (event.name, event.path)
        assert key not in done, "nothing comes after the value"
        if isinstance(event, TextDelta):
            assert event.text
            texts[key] = texts.get(key, "") + event.text
        else:
            done[key] = event.value
    assert texts == {key: value for key, value in done.items() if key[0] != "d"}
    assert done["c", ""] == finished.value == finished["c"]
    names = {event.node: event.name for event in events}
    for node, name in names.items():
        assert finished.graph.nodes[node].name == name  # type: ignore[attr-defined]


def test_deltas_come_while_it_runs(engine: Engine) -> None:
    stream = engine.stream(plain, text="abc", count=30)
    first = next(event for event in stream if isinstance(event, TextDelta))
    assert first.text
    assert engine.stats().steps < 5
    assert stream.result().value == toy_words(engine.tokenizer, "abc", 30)


def test_samples_are_told_apart(engine: Engine) -> None:
    @ramet.program
    def three(s: ramet.State) -> object:
        s += "pick"
        s += gen("x", 6, n=3, temperature=1.0)
        return s["x"]

    stream = engine.stream(three)
    texts = ["", "", ""]
    for event in stream:
        if isinstance(event, TextDelta):
            texts[event.sample] += event.text
    assert texts == stream.result().value


def test_a_streams_result_without_its_events(engine: Engine) -> None:
    assert engine.stream(plain, "abc").result().value == toy_words(engine.tokenizer, "abc", 4)


def test_a_stream_raises_what_ended_the_run(engine: Engine) -> None:
    stream = engine.stream(plain, text="")
    with pytest.raises(PromptError):
        list(stream)
    with pytest.raises(PromptError):
        stream.result()
    assert all_back(engine.core)


def test_two_streams_in_turn(engine: Engine) -> None:
    streams = [engine.stream(plain, text=text, count=10) for text in ("one", "two")]
    events: list[list[Event]] = [[], []]
    while any(events_left := [next(stream, None) for stream in streams]):
        for found, event in zip(events, events_left, strict=True):
            if event is not None:
                found.append(event)
    for text, stream in zip(("one", "two"), streams, strict=True):
        assert stream.result().value == toy_words(engine.tokenizer, text, 10)
    assert all_back(engine.core)


# -- plain prompts


def test_generate_goes_on_from_prompts(engine: Engine) -> None:
    results = engine.generate(["one", "two", ""], max_tokens=5, ignore_eos=True)
    assert [result["text"] for result in results[:2] if isinstance(result, Finished)] == [
        toy_words(engine.tokenizer, text, 5) for text in ("one", "two")
    ]
    assert isinstance(results[2], PromptError)
    (single,) = engine.generate("one", max_tokens=5, ignore_eos=True)
    assert isinstance(single, Finished)
    assert single["text"] == toy_words(engine.tokenizer, "one", 5)


def test_generate_checks_its_parameters_first(engine: Engine) -> None:
    with pytest.raises(ramet.ParameterError, match="max_tokens"):
        engine.generate("one", max_tokens=-1)
    assert engine.stats().steps == 0


# -- the default engine, and the end


def test_the_engine_of_a_with_block_is_the_default(engine: Engine) -> None:
    wanted = toy_words(engine.tokenizer, "abc", 4)
    with pytest.raises(ramet.RametError, match="no engine to run 'plain' with"):
        plain.run(text="abc")
    with engine as entered:
        assert entered is engine
        assert plain.run(text="abc").value == wanted
        assert plain.run_batch([{"text": "abc"}])[0].value == wanted
        assert plain.stream(text="abc").result().value == wanted
    with pytest.raises(ramet.RametError, match="no engine"):
        plain.run(text="abc")
    with pytest.raises(EngineClosed):
        engine.run(plain, text="abc")


def test_the_innermost_engine_is_the_default(toy_engine: ToyEngine) -> None:
    with toy_engine() as outer:
        with toy_engine() as inner:
            plain.run(text="abc")
            assert (outer.stats().steps, inner.stats().steps) == (0, 4)
        plain.run(text="abc")
        assert outer.stats().steps == 4


def test_threads_are_served_one_after_the_other(engine: Engine) -> None:
    outcomes: dict[int, object] = {}

    def work(index: int) -> None:
        outcomes[index] = engine.run(plain, text=f"thread {index}", count=10).value

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {
        index: toy_words(engine.tokenizer, f"thread {index}", 10) for index in range(4)
    }
    assert all_back(engine.core)


def test_stats_say_what_was_done(engine: Engine) -> None:
    engine.run(plain, text="abc")
    stats = engine.stats()
    assert (stats.steps, stats.failed_steps, stats.tokens) == (4, 0, 6)
    assert (stats.waiting, stats.running, stats.sequences) == (0, 0, 0)
    assert (stats.cache.free, stats.cache.held) == (256, 0)


def test_a_body_that_computes_for_long_lets_others_go_first(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    busy = ramet.loads(
        "program p():\n    let n = 0\n    for i in range(90000):\n        let n = n + 1\n"
        '    "{n}"\n    gen a(max_tokens=2)'
    )
    other = ramet.loads('program p():\n    "x"\n    gen a(max_tokens=20, ignore_eos=true)')
    long, short = engine.start(busy, {}), engine.start(other, {})
    rounds = 0
    while not short.done:
        engine.round([long, short])
        rounds += 1
    assert not long.done
    assert rounds < 40
    while not long.done:
        engine.round([long])
    assert long.result().text.startswith("90000")
