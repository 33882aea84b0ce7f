"""What is answered leaves nothing to the garbage collector: everybody waits while it looks."""

import gc
from typing import Any

import pytest

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve

SOURCE = 'program p(a: str):\n    "{a}"\n    gen b(max_tokens=3, ignore_eos=true)\n'
ASKS: dict[str, tuple[dict[str, Any], int]] = {
    "done": ({"source": SOURCE, "arguments": {"a": "x"}}, 200),
    "refused": ({"source": SOURCE, "arguments": {"a": "x"}}, 503),
}


@pytest.mark.parametrize("name", ASKS)
def test_many_answers_leave_next_to_nothing(byte_tokenizer: Tokenizer, name: str) -> None:
    ask, status = ASKS[name]

    async def body(served: Served) -> None:
        turns = served.app.state.server.runs.turns
        turns.closed = status == 503  # it drains: the shortest way to a refusal

        async def some() -> None:
            for _ in range(20):
                assert (await served.client.post("/v1/programs", json=ask)).status_code == status

        await some()
        gc.collect()
        gc.disable()
        try:
            await some()
            left = gc.collect()
        finally:
            gc.enable()
            turns.closed = False
        assert left < 20 * 5, "each would leave a hundred and more"

    serve(byte_tokenizer, body)
