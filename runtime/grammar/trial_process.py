"""The process in which a type is tried out: reads the engine's source, and tries to compile it.

It ends with 0 when that is done, or when the source is refused for what it says; with 3 where
memory ran out; by a signal where it took too long. It imports nothing of ramet, and so starts in a
tenth of a second.
"""

import os
import resource
import signal
import sys
from typing import IO

SECONDS = 0.4
MIB = 128
STACK = 1 << 20  # bytes; a thread has at least twice that
TOO_MUCH = 3


def compile_source(source: IO[str]) -> None:
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")
    most = _size() + (MIB << 20)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of CPU time; then SIGPROF ends the process
    matcher = LLMatcher(tokenizer, source.read(), log_level=0)
    matcher.compute_bitmask()


def _size() -> int:
    """Bytes of address space by now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    try:
        compile_source(sys.stdin)
    except MemoryError:
        os._exit(TOO_MUCH)
