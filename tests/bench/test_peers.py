"""What bench/peers.py asks of everybody: well-formed workloads, without any peer installed.

A token is a byte here, so that lengths can be read off the texts.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "peers")]
module: Any = import_module("workloads")
protocol: Any = import_module("protocol")
worker: Any = import_module("worker")
environments: Any = import_module("environments")


def encode(text: str, start: bool) -> list[int]:
    return [0] * start + list(text.encode())


ALL = [work for quick in (False, True) for work in module.workloads(encode, quick)]


def answers(tokens: int) -> Callable[[list[list[int]]], list[list[int]]]:
    """Draws that can be told apart: how much was read, so often as tokens are wanted."""
    return lambda contexts: [[1000 + len(ids)] * tokens for ids in contexts]


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.name)
def test_requests_have_ids_and_parents_of_an_earlier_round(work: Any) -> None:
    before = 0
    for batch in work.rounds:
        assert batch
        for request in batch:
            opens = request.parent is None
            assert request.ids == tuple(encode(request.text, opens))
            assert opens or 0 <= request.parent < before
            assert [bytes(ids).decode() for ids in request.option_ids] == list(request.options)
        before += len(batch)
    assert work.count > 0
    assert bool(work.schema) == (work.kind == "json")


@pytest.mark.parametrize("quick", [False, True])
def test_names_differ_and_texts_are_the_same_each_time(quick: bool) -> None:
    works = module.workloads(encode, quick)
    assert len({work.name for work in works}) == len(works) == 10
    assert works == module.workloads(encode, quick)


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.name)
def test_rounds_read_what_was_drawn(work: Any) -> None:
    """Through the pipe and back: each context is its parent's, what that drew, and its own ids."""
    plain = json.loads(json.dumps(work.plain()))
    seen: list[list[int]] = []

    def draw(contexts: list[list[int]]) -> list[list[int]]:
        seen.extend(contexts)
        return answers(work.tokens * (work.width if work.kind == "sample" else 1))(contexts)

    drawn = protocol.by_rounds(plain, draw)
    assert len(drawn) == len(seen) == len(work.requests)
    for request, context in zip(work.requests, seen, strict=True):
        start = [] if request.parent is None else seen[request.parent] + drawn[request.parent]
        assert context == start + list(request.ids)


def test_what_is_shared_is_as_long_as_it_is_said() -> None:
    works = {work.name: work for work in module.workloads(encode)}
    for name in ("few-shot", "select", "select-steps"):
        contexts = [list(request.ids) for request in works[name].requests]
        assert 0 <= protocol.shared(contexts) - module.CONTEXT < 40, name
    assert protocol.shared([list(request.ids) for request in works["plain"].requests]) < 32
    assert protocol.shared([[1, 2, 3], [1, 2, 3]]) == 2, "never the whole of one"


def test_a_part_is_the_first_requests_and_targets_name_a_side_and_a_family() -> None:
    families = {peer.family for peer in worker.PEERS}
    for work in ALL:
        for family, requests in work.slow.items():
            part = work.part(requests)
            assert family in families
            assert part.requests == work.requests[:requests]
        for target in work.targets:
            dtype, family = target.split("/")
            assert dtype in ("float32", "int8")
            assert family in families


def test_every_peer_has_a_worker_and_a_recipe() -> None:
    for peer in worker.PEERS:
        assert (BENCH / "peers" / f"{peer.worker}_worker.py").exists()
        assert peer.environment in environments.RECIPES


def test_requirements_of_extras_and_of_pictures_and_sound_are_left_out() -> None:
    kept = [
        each
        for each in (
            "regex",
            "torch==2.13.0+cpu; platform_machine == 'x86_64'",
            "torchaudio; platform_machine != 's390x'",
            'pandas; extra == "bench"',
            "fastapi[standard]<0.137.0,>=0.133.0",
        )
        if environments.needed(each)
    ]
    assert kept == ["regex", "fastapi[standard]<0.137.0,>=0.133.0"]


def test_a_ratio_is_against_the_better_precision_of_a_peer() -> None:
    """4 s beside 2 s is twice as fast, and 3 s beside 2 s one and a half times."""
    peers: Any = import_module("peers")
    plain = next(work for work in ALL if work.name == "plain")
    slow = peers.Turns([4.0, 9.0, 4.0], {"float32": [2.0, 2.0, 7.0], "int8": [1.0]}, 1, "")
    fast = peers.Turns([3.0], {"float32": [2.0], "int8": [1.0]}, 1, "")
    alone = peers.Turns([8.0], {"float32": [2.0]}, 4, "")
    row = peers.Row(
        plain, {"vllm bfloat16": slow, "vllm float32": fast, "transformers float32": alone}
    )
    assert row.ratios() == {
        "float32/vllm": {"ratio": 1.5, "target": 1.3},
        "int8/vllm": {"ratio": 3.0, "target": 3.0},
        "float32/transformers": {"ratio": 4.0},
    }
    record = row.record()
    assert record["scaled"] == {"transformers float32": 4}
    assert record["per_s"]["vllm float32"] == round(plain.count / 3.0, 2)
