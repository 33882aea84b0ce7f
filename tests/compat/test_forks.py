"""Branches: forks, groups, joins, copies."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from tests.compat.conftest import Scripted


def run(body: Callable[..., Any], backend: Scripted) -> Any:
    return sgl.function(body).run(backend=backend)


def test_branches_run_side_by_side(scripted: Scripted) -> None:
    scripted.delay = 0.1

    def body(s: Any) -> None:
        s += "list:"
        forks = s.fork(8)
        for i, fork in enumerate(forks):
            fork += f" item {i}" + sgl.gen("item")
        forks.join()

    begin = time.monotonic()
    state = run(body, scripted)
    assert state["item"] == ["ok"] * 8
    assert time.monotonic() - begin < 0.5
    assert state.text() == "list:"
    assert sorted(scripted.seen) == [f"list: item {i}" for i in range(8)]


def test_a_fork_of_several_hints_what_is_shared(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        s += "shared"
        s.fork(2)
        s.fork(1)

    run(body, scripted)
    assert scripted.hints == ["shared"]


def test_a_branch_begins_with_all_that_is_there(scripted: Scripted) -> None:
    def body(s: Any) -> Any:
        s += sgl.user("Hi") + sgl.assistant_begin() + sgl.gen("x")
        fork = s.fork(1)[0]
        fork += sgl.assistant_end()
        return fork

    fork = run(body, scripted).ret_value
    assert fork["x"] == "ok"
    assert fork.get_meta_info("x") is None
    assert fork.messages()[-1] == {"role": "assistant", "content": "ok"}


def test_groups_take_expressions_lists_and_functions(scripted: Scripted) -> None:
    def body(s: Any) -> Any:
        forks = s.fork(2)
        forks += "a" + sgl.gen("x")
        forks += ["b", "c"]
        forks += lambda i: f"{i}"
        forks[0] += "!"
        return [fork.text() for fork in forks]

    assert run(body, scripted).ret_value == ["aokb0!", "aokc1"]


def test_what_a_group_does_not_take(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        forks = s.fork(2)
        with pytest.raises(ValueError, match="plain"):
            forks += "plain"
        with pytest.raises(ValueError, match="1 things"):
            forks += ["one"]
        with pytest.raises(AssertionError):
            forks[0] = s
        with pytest.raises(TypeError):
            len(forks)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="mode"):
            forks.join("gather")
        extended: list[Any] = []
        extended.extend(forks)
        assert len(extended) == 2

    run(body, scripted)


def test_join_gathers_what_the_parent_has_not(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        s += sgl.gen("old")
        forks = s.fork(3)
        forks[0] += sgl.gen("old") + sgl.gen("new")
        forks[2] += sgl.gen("new") + sgl.gen("late")
        forks.join()

    state = run(body, scripted)
    assert state["old"] == "ok"
    assert state["new"] == ["ok", "ok"]
    assert state["late"] == ["ok"]


def test_nested_joins_nest_lists(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        outer = s.fork(2)
        for i, fork in enumerate(outer):
            inner = fork.fork(i + 1)
            inner += sgl.gen("x")
            inner.join()
        outer.join()

    assert run(body, scripted)["x"] == [["ok"], ["ok", "ok"]]


def test_concate_and_append_takes_the_texts_in_order(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        s += "start"
        forks = s.fork(2)
        forks += lambda i: f" {i}" + sgl.gen("x")
        forks.join("concate_and_append")
        s += "."

    assert run(body, scripted).text() == "start 0ok 1ok."


def test_a_copy_is_joined_at_its_end(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        s += "a"
        with s.copy() as tmp:
            tmp += "b" + sgl.gen("x")
        s += "c"

    state = run(body, scripted)
    assert state["x"] == ["ok"]
    assert state.text() == "ac"


def test_everything_ends_with_the_program(scripted: Scripted) -> None:
    def body(s: Any) -> None:
        s += "a"
        forks = s.fork(2)
        forks += sgl.gen("x")  # never joined
        s.keep = forks

    state = run(body, scripted)
    deadline = time.monotonic() + 5
    while len(scripted.ended) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert sorted(scripted.ended) == ["a", "aok", "aok"]
    assert state.stream_executor.is_finished
