"""Greedy texts of the engine, of transformers, and what may excuse a difference between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from ramet.params import SamplingParams
from ramet.runtime.core import EngineCore
from ramet.runtime.sequence import Generation, Sequence as Context

Tokens = list[int]

# Two float32 forwards that add in another order differ by about 1e-5 at these logits. Where the two
# best are closer than this, either may come out first.
CLOSE = 1e-4


def submit(core: EngineCore, context: Context, count: int) -> Generation:
    params = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True)
    return core.generate(context, params, key=0, on_done=lambda task: None)


def drain(core: EngineCore, tasks: Sequence[Generation], *, audit: bool = False) -> list[Tokens]:
    """Step until nothing is left to do; what the tasks drew."""
    while core.busy:
        core.step()
        if audit:
            core.audit()
    for task in tasks:
        if task.error is not None:
            raise task.error
        assert task.finish_reason == "length"
    return [task.drawn for task in tasks]


def by_transformers(module: Any, prompts: Sequence[Tokens], count: int) -> list[Tokens]:
    """`generate(do_sample=False)`; prompts of one length run together, so nothing is padded."""
    lengths: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(index)
    module.generation_config.eos_token_id = None
    texts: dict[int, Tokens] = {}
    for length, members in lengths.items():
        batch = torch.tensor([prompts[index] for index in members])
        out = module.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
        assert out.shape[1] == length + count
        texts |= zip(members, out[:, length:].tolist(), strict=True)
    return [texts[index] for index in range(len(prompts))]


@torch.inference_mode()
def gap(module: Any, tokens: Tokens) -> float:
    """Between the two best next tokens."""
    best = module(torch.tensor([tokens])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


@dataclass
class Excuses:
    """Differences that were excused, told at the end of the run."""

    told: list[str] = field(default_factory=list)

    def check(
        self,
        name: str,
        prompts: Sequence[Tokens],
        got: Sequence[Tokens],
        expected: Sequence[Tokens],
        module: Any,
    ) -> int:
        """How many texts differ, each where the module itself all but has a tie.

        Raises:
            AssertionError: one differs elsewhere.
        """
        excused = 0
        for prompt, ours, theirs in zip(prompts, got, expected, strict=True):
            assert len(ours) == len(theirs)
            if ours == theirs:
                continue
            at = next(
                i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) > 1
            )
            tie = gap(module, prompt + theirs[:at])
            assert tie < CLOSE, (
                f"{name}: token {at} after {len(prompt)} is {ours[at]}, not {theirs[at]}, "
                f"and the best two logits are {tie:.2g} apart"
            )
            excused += 1
        self.told.append(f"{name}: {excused} of {len(prompts)} texts excused")
        print(self.told[-1])
        return excused

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("greedy texts that differ at a tie")
        terminalreporter.write_line("\n".join(self.told))


def excuses_of(config: pytest.Config) -> Excuses:
    """The one tally of this run."""
    known = config.pluginmanager.get_plugin("greedy-excuses")
    if known is None:
        known = Excuses()
        config.pluginmanager.register(known, "greedy-excuses")
    return known
