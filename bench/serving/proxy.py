"""A proxy on loopback that makes a network of some length: bytes take `DELAY` seconds each way.

    python bench/serving/proxy.py TO_PORT DELAY

Prints its port. A client of a real network learns only after a round trip that it is connected; on
loopback it sends at once. So what comes in the first round trip of a connection goes on as if it
had been sent at its end. Ends when stdin does.
"""

import asyncio
import sys
from contextlib import suppress

CHUNK = 1 << 16


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, connected: float
) -> None:
    """Bytes in their order, each `delay` seconds after it came, none as if before `connected`."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        data = b"some"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""  # it is gone, and so is the other one as soon as it has what came
            under_way.put_nowait((max(loop.time(), connected) + delay, data))

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one side is gone; so is the other now
    finally:
        taking.cancel()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def proxy(port: int, delay: float) -> asyncio.Server:
    """Listens on a port of its own, for whoever then sends to that one."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = asyncio.get_running_loop().time() + 2 * delay
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):  # the proxy ends
            await asyncio.gather(
                carry(reader, far_writer, delay, connected), carry(far_reader, writer, delay, 0.0)
            )

    return await asyncio.start_server(meet, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    return server.sockets[0].getsockname()[1]


async def main() -> None:
    server = await proxy(int(sys.argv[1]), float(sys.argv[2]))
    print(port_of(server), flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
