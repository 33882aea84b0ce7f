"""Who asks: a key stands for a tenant, and a tenant for blocks that nobody else sees."""

import hashlib
import hmac
import secrets
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who shares blocks, programs and limits; `scope` is what their block keys begin with."""

    name: str
    scope: bytes = field(repr=False)


LOCAL = Tenant("local", b"")
"""Whoever asks a server without keys: it listens on loopback only."""


class Keys:
    """The keys of a server. Kept as digests; each look-up compares with all of them."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._tenants = [(self._digest(key.encode()), self._tenant(keys[key])) for key in keys]

    @property
    def there(self) -> bool:
        """Whether any key is needed."""
        return bool(self._tenants)

    def tenant(self, authorization: list[bytes]) -> Tenant | None:
        """Whose key the `Authorization` headers of a request bear; None if it is nobody's.

        A bearer's token, or the password of a browser that asked its user. Takes as long for a
        wrong key as for a right one.
        """
        if not self._tenants:
            return LOCAL
        key = _key(authorization[0]) if len(authorization) == 1 else None
        if key is None:
            return None
        given, found = self._digest(key), None
        for digest, tenant in self._tenants:
            if hmac.compare_digest(digest, given):
                found = tenant
        return found

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._secret, digest_size=32).digest()

    def _tenant(self, name: str) -> Tenant:
        return Tenant(name, hmac.digest(self._secret, b"tenant:" + name.encode(), hashlib.sha256))


def _key(authorization: bytes) -> bytes | None:
    scheme, _, rest = authorization.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return rest.strip()
        case b"basic":
            try:
                return b64decode(rest.strip(), validate=True).partition(b":")[2]
            except ValueError:
                return None
        case _:
            return None
