"""One connection of the HTTP side: what is written to it, and when it is cut."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES = 65_536
"""Of a request."""

_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


class Wire(h11.Connection):
    """What h11 says, with less work for it.

    The head of an answer that is whole goes out together with its body: each write is a system
    call, which takes about as long as all else that makes a refusal. A chunk of a stream, of which
    there is one for every token, is written at once where h11 has nothing to check.
    """

    _head = b""
    _chunked = False

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        if isinstance(event, h11.Data) and self._chunked and event.data:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        data: bytes | None = super().send(event)
        if isinstance(event, h11.Response):
            self._chunked = _CHUNKED in (data or b"").lower()
            if b"content-length" in dict(event.headers):
                self._head, data = data or b"", b""
        elif self._head and data is not None:
            self._head, data = b"", self._head + data
        self._chunked &= self.our_state is h11.SEND_BODY
        return data


class Connection(H11Protocol):
    """One connection; it is cut when what was sent stays unread, or no head of a request comes, for
    as long as a client may take.

    Answers that are whole already wait in its buffer, where no timeout of a route reaches them.
    """

    _cut: asyncio.TimerHandle | None = None
    _headless: asyncio.TimerHandle | None = None  # until the head of a request is there

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = Wire(h11.SERVER, HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._headless = self._cut_later()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._headless is not None:
            self._headless.cancel()
            self._headless = None
        elif not answering and self._headless is None:
            self._headless = self._cut_later()

    @property
    def busy(self) -> bool:
        """Whether an answer is not sent whole yet."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self.unsent > 0

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to take those before."""
        return self.transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self._cut_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._keep()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._keep()
        if self._headless is not None:
            self._headless.cancel()

    def _cut_later(self) -> asyncio.TimerHandle:
        app: Any = self.config.app
        return self.loop.call_later(app.state.server.config.stall_s, self.transport.abort)

    def _keep(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
