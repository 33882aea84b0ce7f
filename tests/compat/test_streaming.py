"""Text as it comes: of a whole state and of one variable, for threads and for coroutines."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from tests.compat.conftest import Scripted


@sgl.function
def two(s: Any) -> None:
    s += "Q:"
    s += sgl.gen("a")
    s += " then "
    s += sgl.gen("b")


def test_the_whole_text_comes_with_the_prompt(scripted: Scripted) -> None:
    state = two.run(stream=True)
    pieces = list(state.text_iter())
    assert "".join(pieces) == "Q:ok then ok"
    assert state.text() == "Q:ok then ok"


def test_a_variable_comes_while_it_is_written() -> None:
    backend = Scripted("slowly")
    backend.delay = 0.02
    state = two.run(stream=True, backend=backend)
    begin = time.monotonic()
    arrived = [(piece, time.monotonic() - begin) for piece in state.text_iter("b")]
    assert "".join(piece for piece, _ in arrived) == "slowly"
    assert len(arrived) > 2
    assert arrived[-1][1] - arrived[0][1] > 0.04


def test_an_unknown_variable_gives_nothing(scripted: Scripted) -> None:
    assert list(two.run(stream=True).text_iter("nobody")) == [""]


def test_a_variable_of_a_stream_can_be_read_at_once(scripted: Scripted) -> None:
    @sgl.function
    def late(s: Any) -> None:
        time.sleep(0.05)
        s += "Q:" + sgl.gen("a")

    assert late.run(stream=True)["a"] == "ok"
    assert late.run(stream=True).get_meta_info("a")["completion_tokens"] == 2
    with pytest.raises(KeyError):
        late.run(stream=True)["nobody"]


def test_without_stream_there_is_one_piece(scripted: Scripted) -> None:
    state = two.run()
    assert list(state.text_iter()) == ["Q:ok then ok"]
    assert list(state.text_iter("a")) == ["ok"]


def test_several_readers_see_all_of_it(scripted: Scripted) -> None:
    state = two.run(stream=True)
    assert ["".join(state.text_iter()) for _ in range(2)] == ["Q:ok then ok"] * 2
    assert "".join(state.text_iter("a")) == "ok"


def test_a_select_and_a_scope_can_be_streamed(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        with s.var_scope("both"):
            s += "x" + sgl.select("c", ["no", "yes"])

    state = program.run(stream=True)
    assert "".join(state.text_iter("c")) == "yes"
    assert "".join(state.text_iter("both")) == "xyes"


class Breaking(Scripted):
    def generate_stream(self, s: Any, sampling_params: Any) -> Iterator[tuple[str, Any]]:
        yield "par", {}
        raise ConnectionError("the line broke")


def test_an_error_ends_the_stream_for_who_reads_it() -> None:
    state = two.run(stream=True, backend=Breaking())
    with pytest.raises(ConnectionError, match="the line broke"):
        list(state.text_iter("a"))
    pieces: list[str] = []
    with pytest.raises(ConnectionError):
        pieces.extend(state.text_iter())
    assert "".join(pieces) == "Q:par"
    with pytest.raises(ConnectionError):
        state["a"]


def test_an_error_of_a_streamed_body_reaches_the_reader(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "text"
        raise LookupError("in the body")

    state = program.run(stream=True)
    with pytest.raises(LookupError, match="in the body"):
        list(state.text_iter())
    assert isinstance(state.error(), LookupError)


def test_coroutines_stream_many_states_at_once() -> None:
    backend = Scripted("abcdefgh")
    backend.delay = 0.01

    async def read(state: Any) -> str:
        return "".join([piece async for piece in state.text_async_iter("b")])

    async def main() -> list[str]:
        states = [two.run(stream=True, backend=backend) for _ in range(30)]
        return await asyncio.gather(*map(read, states))

    begin = time.monotonic()
    assert asyncio.run(main()) == ["abcdefgh"] * 30
    assert time.monotonic() - begin < 3


def test_coroutines_get_log_probabilities_of_each_piece(scripted: Scripted) -> None:
    async def read() -> list[tuple[str, Any]]:
        state = two.run(stream=True)
        return [pair async for pair in state.text_async_iter("a", return_meta_data=True)]

    pairs = asyncio.run(read())
    tokens = [entry for _, meta in pairs for entry in meta["output_token_logprobs"]]
    assert tokens == [[-1.0, 0, "o"], [-1.0, 1, "k"]]
    assert two.run(stream=True).get_meta_info("missing") is None


def test_the_log_probabilities_of_a_stream_are_all_there_at_its_end(scripted: Scripted) -> None:
    state = two.run(stream=True)
    "".join(state.text_iter())
    assert [entry[2] for entry in state.get_meta_info("b")["output_token_logprobs"]] == ["o", "k"]


def test_a_coroutine_reads_what_does_not_stream(scripted: Scripted) -> None:
    async def read() -> list[Any]:
        state = two.run()
        return [piece async for piece in state.text_async_iter("a", return_meta_data=True)]

    assert asyncio.run(read()) == [("ok", {"completion_tokens": 2})]
