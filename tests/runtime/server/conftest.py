"""One server for the tests that need a socket."""

from collections.abc import Iterator

import pytest

from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel
from tests.runtime.server.live import Live, live


@pytest.fixture(scope="session")
def served(byte_tokenizer: Tokenizer) -> Iterator[Live]:
    """A server on the toy model. Its cache remembers what other tests asked."""
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=256))
    with live(engine, model="toy") as each:
        yield each
