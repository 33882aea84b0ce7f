"""HTTP/1.1 with as little work as can be: a client shares the machine with the server it measures.

Knows no route. What cannot be read as an answer raises `OSError`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One that came whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def post(path: str, body: object, key: str | None = None) -> bytes:
    """A request as bytes; `body` is sent as JSON, unless it is bytes already."""
    return request("POST", path, body, key)


def request(method: str, path: str, body: object = b"", key: str | None = None) -> bytes:
    """As `post`, for any method."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *([] if key is None else [f"Authorization: Bearer {key}"]),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


class Connection:
    """One connection, kept alive; one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._head = 0, dict[str, str]()

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=LIMIT))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.abort()
        with suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Gone at once, whatever is under way."""
        self._writer.transport.abort()

    @property
    def usable(self) -> bool:
        """Whether the other side has not ended it."""
        return not (self._reader.at_eof() or self._writer.transport.is_closing())

    async def ask(self, request: bytes) -> Answer:
        """The whole answer, also of a stream."""
        parts = [part async for part in self.parts(request)]
        return Answer(*self._head, b"".join(parts))

    async def parts(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """The body of the answer, as it comes; with the first part its `status` is known."""
        self._writer.write(request)
        head = await self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        named = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in named}
        self._head = int(first.split(" ", 2)[1]), headers
        if "content-length" in headers:
            yield await self._exactly(int(headers["content-length"]))
            return
        while size := int((await self._until(b"\r\n")).partition(b";")[0], 16):
            yield (await self._exactly(size + 2))[:-2]
        await self._until(b"\r\n")

    @property
    def status(self) -> int:
        """Of the answer that came last."""
        return self._head[0]

    async def _until(self, end: bytes) -> bytes:
        try:
            return await self._reader.readuntil(end)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the answer ended early") from error

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the answer ended early") from error


async def ask(port: int, request: bytes) -> Answer:
    """On a connection of its own."""
    async with await Connection.open(port) as connection:
        return await connection.ask(request)
