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
class _Sent:
    body: bytes  # digest of the request
    job: str


class Idempotency:
    """The keys of one server, each its tenant's own; a key is known as long as its job."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._sent: dict[tuple[Tenant, str], _Sent] = {}
        self._sweep_at = 1_024

    def job(self, tenant: Tenant, key: str, request: str, start: Callable[[], Job]) -> Job:
        """The job that was started with this key, or else a new one.

        A job that failed for a reason of the server's, or was cancelled, is started anew.

        Raises:
            Refused: the key came with another request, or is too long.
        """
        if not 0 < len(key) <= MOST:
            raise Refused(
                400,
                f"an idempotency key has 1 to {MOST} characters",
                code="invalid_value",
                param="Idempotency-Key",
            )
        digest = hashlib.sha256(request.encode("utf-8", "surrogatepass")).digest()
        sent = self._sent.get((tenant, key))
        known = None if sent is None else self._jobs.find(tenant, sent.job)
        if known is not None and sent is not None:
            if sent.body != digest:
                raise Refused(
                    409,
                    "this idempotency key came with another request",
                    code="idempotency_mismatch",
                    param="Idempotency-Key",
                )
            if not _again(known):
                return known
        job = start()
        self._sent[tenant, key] = _Sent(digest, job.id)
        self._sweep()
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
    error = job.error
    return job.status == "cancelled" or (error is not None and error.status >= 500)
