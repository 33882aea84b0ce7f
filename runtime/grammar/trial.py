"""Compiles a type in a process of its own first, which is stopped if that takes too long.

The engine's fuel bounds what its lexer does. It does not bound what comes before: whether an
intersection of patterns is empty (`allOf`, `&`, `~`), what the multiples of several numbers have in
common, how deep the rules lead. What certainly needs none of it (`hazards.py`) is not tried out.
"""

import subprocess
import sys
from pathlib import Path

from ramet.runtime.errors import EngineClosed, EngineError

_SCRIPT = Path(__file__).with_name("trial_process.py")
_TOO_MUCH = 3  # its exit code where memory ran out


class Trial:
    """One trial at a time; `stop` ends the one that is under way, from another thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def survives(self, source: str) -> bool:
        """Whether compiling it takes at most 0.4 s of CPU time and 128 MiB.

        Raises:
            EngineClosed: it was stopped.
            EngineError: it could not be tried out.
        """
        command = [sys.executable, "-P", str(_SCRIPT)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as self._process:
            if self._stopped:
                self._process.kill()
            _, said = self._process.communicate(source.encode())
        code = self._process.returncode
        if self._stopped:
            raise EngineClosed("the engine is closed")
        if code > 0 and code != _TOO_MUCH:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise EngineError(f"the trial of a type failed: {last or f'exit code {code}'}")
        return code == 0  # negative: a signal ended it

    def stop(self) -> None:
        """End it; there is no other after this."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
