"""Where an error of plain prompts points: to who asked, and into no room of the package."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from ramet import callsite
from ramet.errors import ParameterError
from tests.runtime.conftest import ToyEngine
from tests.test_layout import FOLDERS, MAY_IMPORT


def test_an_error_of_generate_points_to_its_caller(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
    with pytest.raises(ParameterError) as caught:
        engine.generate("a", temperature=-1)
    assert str(caught.value).startswith(f"{__file__}:{line}:9: temperature must be")


@pytest.mark.parametrize("room", FOLDERS)
def test_every_room_is_ours(room: str) -> None:
    assert room in MAY_IMPORT
    (place,) = import_module(room).__path__
    assert str(Path(place) / "engine.py").startswith(callsite._OURS)  # pyright: ignore[reportPrivateUsage]


def test_a_neighbour_is_not_ours() -> None:
    (place,) = import_module("ramet").__path__
    assert not f"{place}_of_mine/a.py".startswith(callsite._OURS)  # pyright: ignore[reportPrivateUsage]
