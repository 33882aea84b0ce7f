"""What the room shows, and what loading it brings in."""

import subprocess
import sys
from types import FunctionType

import ramet.cache
from ramet.cache import AuditError, CacheError, CacheMisuse, OutOfBlocks


def test_the_door_is_sorted_and_complete() -> None:
    names = ramet.cache.__all__
    assert names == sorted(names)
    public = {
        name
        for name, value in vars(ramet.cache).items()
        if isinstance(value, type | FunctionType) and not name.startswith("_")
    }
    assert public == set(names)


def test_only_xxhash_comes_along() -> None:
    """Of what is not in the standard library; `ramet` itself is the parent and comes first."""
    code = (
        "import sys, ramet; before = {*sys.modules}; import ramet.cache;"
        "new = {name.split('.')[0] for name in {*sys.modules} - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['ramet', 'xxhash']"


def test_errors_carry_their_facts() -> None:
    assert {OutOfBlocks, CacheMisuse, AuditError} <= set(CacheError.__subclasses__())
    full = OutOfBlocks(3, 1)
    assert (full.needed, full.available, str(full)) == (3, 1, "3 blocks needed, 1 available")
    broken = AuditError("A law", "block 1")
    assert (broken.law, broken.detail, str(broken)) == ("A law", "block 1", "A law: block 1")
