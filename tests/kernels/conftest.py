"""The products here are too small to share among threads."""

import pytest


@pytest.fixture(autouse=True)
def alone(one_thread: None) -> None:
    """Every test."""
