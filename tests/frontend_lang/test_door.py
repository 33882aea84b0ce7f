import subprocess
import sys

import ramet


def test_the_door_is_sorted_and_complete() -> None:
    assert list(ramet.__all__) == sorted(ramet.__all__)
    modules = {"cache", "kernels", "runtime"}
    public = {
        name
        for name, value in vars(ramet).items()
        if not name.startswith("_") and not isinstance(value, type(sys)) and name not in modules
    }
    assert public == set(ramet.__all__)


def test_the_language_loads_the_standard_library_and_lark_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import ramet;"
        "new = {n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names;"
        "print(*sorted(new))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"ramet"} <= set(out.stdout.split()) <= {"ramet", "lark", "regex"}  # lark loads regex
