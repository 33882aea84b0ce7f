"""Several generators as one, in the order in which their items come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def merged(
    sources: Sequence[AsyncGenerator[T, None]],
) -> AsyncGenerator[tuple[int, T], None]:
    """Every item with the number of its source. The first error of one ends all; so does closing
    this early, which waits until all are closed."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as items:
            async for item in items:
                yield 0, item
        return
    come: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_carry(at, each, come)) for at, each in enumerate(sources)]
    try:
        left = len(tasks)
        while left:
            item = await come.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(
    number: int,
    source: AsyncGenerator[T, None],
    come: "asyncio.Queue[tuple[int, T] | Exception | None]",
) -> None:
    try:
        async with aclosing(source) as items:
            async for item in items:
                come.put_nowait((number, item))
    except Exception as error:
        come.put_nowait(error)
    else:
        come.put_nowait(None)
