"""A finished run as JSON: its value, variables, branches, what is known of them, and their cost."""

from dataclasses import asdict
from typing import Any

from ramet.runtime.result import Finished, FinishedState
from ramet.runtime.values import GenInfo, Info, SamplesInfo, ScoreInfo, SelectInfo


def report(finished: Finished) -> dict[str, Any]:
    """The run of one program."""
    root = finished.root
    return {
        "program": finished.graph.name,
        "value": finished.value,
        "text": root.text,
        "variables": dict(root.variables),
        "details": {name: detail(info) for name, info in root.infos.items()},
        "branches": [*map(_state, root.branches)],
        "usage": asdict(finished.usage),
    }


def detail(info: Info) -> Any:
    """What is known of a value besides the value."""
    match info:
        case SelectInfo():
            return {"probs": info.probs, "scores": info.scores, "entropy": info.entropy}
        case ScoreInfo():
            return {"mean": info.mean, "tokens": len(info.tokens)}
        case SamplesInfo():
            return [detail(sample) for sample in info.samples]
        case GenInfo():
            found: dict[str, Any] = {
                "finish_reason": info.finish_reason,
                "tokens": len(info.tokens),
            }
            if info.logprobs:
                found["logprobs"] = [draw.logprob for draw in info.logprobs]
            if info.texts:
                found |= {"texts": info.texts, "scores": info.scores}
            return found


def _state(state: FinishedState) -> dict[str, Any]:
    return {
        "path": state.path,
        "text": state.text,
        "variables": dict(state.variables),
        "details": {name: detail(info) for name, info in state.infos.items()},
        "branches": [*map(_state, state.branches)],
        "usage": asdict(state.usage),
    }
