"""Bodies that wait: what happens to those that nobody drives any more."""

import threading

import ramet
from tests.runtime.conftest import ToyEngine

WAITS = ramet.loads(
    'program waits():\n    "x"\n    gen a(max_tokens=50, ignore_eos=true)\n'
    "    if len(a) > 0:\n        gen b(max_tokens=5)"
)
OTHER = ramet.loads('program other():\n    "x"\n    gen a(max_tokens=3)')


def test_a_stream_that_another_thread_left_ends_without_harm(toy_engine: ToyEngine) -> None:
    engine = toy_engine()

    def leave() -> None:
        next(engine.stream(WAITS))

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert engine.run(OTHER)["a"]
    engine.audit()
    assert engine.stats().sequences == 0
