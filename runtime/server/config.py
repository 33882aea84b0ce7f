"""How a server is set up: where it listens, who may ask, and how much of everything."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path

from ramet.errors import RametError
from ramet.limits import Limits


class ConfigError(RametError):
    """A setting of a server is out of range, or not safe."""


def program_limits() -> Limits:
    """Of a run that somebody else sent: less than what a program of one's own may take."""
    return Limits(
        source_bytes=65_536,
        statements=4_096,
        nesting=32,
        branches=1_024,
        live_branches=64,
        steps=10_000,
        made=4_000_000,
        tokens=65_536,
        seconds=120.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Settings of one server, fixed for its life. Limits are the most that is taken, to the unit.

    Raises:
        ConfigError: a value is out of range, or an address that others reach has no key.
    """

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # each with its tenant
    public: tuple[str, ...] = field(default=(), repr=False)  # prefixes that all tenants share
    model: str = "default"  # what clients call it
    program: Limits = field(default_factory=program_limits)  # of each run
    body_bytes: int = 1 << 20
    prompt_bytes_per_token: int = 16  # of one text, for each token of the context
    prompts: int = 64  # of one call, and argument sets of one batch
    n: int = 16  # n, best_of
    beams: int = 16
    logprobs: int = 20
    stops: int = 16  # stop strings of one generation
    stop_bytes: int = 256  # of each
    pattern_bytes: int = 4_096
    schema_bytes: int = 65_536  # of a schema, or a grammar
    running: int = 64  # runs under way at once
    queue: int = 256  # runs that wait for their turn
    queue_tokens: int = 0  # of the texts of runs that wait; 0: four of the model's contexts
    wait_s: float = 30.0  # for a turn
    checking: int = 32  # programs that are checked, planned or stored, at once or waiting for it
    tenant: int = 64  # runs of one tenant, waiting and under way
    log_bytes: int = 2 << 20  # of the events of one program that can be asked for again
    kept: int = 256  # programs of one tenant that are over, and can be asked for
    kept_bytes: int = 64 << 20  # of their events and results
    kept_s: float = 300.0
    library: int = 256  # stored programs of one tenant
    library_bytes: int = 16 << 20  # of them, as they were sent
    library_folder: Path | None = None  # where they outlive the server; else in memory
    pinned_share: float = 0.25  # of all blocks, that one tenant may pin
    stall_s: float = 30.0  # that a client may take for its body, and for what it was sent
    step_s: float = 30.0  # that a step of the engine may take
    drain_s: float = 30.0  # that running programs get to end when the server is stopped

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port: {self.port} is out of range; expected 0 to 65535")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "port" or not isinstance(value, int | float):
                continue
            least = 0 if each.name in _MAY_BE_0 else 1
            if isinstance(value, float) and each.name != "drain_s":
                least = 0.001
            if not value >= least:
                raise ConfigError(f"{each.name}: {value} is out of range; expected {least} or more")
        for key, tenant in self.keys.items():
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError("a key is printable ASCII without spaces, and not empty")
            if not tenant:
                raise ConfigError("a tenant has a name")
        if not self.keys and not is_loopback(self.host):
            raise ConfigError(
                f"host: others can reach {self.host!r}, so the server needs a key; "
                "give one, or listen on 127.0.0.1"
            )

    @property
    def several_tenants(self) -> bool:
        """Whether there is anybody to share with."""
        return len({*self.keys.values()}) > 1


_MAY_BE_0 = ("queue", "queue_tokens", "kept", "drain_s", "library", "logprobs")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
