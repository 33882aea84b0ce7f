"""Batches of runs, and the constant text that they share."""

import threading
import time
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from tests.compat.conftest import Scripted

SHOTS = "Q: What is the capital of France?\nA: Paris\n" * 3


@sgl.function
def few_shot(s: Any, question: str, unit: str = "") -> None:
    s += SHOTS
    s += "Q: " + question + unit + "\nA:" + sgl.gen("answer")


def test_items_by_name_and_in_order(scripted: Scripted) -> None:
    states = few_shot.run_batch([{"question": "a"}, ("b",), ["c", "m"]], max_new_tokens=3)
    assert [state.text()[len(SHOTS) :] for state in states] == [
        "Q: a\nA:ok",
        "Q: b\nA:ok",
        "Q: cm\nA:ok",
    ]
    assert all(state.error() is None for state in states)
    assert scripted.params[0].max_new_tokens == 3
    assert few_shot.run_batch([]) == []


def test_the_constant_text_is_computed_first(scripted: Scripted) -> None:
    few_shot.run_batch([("a",)])
    assert scripted.prefixes == []
    few_shot.run_batch([("a",), ("b",)])
    assert scripted.prefixes == [SHOTS + "Q: "]
    few_shot.cache()
    assert len(scripted.prefixes) == 2


def test_short_or_unknown_text_is_no_prefix(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any, items: list[str]) -> None:
        s += "short"
        for item in items:
            s += item * 100

    program.run_batch([(["a"],), (["b"],)])
    assert scripted.prefixes == []


def test_a_wrong_item_is_refused(scripted: Scripted) -> None:
    with pytest.raises(Exception, match="Given arguments mismatch"):
        few_shot.run_batch([("a", "b", "c")])
    with pytest.raises(TypeError, match="temprature"):
        few_shot.run_batch([("a",)], temprature=0)


def test_errors_of_bodies_come_out_and_errors_of_generations_stay() -> None:
    def answer(text: str) -> str:
        if "bad" in text:
            raise ConnectionError("gone")
        return "ok"

    good, bad = few_shot.run_batch([("good",), ("bad",)], backend=Scripted(answer))
    assert good["answer"] == "ok"
    with pytest.raises(ConnectionError):
        bad["answer"]

    @sgl.function
    def program(s: Any, n: int) -> None:
        s += sgl.gen("x")
        if n == 1:
            raise LookupError("in the body")

    with pytest.raises(LookupError):
        program.run_batch([{"n": 0}, {"n": 1}], backend=Scripted())


def test_bodies_wait_side_by_side(scripted: Scripted) -> None:
    scripted.delay = 0.1
    begin = time.monotonic()
    few_shot.run_batch([(str(i),) for i in range(50)], progress_bar=True)
    assert time.monotonic() - begin < 1.5


def test_one_thread_runs_one_after_the_other(scripted: Scripted) -> None:
    running = most = 0
    lock = threading.Lock()

    def answer(text: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return "ok"

    scripted.answer = answer
    few_shot.run_batch([(str(i),) for i in range(5)], num_threads=1)
    assert most == 1


def test_a_generator_hands_out_states_in_order(scripted: Scripted) -> None:
    states = few_shot.run_batch([(str(i),) for i in range(5)], generator_style=True)
    assert not isinstance(states, list)
    first = next(states)
    assert "Q: 0" in first.text()
    assert ["Q: " + str(i) in state.text() for i, state in enumerate(states, 1)] == [True] * 4
    stopped = few_shot.run_batch([(str(i),) for i in range(5)], generator_style=True)
    assert not isinstance(stopped, list)
    next(stopped)
    stopped.close()


def test_what_is_drawn_depends_on_the_place_and_not_on_the_time(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> list[str]:
        s += "a" + sgl.gen("x")
        forks = s.fork(2)
        inner = forks[1].fork(1)
        return [s.stream_executor.place, *(f.stream_executor.place for f in (*forks, inner[0]))]

    states = [program.run(), program.run(), *program.run_batch([{}, {}])]
    numbers = [int(state.ret_value[0]) for state in states]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    root, *branches = states[0].ret_value
    assert branches == [f"{root}/1.1.0", f"{root}/1.1.1", f"{root}/1.1.1/0.1.0"]
