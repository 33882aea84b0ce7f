"""Statements: the graph that each records is that of the same program in Python."""

from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet import State, gen, score, select
from ramet.nodes import ListOf
from ramet.passes import simplify

Body = Callable[[State], Any]


def body_of(source: str) -> str:
    return "program p():\n" + "".join(f"    {line}\n" for line in source.strip("\n").split("\n"))


def text_and_roles(s: State) -> None:
    s += ramet.system("Be brief.") + "between" + ramet.user("Hi" + " there")
    with s.assistant():
        s += "Well, " + gen("x", stop=["\n", "."], max_tokens=5)
        s += "!"


def gens(s: State) -> None:
    s += "a" + gen("plain") + gen("age", type=int, max_tokens=3) + gen("word", regex=r"[a-z]\d")
    s += gen("card", json_schema={"type": "object", "properties": {"x": {"type": "null"}}})
    s += gen("lark", grammar="start: /a+/") + gen("both", type=bool, temperature=0.5, seed=3)
    s += gen("many", n=3, temperature=1.0) + gen("best", beams=4, early_stopping="never")


def selects(s: State) -> object:
    s += "a" + select("x", ["b", "c"]) + select("y", ["d"], by="greedy", temperature=2, seed=1)
    fit = s.score("fit", "so " + s["x"])
    return {"x": s["x"].prob, "fit": fit.mean, "probs": s["y"].probs}


def forks(s: State) -> object:
    s += "a"
    drafts = s.fork(["b", "c"])
    for at, draft in enumerate(drafts):
        draft += "bc"[at] + gen("x")
        inner = draft.fork(2)
        for i, each in enumerate(inner):
            each += f"{i}" + gen("y")
        draft += inner["y"].join("-")
    s += drafts["x"].join(",")
    return drafts["x"]


def nested(s: State) -> object:
    found: list[Any] = []
    s += "a"
    for outer in s.fork(2):
        inner = outer.fork(2)
        for i, each in enumerate(inner):
            each += str(i) + gen("y")
        found.append([each["y"] for each in inner])
    return found


def keeps(s: State) -> object:
    s += "a"
    plans = s.branch(gen("plan", n=2, temperature=1.0))
    for plan in plans:
        plan.score("merit", "good")
    s.keep(plans[1])
    s += "then" + gen("z")
    return {"plan": s["plan"], "merit": plans["merit"], "z": s["z"]}


def loops(s: State) -> object:
    for name in ("a", "b"):
        s += name + gen("x")
    for i in range(3):
        if i == 1:
            s += "one"
        elif i > 1:
            s += "more"
        else:
            s += "none"
    return "ended with " + s["x"]


@ramet.program
def part(s: State, what: Any, again: int = 1) -> object:
    for _ in range(again):
        s += "part " + what + gen("found")
    return s["found"]


def calls(s: State) -> object:
    s += "a" + gen("x")
    fresh = part.call(s, s["x"], again=2)
    here = part(s, "b")
    return [fresh, here, s["x"]]


CASES: list[tuple[Body, str, str]] = [
    (
        text_and_roles,
        "",
        """
system "Be brief."
"between"
user "Hi " + "there"
assistant:
    "Well, "
    gen x(max_tokens=5, stop=["\\n", "."])
    "!"
""",
    ),
    (
        gens,
        "",
        """
"a"
gen plain
gen age: int (max_tokens=3)
gen word: regex(r"[a-z]\\d")
gen card: json({"type": "object", "properties": {"x": {"type": "null"}}})
gen lark: grammar("start: /a+/")
gen both: bool (temperature=0.5, seed=3)
gen many(n=3, temperature=1)
gen best(beams=4, early_stopping="never")
""",
    ),
    (
        selects,
        "",
        """
"a"
let options = ["b", "c"]
select x from options
select y from ["d"] (by="greedy", temperature=2, seed=1)
score fit of "so {x}"
return {x: x.prob, fit: fit.mean, probs: y.probs}
""",
    ),
    (
        forks,
        "",
        """
"a"
fork item in ["b", "c"] as drafts:
    "{item}"
    gen x
    fork i in range(2) as inner:
        "{i}"
        gen y
    "{join(inner.y, "-")}"
"{join(drafts.x, ",")}"
return drafts.x
""",
    ),
    (
        nested,
        "",
        """
"a"
fork 2 as outer:
    fork i in range(2) as inner:
        "{i}"
        gen y
return outer.inner.y
""",
    ),
    (
        keeps,
        "",
        """
"a"
fork gen plan(n=2, temperature=1.0) as plans:
    score merit of "good"
keep plans[1]
"then"
gen z
return {plan, merit: plans.merit, z}
""",
    ),
    (
        loops,
        "",
        """
for name in ["a", "b"]:
    "{name}"
    gen x
for i in range(3):
    if i == 1:
        "one"
    elif i > 1:
        "more"
    else:
        "none"
return "ended with " + x
""",
    ),
    (
        calls,
        'program part(what, again: int = 1):\n    for i in range(again):\n        "part {what}"\n'
        "        gen found\n    return found\n\n",
        """
"a"
gen x
call part(x, again=2) as fresh
extend part("b") as here
return [fresh, here, x]
""",
    ),
]


@pytest.mark.parametrize(
    ("body", "others", "source"), CASES, ids=lambda c: getattr(c, "__name__", "")
)
def test_both_forms_record_one_graph(body: Body, others: str, source: str) -> None:
    text = ramet.loads(others + body_of(source)).trace()
    python = ramet.Program(body, "p").trace()
    assert simplify(text) == simplify(python), f"{simplify(text)}\n\n{simplify(python)}"
    assert ramet.from_json(ramet.to_json(text)) == text


def test_a_score_can_be_appended_like_the_others() -> None:
    @ramet.program
    def p(s: State) -> None:
        s += "a" + score("fit", "b")

    assert p.trace() == ramet.loads(body_of('"a"\nscore fit of "b"')).trace()


def test_an_empty_text_appends_nothing() -> None:
    assert len(ramet.loads(body_of('""\n"{strip(" ")}"\n"a"')).trace().nodes) == 2


def test_a_while_ends_at_its_limit() -> None:
    graph = ramet.loads(body_of('while true limit 3:\n    gen x\n"end"')).trace()
    assert [type(node).__name__ for node in graph.nodes] == ["Root", "Gen", "Gen", "Gen", "Text"]


def test_names_of_a_branch_are_its_own() -> None:
    source = """
let a = "outside"
"x"
fork i in range(2) as f:
    let a = "inside {i}"
    let b = i
return [a, f.a, f.b, f[1].b]
"""
    graph = ramet.loads(body_of(source)).trace()
    assert "outside" in str(graph.result)
    assert str(graph).endswith('return ["outside", ["inside 0", "inside 1"], [0, 1], 1]')


def test_keep_brings_the_names_of_the_branch() -> None:
    source = """
let a = 1
let b = 1
"x"
fork i in range(2) as f:
    let a = i + 5
let b = 2
keep f[1]
return [a, b]
"""
    assert str(ramet.loads(body_of(source)).trace()).endswith("return [6, 2]")


def test_what_keep_brought_is_there_in_the_next_turn() -> None:
    source = """
let first = true
"x"
for i in range(2):
    if not first:
        "{b}"
    fork j in range(2) as f:
        let b = j + 1
    keep f[1]
    let first = false
return b
"""
    graph = ramet.loads(body_of(source)).trace()
    assert str(graph).endswith("return 2")


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("let a = [1]\nkeep a[0]", 3, "keep takes one branch of a fork"),
        ("gen x(max_tokens=len([]))", 2, "max_tokens must be a whole number"),
        ('let k = "wrd"\nselect x from [k, k]', 3, "an option is there twice"),
        ("let n = 0\nfork n as f:\n    gen x", 3, "a fork makes 1 to"),
        ("let n = 1.5\nfork n as f:\n    gen x", 3, "fork needs a whole number or a list"),
        ("if false:\n    let a = 1\nreturn a", 4, "'a' has no value yet"),
        (
            "let l = 1.5\nwhile true limit l:\n    gen x",
            3,
            "the limit of a while is a whole number",
        ),
        ("let n = 100000\nfork n as f:\n    gen y", 3, "more than 10,000 branches"),
        ('user "a"\nassistant:\n    extend q()', 4, "turns do not nest"),
    ],
)
def test_a_mistake_that_shows_only_in_a_run(source: str, line: int, message: str) -> None:
    others = 'program q():\n    user "x"\n'
    with pytest.raises(ramet.LanguageError) as caught:
        ramet.loads(others + body_of(source)).trace()
    assert message in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.line in (line + 2, 2)


def test_a_kept_branch_has_bound_what_it_bound_to_the_same_value() -> None:
    program = ramet.loads(
        """
program p():
    let x = false
    let y = 1
    "a"
    fork 2 as branches:
        let x = false
        for pair in [[1, 2]]:
            let z = pair[0]
    let x = true
    let y = 2
    keep branches[1]
    return [x, y, z]
"""
    )
    assert program.trace().result == ListOf((False, 2, 1))
