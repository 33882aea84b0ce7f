"""Stored programs on disk: a file for each, which is there whole or not at all. Knows no program:
what was sent goes in, and comes out as it was. All of it takes time, and belongs on a thread.

A file is a line of JSON that says what it is, and the body of the request that stored it.
"""

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ramet.errors import RametError

VERSION = 1
SUFFIX = ".program"
UNFINISHED = ".part"


class LibraryError(RametError):
    """The folder of a library cannot be used, or a file in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Whose program it is, and what they call it."""

    tenant: str
    name: str
    created: int  # seconds since the epoch


class Shelf:
    """A folder that is one server's alone, until it is closed or its process ends."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, if there is none.

        Raises:
            LibraryError: another server has it, or it cannot be used.
        """
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("a")
        except OSError as error:
            raise LibraryError(f"the library {folder} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            taken = isinstance(error, BlockingIOError)
            why = "another server has it; give each its own folder" if taken else error.strerror
            raise LibraryError(f"the library {folder} cannot be used: {why}") from None
        for unfinished in folder.glob(f"*/*{UNFINISHED}"):
            with suppress(OSError):
                unfinished.unlink()

    def place(self, tenant: str, name: str) -> Path:
        """Where a program is kept: named by digests, so that no client's words are a path."""
        return self.folder / _digest(tenant) / f"{_digest(name)}{SUFFIX}"

    def files(self) -> list[Path]:
        """Those of all tenants."""
        return sorted(self.folder.glob(f"*/*{SUFFIX}"))

    def read(self, file: Path) -> tuple[Label, bytes]:
        """What it is, and the body as it was sent.

        Raises:
            LibraryError: it is damaged, not where it belongs, or of another version.
            OSError: it cannot be read.
        """
        head, _, body = file.read_bytes().partition(b"\n")
        try:
            told: dict[str, Any] = json.loads(head)
            version, digest = told.pop("version"), told.pop("sha256")
        except (ValueError, KeyError, AttributeError):
            raise LibraryError("it is damaged") from None
        if version != VERSION:
            raise LibraryError("it is of another version")
        if digest != hashlib.sha256(body).hexdigest():
            raise LibraryError("it is damaged")
        try:
            label = Label(**told)
            at_home = file == self.place(label.tenant, label.name)
        except (TypeError, AttributeError):
            raise LibraryError("it is damaged") from None
        if not at_home:
            raise LibraryError("it is another program's file")
        return label, body

    def write(self, label: Label, body: bytes) -> None:
        """On disk when it returns, instead of what had the name. One at a time.

        Raises:
            OSError: it is not, and what had the name is still there.
        """
        place = self.place(label.tenant, label.name)
        if not place.parent.is_dir():
            place.parent.mkdir(mode=0o700)
            _settle(self.folder)
        digest = hashlib.sha256(body).hexdigest()
        head = json.dumps({"version": VERSION, **asdict(label), "sha256": digest})
        unfinished = place.with_suffix(UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                file.write(head.encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(place)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        _settle(place.parent)

    def delete(self, tenant: str, name: str) -> None:
        """Gone from the disk when it returns; raises `OSError` if it is not."""
        place = self.place(tenant, name)
        place.unlink(missing_ok=True)
        _settle(place.parent)

    def close(self) -> None:
        """Another server may have it."""
        self._lock.close()


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _settle(folder: Path) -> None:
    """What was renamed, made or deleted in it stays so, also if the machine stops now."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
