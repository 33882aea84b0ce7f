"""Programs that a tenant stored under a name: checked and planned once, run often. In memory."""

import time
from dataclasses import dataclass
from typing import Any

from ramet.runtime.engine import AnyProgram
from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.config import ServerConfig
from ramet.runtime.server.errors import Refused


@dataclass(frozen=True, slots=True)
class Stored:
    """One of them."""

    name: str
    program: AnyProgram
    parameters: list[dict[str, Any]]
    plan: dict[str, Any]  # without arguments
    created: int
    size: int  # bytes, as it was sent

    def view(self, *, whole: bool = True) -> dict[str, Any]:
        """What a client sees of it."""
        found: dict[str, Any] = {
            "name": self.name,
            "object": "library.program",
            "program": self.program.name,
            "parameters": self.parameters,
            "created": self.created,
        }
        return found | {"plan": self.plan} if whole else found


class Library:
    """The stored programs of one server, by tenant."""

    def __init__(self, config: ServerConfig) -> None:
        self._most = config.library
        self._most_bytes = config.library_bytes
        self._stored: dict[str, dict[str, Stored]] = {}

    def put(
        self,
        tenant: Tenant,
        name: str,
        program: AnyProgram,
        parameters: list[dict[str, Any]],
        plan: dict[str, Any],
        size: int,
    ) -> tuple[Stored, bool]:
        """Store it, and whether the name is new; `Refused` if there are too many, or too large."""
        mine = self._stored.setdefault(tenant.name, {})
        new = name not in mine
        if new and len(mine) >= self._most:
            raise Refused(
                400,
                f"the library holds {self._most:,} programs; delete one",
                code="limit_exceeded",
                limit="library",
                most=self._most,
            )
        others = sum(each.size for each in mine.values() if each.name != name)
        if others + size > self._most_bytes:
            raise Refused(
                400,
                f"the library holds {self._most_bytes:,} bytes of programs, and has {others:,} "
                f"besides these {size:,}; delete one",
                code="limit_exceeded",
                limit="library_bytes",
                most=self._most_bytes,
            )
        mine[name] = Stored(name, program, parameters, plan, int(time.time()), size)
        return mine[name], new

    def get(self, tenant: Tenant, name: str) -> Stored:
        """Raises `Refused` if the tenant has none of that name."""
        found = self._stored.get(tenant.name, {}).get(name)
        if found is None:
            raise Refused(404, f"the library has no program {name!r}", code="not_found")
        return found

    def all(self, tenant: Tenant) -> list[Stored]:
        """Those of the tenant, by name."""
        return [stored for _, stored in sorted(self._stored.get(tenant.name, {}).items())]

    def delete(self, tenant: Tenant, name: str) -> None:
        """As `get` where there is none."""
        self.get(tenant, name)
        del self._stored[tenant.name][name]
