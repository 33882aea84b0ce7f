"""Programs of a Python file, which is run as a module, and the place where its code raised."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ramet.errors import LanguageError, RametError, Span
from ramet.program import Program
from ramet.runtime.cli.exits import ProgramFailed


def programs_in(file: str) -> dict[str, Program[..., Any]]:
    """The programs of a module by name, in its order; those that it imports come first.

    Raises:
        ProgramFailed: it cannot be run, or has no program.
    """
    module = _run(file)
    found = [each for each in vars(module).values() if isinstance(each, Program)]
    if not found:
        raise ProgramFailed(f"{file} has no program: decorate a function with @ramet.program")
    found.sort(key=lambda program: program.__module__ == module.__name__)
    return {program.name: program for program in found}


def placed(error: Exception, file: str) -> Exception:
    """The error as a person reads it: what Python raised in their file, with its line there.

    Errors of ours know their place, or need none; what did not come by their file is a bug.
    """
    if isinstance(error, RametError) or _place(error, file) is None:
        return error
    return _failed(error, file)


def _run(file: str) -> ModuleType:
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(f"_ramet_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "the file ends with .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))  # as for any script: what lies beside it can be imported
    try:
        spec.loader.exec_module(module)
    except LanguageError:
        raise
    except SystemExit:
        raise ProgramFailed(
            f"{file} ends the process when it is imported; put that under "
            '`if __name__ == "__main__":`'
        ) from None
    except Exception as error:
        raise _failed(error, file) from None
    return module


def _failed(error: Exception, file: str) -> ProgramFailed:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    span = _place(error, file)
    return ProgramFailed(f"{file}: {what}" if span is None else what, span)


def _place(error: Exception, file: str) -> Span | None:
    """The innermost line of that file that led to the error."""
    path = str(Path(file).resolve())
    if isinstance(error, SyntaxError) and error.filename == path:
        return Span(file, error.lineno or 1, max(1, error.offset or 1), error.text)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == path and frame.lineno is not None:
            return Span(file, frame.lineno, (frame.colno or 0) + 1)
    return None
