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
