"""Bodies that wait: what happens to those that nobody drives any more."""

import threading

import pytest

import ramet
from ramet.runtime.errors import GenerationError
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


@pytest.mark.parametrize(
    ("last", "line"), [("let n = len(late)", 7), ('"{late}"', 7), ("return late", None)]
)
def test_a_value_that_keep_released_is_told_by_name(
    toy_engine: ToyEngine, last: str, line: int | None
) -> None:
    program = ramet.loads(
        'program p():\n    "x"\n    fork i in [1, 30] as f:\n'
        "        gen a(max_tokens=i, ignore_eos=true)\n    let late = f[1].a\n    keep f[0]\n"
        f"    {last}\n"
    )
    with pytest.raises(GenerationError, match="the value of 'a' was not there yet") as caught:
        toy_engine().run(program)
    notes = [f"in the program at <string>:{line}:"] if line is not None else []
    assert [note[: len(notes[0])] for note in getattr(caught.value, "__notes__", [])] == notes
