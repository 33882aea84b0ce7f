"""Scores of a step: all are computed before one is read, and one that fails fails alone."""

import pytest
import torch
from torch import Tensor

from ramet.runtime import outputs
from ramet.runtime.errors import GenerationError
from ramet.runtime.inputs import indices
from ramet.runtime.sequence import Scoring, Task
from tests.runtime.conftest import ToyCore, drive


def ignored(task: Task) -> None:
    """Nobody waits for it."""


def test_all_scores_are_computed_before_one_is_read(
    toy_core: ToyCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading waits for the device."""
    core, done = toy_core(prefill_chunk=16), list[str]()
    accept = Scoring.accept

    def computed(numbers: list[int], device: torch.device) -> Tensor:
        done.append("computed")
        return indices(numbers, device)

    def told(task: Scoring, *scores: object) -> None:
        done.append("told")
        accept(task, *scores)  # type: ignore[arg-type]

    monkeypatch.setattr(outputs, "indices", computed)
    monkeypatch.setattr(Scoring, "accept", told)
    scores = [core.score(core.open([at, 2, 3]), 1, on_done=ignored) for at in range(4)]
    drive(core)
    assert done == ["computed"] * 4 + ["told"] * 4
    assert [len(score.logprobs) for score in scores] == [2] * 4


def test_a_score_that_cannot_be_computed_fails_alone(
    toy_core: ToyCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = toy_core(prefill_chunk=16)

    def failing(numbers: list[int], device: torch.device) -> Tensor:
        if numbers[0] == 9:
            raise MemoryError("no room for indices")
        return indices(numbers, device)

    monkeypatch.setattr(outputs, "indices", failing)
    scores = [core.score(core.open([1, at, 3]), 1, on_done=ignored) for at in (8, 9, 7)]
    drive(core)
    assert [str(score.error) for score in scores] == [
        *("None", "MemoryError: no room for indices", "None")
    ]
    assert isinstance(scores[1].error, GenerationError)
    assert [len(score.logprobs) for score in scores] == [2, 0, 2]
