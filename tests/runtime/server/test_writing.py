"""What the server writes to a connection, and what the collector is told while it serves."""

import gc

import h11
import pytest

from ramet.runtime import Engine, EngineConfig
from ramet.runtime.server import ServerConfig
from ramet.runtime.server.connection import Wire
from ramet.runtime.server.serve import serve
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel

ASK = b"%b / HTTP/1.1\r\nhost: a\r\n\r\n"


def asked(method: bytes, kind: type[h11.Connection] = Wire) -> h11.Connection:
    """A connection that was asked for something."""
    found = kind(h11.SERVER)
    found.receive_data(ASK % method)
    while not isinstance(found.next_event(), h11.EndOfMessage):
        pass
    return found


def answer(*headers: tuple[str, str]) -> h11.Response:
    return h11.Response(status_code=200, headers=[*headers], reason=b"OK")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_whole_answer_is_one_write(method: bytes) -> None:
    body = b"hello" if method == b"GET" else b""
    events = [answer(("content-length", "5")), h11.Data(data=body), h11.EndOfMessage()]
    ours, theirs = asked(method), asked(method, h11.Connection)
    sent = [ours.send(event) for event in events]
    assert [bool(each) for each in sent] == [False, True, False]
    assert b"".join(map(bytes, sent)) == b"".join(theirs.send(event) or b"" for event in events)
    ours.start_next_cycle()
    ours.receive_data(ASK % b"GET")
    while not isinstance(ours.next_event(), h11.EndOfMessage):
        pass
    assert ours.send(answer()), "the next answer is not held back with it"


def test_a_stream_is_what_h11_writes_and_begins_with_its_head() -> None:
    events: list[h11.Event] = [answer(("content-type", "text/event-stream"))]
    events += [h11.Data(data=b"x" * size) for size in (1, 15, 16, 0, 70_000)]
    events.append(h11.EndOfMessage())
    ours, theirs = asked(b"GET"), asked(b"GET", h11.Connection)
    sent = [ours.send(event) for event in events]
    assert sent == [theirs.send(event) for event in events]
    assert sent[0]
    with pytest.raises(h11.LocalProtocolError):
        ours.send(h11.Data(data=b"after its end"))


def test_what_is_there_when_a_server_begins_is_not_looked_at_again(
    byte_tokenizer: Tokenizer,
) -> None:
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=16))
    before = gc.get_threshold()
    found: list[int] = []

    def on_listen(url: str) -> None:
        found.extend((gc.get_freeze_count(), gc.get_threshold()[2]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(engine, ServerConfig(port=0), on_listen)
    assert found[0] > 10_000
    assert found[1] < before[2]
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
