"""How the kernels' threads wait, and that those of a thread go with it."""

import os
import subprocess
import sys

import pytest

from ramet.runtime.threads import SPINS, apart, wait_shortly

COUNTED = """
import os, time, torch
from ramet.runtime.threads import apart

def count():
    return len(os.listdir("/proc/self/task"))

def work():
    torch.ones(1 << 22).exp()
    return count()

before = count()
within = apart(work)
ends = time.monotonic() + 10
while count() > before and time.monotonic() < ends:  # they end a moment later
    time.sleep(0.01)
print(before, within, count())
work()
print(count())
"""

STARTED = """
import os, sys
from ramet.runtime.cli import main
try:
    main()
except SystemExit:
    pass
print("torch" in sys.modules, os.environ.get("GOMP_SPINCOUNT"))
"""


def said(script: str, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_what_the_work_gives_or_raises_comes_out() -> None:
    assert apart(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
def test_threads_of_kernels_go_with_the_thread_that_called_them() -> None:
    before, within, after, own = map(int, said(COUNTED, OMP_NUM_THREADS="2"))
    assert within == before + 2, "the thread, and one of its kernels"
    assert after == before
    assert own == before + 1


def test_the_command_line_says_how_threads_wait_before_torch_is_there() -> None:
    *_, torch, spins = said(STARTED, "fmt", "--help")
    assert (torch, spins) == ("False", SPINS)


SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize("name", SAID)
def test_what_the_environment_says_goes_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {each: value for each, value in os.environ.items() if each not in SAID}
    monkeypatch.setattr(os, "environ", {**others})
    wait_shortly()
    assert os.environ == {**others, "GOMP_SPINCOUNT": SPINS}
    monkeypatch.setattr(os, "environ", {**others, name: "7"})
    wait_shortly()
    assert os.environ == {**others, name: "7"}
