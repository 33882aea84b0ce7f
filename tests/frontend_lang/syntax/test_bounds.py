"""What a program can take at most, whatever it will see while it runs."""

import time
from pathlib import Path
from typing import Any

import pytest

from ramet.syntax.blocks import parse
from ramet.syntax.bounds import Bound, bound_of

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def bound(source: str, **arguments: Any) -> Bound:
    module = parse(source)
    programs = {program.name: program for program in module.programs}
    return bound_of(module.programs[-1], programs, arguments)


def body(*lines: str) -> str:
    return "program p(n, k: int = 2):\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("lines", "arguments", "most"),
    [
        (("gen x",), {}, (128, 0, 0)),
        (("gen x(max_tokens=5)", "gen y(n=3, max_tokens=7, temperature=1)"), {}, (26, 0, 0)),
        (("gen x(beams=4, max_tokens=5)",), {}, (20, 0, 0)),
        (("gen x(max_tokens=n)",), {"n": 9}, (9, 0, 0)),
        (("gen x(max_tokens=n)",), {}, (None, 0, 0)),
        (("gen x(max_tokens=k * 3)",), {}, (6, 0, 0)),
        (("gen x(max_tokens=k * 3)",), {"k": 1}, (3, 0, 0)),
        (("for i in range(4):", "    gen x(max_tokens=5)"), {}, (20, 0, 4)),
        (("for i in n:", "    gen x(max_tokens=5)"), {"n": ["a", "b"]}, (10, 0, 2)),
        (("for i in n:", "    gen x(max_tokens=5)"), {}, (None, 0, None)),
        (("for i in n:", '    "a"'), {}, (0, 0, None)),
        (("gen x", "while x != 1 limit 6:", "    gen x(max_tokens=5)"), {}, (158, 0, 6)),
        (("while false limit 6:", "    gen x(max_tokens=5)"), {}, (0, 0, 0)),
        (("fork 3 as f:", "    gen x(max_tokens=5)"), {}, (15, 3, 0)),
        (("fork i in n as f:", "    gen x(max_tokens=5)"), {"n": [1, 2]}, (10, 2, 0)),
        (
            ("fork gen x(n=3, max_tokens=4, temperature=1) as f:", "    gen y(max_tokens=5)"),
            {},
            (27, 3, 0),
        ),
        (("gen x(n=2, best_of=8, max_tokens=7, temperature=1)",), {}, (56, 0, 0)),
        (("gen x(best_of=n, max_tokens=7, temperature=1)",), {}, (None, 0, 0)),
        (
            ("fork gen x(n=2, best_of=8, max_tokens=4, temperature=1) as f:", "    gen y"),
            {},
            (288, 2, 0),
        ),
        (("fork 2 as f:", "    fork 3 as g:", "        gen y(max_tokens=5)"), {}, (30, 8, 0)),
        (
            (
                "gen x(max_tokens=1)",
                "if x == 1:",
                "    gen y(max_tokens=5)",
                "else:",
                "    fork 2 as f:",
                "        gen y(max_tokens=2)",
            ),
            {},
            (6, 2, 0),
        ),
        (
            ("if n:", "    gen y(max_tokens=5)", "else:", "    gen y(max_tokens=9)"),
            {"n": 1},
            (5, 0, 0),
        ),
        (("let m = 5", "gen x", "let m = len(x)", "gen y(max_tokens=m)"), {}, (None, 0, 0)),
        (
            ("let m = 5", "for i in n:", "    let m = m + 1", "gen y(max_tokens=m)"),
            {"n": [1]},
            (None, 0, 1),
        ),
    ],
)
def test_the_most(
    lines: tuple[str, ...], arguments: dict[str, Any], most: tuple[int | None, ...]
) -> None:
    assert bound(body(*lines), **arguments) == Bound(*most)


def test_keep_brings_what_a_branch_bound() -> None:
    lines = (
        "let m = 5",
        '"a"',
        "fork 2 as f:",
        "    let m = 500",
        "keep f[0]",
        "gen x(max_tokens=m)",
    )
    assert bound(body(*lines)) == Bound(None, 2, 0)


def test_calls() -> None:
    called = "program q(m, t: int = 3):\n    for i in range(m):\n        gen x(max_tokens=t)\n"
    assert bound(called + body("call q(2)")) == Bound(6, 1, 2)
    assert bound(called + body("extend q(2, t=k)")) == Bound(4, 0, 2)
    assert bound(called + body("extend q(2, t=n)")) == Bound(None, 0, 2)
    assert bound(called + body("call q(n)")) == Bound(None, 1, None)


def test_programs_that_call_each_other_twice_take_no_time() -> None:
    source = "program p0():\n    gen x(max_tokens=1)\n"
    for i in range(40):
        source += f"program p{i + 1}():\n    call p{i}()\n    call p{i}()\n"
    assert bound(source) == Bound(None, None, None)


def test_the_agent_of_the_examples() -> None:
    assert bound((EXAMPLES / "agent.ramet").read_text(), task="x") == Bound(6 * 128, 0, 6)


def test_bounds_compute_little() -> None:
    """A thousand sums over 99,999 numbers are not worked out; what is not, has no bound."""
    lines = ["let a = sum(range(99999))"] * 1_000
    began = time.process_time()
    found = bound(body("gen x(max_tokens=5)", *lines, "for i in range(3):", '    "y"'))
    assert found == Bound(5, 0, None)
    assert time.process_time() - began < 3
