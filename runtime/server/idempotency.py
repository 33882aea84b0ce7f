"""One request, sent twice with one key, is done once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from ramet.runtime.server.auth import Tenant
from ramet.runtime.server.errors import Refused
from ramet.runtime.server.jobs import Job, Jobs

MOST = 255
"""Characters of a key."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A request with its key."""

    tenant: Tenant
    key: str
    body: bytes  # digest of the request


@dataclass(frozen=True, slots=True)
class _Sent:
    body: bytes
    job: str


class Idempotency:
    """The keys of one server, each its tenant's own; a key is known as long as its job."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._sent: dict[tuple[Tenant, str], _Sent] = {}
        self._sweep_at = 1_024

    def key(self, tenant: Tenant, key: str, request: str) -> RequestKey:
        """The key of a tenant's request; `Refused` for one that is empty, or too long."""
        if not 0 < len(key) <= MOST:
            raise Refused(
                400,
                f"an idempotency key has 1 to {MOST} characters",
                code="invalid_value",
                param="Idempotency-Key",
            )
        digest = hashlib.sha256(request.encode("utf-8", "surrogatepass")).digest()
        return RequestKey(tenant, key, digest)

    def find(self, request: RequestKey) -> Job | None:
        """The job that was started with this key.

        None for one that is to be started anew: it was cancelled, or failed, all of it, for reasons
        of the server's. Raises `Refused` if the key came with another request.
        """
        sent = self._sent.get((request.tenant, request.key))
        known = None if sent is None else self._jobs.find(request.tenant, sent.job)
        if known is None or sent is None:
            return None
        if sent.body != request.body:
            raise Refused(
                409,
                "this idempotency key came with another request",
                code="idempotency_mismatch",
                param="Idempotency-Key",
            )
        return None if _again(known) else known

    def job(self, request: RequestKey, start: Callable[[], Job]) -> Job:
        """As `find`, or else a new one: another request may have come since."""
        known = self.find(request)
        if known is not None:
            return known
        job = start()
        self._sent[request.tenant, request.key] = _Sent(request.body, job.id)
        self._sweep()
        return job

    def known(self, tenant: Tenant, key: str) -> Job:
        """The job that was started with a tenant's key; `Refused` if there is none."""
        sent = self._sent.get((tenant, key))
        job = None if sent is None else self._jobs.find(tenant, sent.job)
        if job is None:
            raise Refused(404, "nothing was sent with this key, or no longer", code="not_found")
        return job

    def _sweep(self) -> None:
        """Forget the keys of jobs that are gone, once there are twice as many as the last time."""
        if len(self._sent) < self._sweep_at:
            return
        self._sent = {
            at: sent for at, sent in self._sent.items() if self._jobs.find(at[0], sent.job)
        }
        self._sweep_at = max(1_024, 2 * len(self._sent))


def _again(job: Job) -> bool:
    return job.status == "cancelled" or all(
        isinstance(each, Refused) and each.status >= 500 for each in job.outcomes
    )
