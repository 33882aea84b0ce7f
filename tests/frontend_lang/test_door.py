import subprocess
import sys

import pytest

import ramet


def test_the_door_is_sorted_and_complete() -> None:
    assert list(ramet.__all__) == sorted(ramet.__all__)
    modules = {"cache", "kernels", "runtime"}
    public = {
        name
        for name, value in vars(ramet).items()
        if not name.startswith("_") and not isinstance(value, type(sys)) and name not in modules
    }
    lazy = {"AsyncClient", "Client", "library", "load", "loads"}
    assert public - {"TYPE_CHECKING", "import_module"} | lazy == set(ramet.__all__)
    assert all(callable(getattr(ramet, name)) for name in lazy)


@pytest.mark.parametrize(
    ("use", "loaded"),
    [
        ("ramet", {"ramet"}),
        ("ramet.loads", {"ramet", "lark", "regex"}),
        (
            "import typing; ramet.gen('x', type=typing.Literal['a']), ramet.gen('x', type=int)",
            {"ramet"},
        ),
    ],
)
def test_the_language_loads_little(use: str, loaded: set[str]) -> None:
    """The standard library only, until a program in text is read (lark loads regex), and pydantic
    not before a class needs it."""
    code = (
        f"import sys; before = set(sys.modules); import ramet; {use};"
        "new = {n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names;"
        "print(*sorted(new))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(out.stdout.split()) == loaded
