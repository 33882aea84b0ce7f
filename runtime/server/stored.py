"""Programs that a tenant stored under a name: checked and planned once, run often. In memory, and
where the server has a folder for them, on disk before that.
"""

import asyncio
import errno
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.shelf import Label, LibraryError, Shelf
from ramet.runtime.server.sources import Sent, described

log = logging.getLogger("ramet.server")

RETRY_S = 5.0
"""Seconds after which a client may try again what could not be written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One of them."""

    name: str
    program: AnyProgram
    plan: dict[str, Any]  # without arguments
    created: int  # seconds since the epoch
    size: int  # bytes, as it was sent

    def view(self, *, whole: bool = True) -> dict[str, Any]:
        """What a client sees of it."""
        found: dict[str, Any] = {
            "name": self.name,
            "object": "library.program",
            "program": self.program.name,
            "parameters": described(self.program)["parameters"],
            "created": self.created,
        }
        return found | {"plan": self.plan} if whole else found


class Library:
    """The stored programs of one server, by tenant."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises `LibraryError` if its folder cannot be used."""
        self._most = config.library
        self._most_bytes = config.library_bytes
        self._stored: dict[str, dict[str, Stored]] = {}
        self._shelf = None if config.library_folder is None else Shelf(config.library_folder)
        self._unread: dict[Path, int] = {}  # bytes of files that do not load: they count, too
        self._writing = asyncio.Lock()

    def load(self, read: Callable[[Sent], tuple[AnyProgram, dict[str, Any]]]) -> None:
        """Those on disk, checked and planned again. Takes time; before anybody asks.

        A file that does not load is told of in the log, left out, and left where it is.

        Args:
            read: the program, and its plan.
        """
        for file in [] if self._shelf is None else self._shelf.files():
            assert self._shelf is not None, "it has files"
            try:
                label, body = self._shelf.read(file)
                program, plan = read(Sent(**json.loads(body)))
            except Exception as error:  # whatever it is, the others load
                self._unread[file] = _size(file)
                why = str(error) if isinstance(error, LibraryError) else type(error).__name__
                place = file.relative_to(self._shelf.folder)
                log.warning("library: %s does not load, and is left out: %s", place, why)
                continue
            found = Stored(label.name, program, plan, label.created, len(body))
            self._stored.setdefault(label.tenant, {})[label.name] = found

    async def put(
        self, tenant: Tenant, name: str, program: AnyProgram, plan: dict[str, Any], body: bytes
    ) -> tuple[Stored, bool]:
        """Store it, and whether the name is new.

        Args:
            body: the program as it was sent.

        Raises:
            Refused: there are too many, or too large, or it cannot be written to disk.
        """
        async with self._writing:
            self._hold(tenant, name, len(body))
            stored = Stored(name, program, plan, int(time.time()), len(body))
            if self._shelf is not None:
                label = Label(tenant=tenant.name, name=name, created=stored.created)
                await _on_disk(partial(self._shelf.write, label, body))
                self._unread.pop(self._shelf.place(tenant.name, name), None)
            mine = self._stored.setdefault(tenant.name, {})
            new = name not in mine
            mine[name] = stored
            return stored, new

    def get(self, tenant: Tenant, name: str) -> Stored:
        """Raises `Refused` if the tenant has none of that name."""
        found = self._stored.get(tenant.name, {}).get(name)
        if found is None:
            raise Refused(404, f"the library has no program {name!r}", code="not_found")
        return found

    def all(self, tenant: Tenant) -> list[Stored]:
        """Those of the tenant, by name."""
        return [stored for _, stored in sorted(self._stored.get(tenant.name, {}).items())]

    async def delete(self, tenant: Tenant, name: str) -> None:
        """As `get` where there is none; one whose file does not load is there to be deleted."""
        async with self._writing:
            if self._shelf is None or self._shelf.place(tenant.name, name) not in self._unread:
                self.get(tenant, name)
            if self._shelf is not None:
                await _on_disk(partial(self._shelf.delete, tenant.name, name))
                self._unread.pop(self._shelf.place(tenant.name, name), None)
            self._stored.get(tenant.name, {}).pop(name, None)

    def close(self) -> None:
        """Another server may have the folder."""
        if self._shelf is not None:
            self._shelf.close()

    def _hold(self, tenant: Tenant, name: str, size: int) -> None:
        """Raise `Refused` unless there is room beside the others, loaded or not."""
        mine = self._stored.get(tenant.name, {})
        others = [each.size for each in mine.values() if each.name != name]
        new = name not in mine
        if self._shelf is not None:
            place = self._shelf.place(tenant.name, name)
            unread = [*self._unread.items()]
            others += [size for at, size in unread if at.parent == place.parent and at != place]
            new = new and place not in self._unread
        if new and len(others) >= self._most:
            raise Refused(
                400,
                f"the library holds {self._most:,} programs; delete one",
                code="limit_exceeded",
                limit="library",
                most=self._most,
            )
        if sum(others) + size > self._most_bytes:
            raise Refused(
                400,
                f"the library holds {self._most_bytes:,} bytes of programs, and has "
                f"{sum(others):,} besides these {size:,}; delete one",
                code="limit_exceeded",
                limit="library_bytes",
                most=self._most_bytes,
            )


def _size(file: Path) -> int:
    """Bytes; none of one that is gone, or cannot be looked at."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


async def _on_disk(work: Callable[[], None]) -> None:
    """Do it on a thread; `Refused` where the disk does not take it."""
    try:
        await asyncio.to_thread(work)
    except OSError as error:
        log.error("library: the disk refuses: %s", errno.errorcode.get(error.errno or 0, "?"))
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Refused(
            503,
            "the library's disk is full" if full else "the library cannot be written to disk",
            code="library_full" if full else "library_unwritable",
            retry=RETRY_S,
        ) from None
