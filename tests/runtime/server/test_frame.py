"""Keys, bodies, errors and health, whatever the route."""

import pytest

from ramet.runtime.server.config import ConfigError, ServerConfig
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_others_are_let_near_only_with_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        ServerConfig(host=host)
    assert ServerConfig(host=host, keys={"k": "me"}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(host: str) -> None:
    assert ServerConfig(host=host).keys == {}


def test_a_config_shows_no_key() -> None:
    assert "hush" not in repr(ServerConfig(keys={"hush": "me"}))


@pytest.mark.parametrize(
    "wrong",
    [{"port": 70_000}, {"n": 0}, {"wait_s": 0.0}, {"keys": {"": "a"}}, {"keys": {"ä": "a"}}],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ServerConfig(**wrong)  # type: ignore[arg-type]


def test_health_and_ready_answer_without_a_key(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for path in ("/health", "/ready"):
            answer = await served.client.get(path)
            assert answer.status_code == 200
            assert answer.json() == {"status": "ok"}
            assert answer.headers["x-request-id"].startswith("req_")

    serve(byte_tokenizer, body, keys={"secret": "me"})


def test_who_is_not_well_says_when_to_ask_again(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        assert (await served.client.get("/ready")).status_code == 200
        served.app.state.server.health.trouble = "a step takes too long"
        for path in ("/health", "/ready"):
            answer = await served.client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        served.app.state.server.health.trouble = None
        served.app.state.server.runs.turns.closed = True
        answer = await served.client.get("/ready")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    serve(byte_tokenizer, body)
