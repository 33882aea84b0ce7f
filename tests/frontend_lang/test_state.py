from typing import Any

import pytest

from ramet import assistant, gen, score, select, system, user
from ramet.errors import (
    AppendError,
    ArgumentError,
    GraphError,
    LanguageError,
    ParameterError,
    TraceError,
    UnknownVariable,
)
from ramet.graph import Close, Gen, Graph, Node, Select, Text, variables
from ramet.recorder import GraphRecorder
from ramet.state import State
from ramet.values import place


@pytest.fixture
def recorder() -> GraphRecorder:
    return GraphRecorder()


@pytest.fixture
def s(recorder: GraphRecorder) -> State:
    return State(recorder)


def lines(recorder: GraphRecorder) -> list[str]:
    """What was recorded, as text, without the root."""
    return str(recorder.graph("p")).splitlines()[2:]


def test_texts_and_expressions_become_nodes_at_once(recorder: GraphRecorder, s: State) -> None:
    s += "a"
    assert recorder.nodes[-1] == Text(0, ("a",))
    s += gen("x", max_tokens=4)
    assert isinstance(recorder.nodes[-1], Gen)
    s += select("y", ["b", "c"], by="greedy", temperature=1, seed=3)
    assert recorder.nodes[-1] == Select(2, "y", ("b", "c"), "greedy", 1.0, 3)


def test_a_sum_is_flattened_and_its_texts_are_one_node(recorder: GraphRecorder, s: State) -> None:
    s += "A: " + gen("a") + "\n" + ("B: " + gen("b") + ".")
    s += "Because " + s["a"] + ", " + s["b"].text + "."
    assert lines(recorder) == [
        '%1 = text %0 "A: "',
        "%2 = gen %1 as a",
        '%3 = text %2 "\\n" + "B: "',
        "%4 = gen %3 as b",
        '%5 = text %4 "."',
        '%6 = text %5 "Because " + %2 + ", " + %4.text + "."',
    ]


def test_empty_texts_are_no_nodes(recorder: GraphRecorder, s: State) -> None:
    s += ""
    s += "" + gen("a") + ""
    assert lines(recorder) == ["%1 = gen %0 as a"]


def test_turns(recorder: GraphRecorder, s: State) -> None:
    s += system("Be kind.") + user("Hi " + gen("who"))
    with s.assistant():
        s += "Think: " + gen("thought")
    s += assistant(s["thought"])
    assert lines(recorder) == [
        "%1 = open %0 system",
        '%2 = text %1 "Be kind."',
        "%3 = close %2 system",
        "%4 = open %3 user",
        '%5 = text %4 "Hi "',
        "%6 = gen %5 as who",
        "%7 = close %6 user",
        "%8 = open %7 assistant",
        '%9 = text %8 "Think: "',
        "%10 = gen %9 as thought",
        "%11 = close %10 assistant",
        "%12 = open %11 assistant",
        "%13 = text %12 %10",
        "%14 = close %13 assistant",
    ]


def test_turns_do_not_nest(s: State) -> None:
    with pytest.raises(GraphError) as caught, s.user():
        s += system("x")
    assert caught.value.breaks[0].law == "no_role_is_open"
    assert str(caught.value).startswith(f"{__file__}:")
    assert str(caught.value).endswith('\n    s += system("x")\n    ^')


def test_a_failing_block_closes_its_turn_and_keeps_its_error(
    recorder: GraphRecorder, s: State
) -> None:
    with pytest.raises(ZeroDivisionError), s.user():
        s += f"{1 // 0}"
    s += user("again")
    assert lines(recorder)[:3] == ["%1 = open %0 user", "%2 = close %1 user", "%3 = open %2 user"]


class Broken(GraphRecorder):
    """Closes no turn."""

    def add(self, node: Node) -> int:
        if isinstance(node, Close):
            raise LanguageError("the run is over")
        return super().add(node)


def test_a_turn_that_cannot_close_does_not_mask_the_error() -> None:
    s = State(Broken())
    with pytest.raises(ZeroDivisionError), s.user():
        s += f"{1 // 0}"
    with pytest.raises(LanguageError, match="the run is over"):
        State(Broken()).__iadd__(user("b"))


def test_a_branch_cannot_be_replaced(s: State) -> None:
    drafts = s.fork(1)
    with pytest.raises(AppendError, match="a branch cannot be replaced; append to it with"):
        drafts[0] = s


def test_a_fork_shares_and_goes_its_own_way(recorder: GraphRecorder, s: State) -> None:
    s += "a" + gen("x")
    drafts = s.fork(2)
    assert len(drafts) == 2
    for i, draft in enumerate(drafts):
        draft += f"{i}: " + draft["x"]
        draft += gen("x") if i else gen("y")
    s += "then"
    drafts[0] += gen("z")
    assert lines(recorder) == [
        '%1 = text %0 "a"',
        "%2 = gen %1 as x",
        "%3 = fork %2 into 2",
        "%4 = branch %3 number 0",
        "%5 = branch %3 number 1",
        '%6 = text %4 "0: " + %2',
        "%7 = gen %6 as y",
        '%8 = text %5 "1: " + %2',
        "%9 = gen %8 as x",
        '%10 = text %3 "then"',
        "%11 = gen %7 as z",
    ]
    graph = recorder.graph("p")
    assert variables(graph, 11) == {"x": 2, "y": 7, "z": 11}
    assert variables(graph, 9) == {"x": 9}
    assert [place(value) for value in drafts["x"].values] == ["2", "9"]
    assert len(drafts[1:]) == 1
    assert "y" not in s
    assert "y" in drafts[0]


def test_a_variable_that_one_branch_lacks(s: State) -> None:
    drafts = s.fork(2)
    drafts[0] += gen("answer")
    with pytest.raises(UnknownVariable, match="unknown variable 'answer'"):
        _ = drafts["answer"]


def test_samples_are_a_list_and_no_text(s: State) -> None:
    s += gen("x", n=2, temperature=1)
    with pytest.raises(GraphError, match="the value of node 1 is a list of 2 samples, not a text"):
        s += s["x"]


def test_an_unknown_variable_suggests_the_near_miss(s: State) -> None:
    s += gen("answer")
    with pytest.raises(UnknownVariable) as caught:
        s += "so " + s["anwser"]
    line, source, caret = str(caught.value).splitlines()
    assert line.endswith(": unknown variable 'anwser'; did you mean 'answer'?")
    assert source[caret.index("^") :] == 's["anwser"]'


def test_reading_names_the_line_and_the_variable(s: State) -> None:
    s += gen("x")
    with pytest.raises(TraceError) as caught:
        _ = "é" if s["x"] == "yes" else ""
    line, source, caret = str(caught.value).splitlines()
    assert line.startswith(f"{__file__}:")
    assert line.endswith(": the value of 'x' is needed here, and only a run can know it")
    assert source[caret.index("^") :].startswith('s["x"] == "yes"')


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, "a text or an expression is needed here, not None"),
        (3, "a text or an expression is needed here, not 3; write str(...) around it"),
        (
            ["a"],
            "a text or an expression is needed here, not a list; "
            "ramet.join(...) makes one of several",
        ),
        (
            gen,
            "a text or an expression is needed here, not a function; "
            "is a pair of parentheses missing?",
        ),
    ],
)
def test_what_cannot_be_appended(s: State, item: Any, message: str) -> None:
    with pytest.raises(AppendError) as caught:
        s += item
    assert caught.value.message == message
    assert caught.value.span is not None
    assert caught.value.span.file == __file__
    assert isinstance(caught.value, TypeError)
    with pytest.raises(AppendError):
        _ = gen("x") + item
    with pytest.raises(AppendError):
        user(item)


def test_a_bad_parameter_names_the_line() -> None:
    with pytest.raises(ParameterError) as caught:
        gen("x", temperature=-1)
    assert str(caught.value).startswith(f"{__file__}:")
    assert caught.value.message == "temperature must be a number from 0 to 100, not -1"
    with pytest.raises(ParameterError, match="did you mean 'max_tokens'"):
        gen("x", max_token=4)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ParameterError, match="seed must be None or a whole number"):
        select("x", ["a"], seed=-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("yes", "select needs a list of options, not 'yes'"),
        (5, "select needs a list of options, not 5"),
        (["a", 5], "an option must be a text, not 5"),
    ],
)
def test_bad_options(options: Any, message: str) -> None:
    with pytest.raises(AppendError) as caught:
        select("x", options)
    assert caught.value.message == message


def test_a_name_is_a_string_and_an_identifier(s: State) -> None:
    with pytest.raises(AppendError, match="gen needs the name of a variable, not 5"):
        gen(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="'two words' is not a name"):
        s += gen("two words")
    assert "two words" not in s


@pytest.mark.parametrize("count", ["3", None, True, 1.0])
def test_fork_counts_in_whole_numbers(s: State, count: Any) -> None:
    with pytest.raises(ArgumentError, match="fork needs a whole number or a list, not "):
        s.fork(count)


def test_a_fork_has_a_branch(s: State) -> None:
    with pytest.raises(GraphError, match="it makes 0 branches; a fork makes 1 to 4096"):
        s.fork(0)


def test_a_refused_append_changes_nothing(recorder: GraphRecorder, s: State) -> None:
    s += "a"
    with pytest.raises(GraphError):
        s += gen("9")
    s += "b"
    assert recorder.graph("p") == Graph("p", (*recorder.nodes[:2], Text(1, ("b",))))


def test_spans_point_at_the_statement(recorder: GraphRecorder, s: State) -> None:
    s += "a"
    first = recorder.nodes[-1].span
    s += user("b" + gen("x"))
    second = {node.span for node in recorder.nodes[2:]}
    assert first is not None
    assert (first.file, first.column) == (__file__, 5)
    assert {span.line - first.line for span in second if span} == {2}


# -- score, branch, keep, each


def test_score_binds_and_appends_nothing(recorder: GraphRecorder, s: State) -> None:
    s += "a" + gen("x")
    fit = s.score("fit", "so " + s["x"] + ".")
    assert lines(recorder)[-1] == '%3 = score %2 as fit of "so " + %2 + "."'
    s += score("more", "b") + "c" + fit.mean
    assert lines(recorder)[-2:] == ['%4 = score %3 as more of "b"', '%5 = text %4 "c" + %3.mean']
    assert {"fit", "more"} <= s.variables.keys()


@pytest.mark.parametrize("content", [gen("x"), user("a"), select("y", ["b"])])
def test_only_texts_and_values_are_scored(s: State, content: Any) -> None:
    with pytest.raises(AppendError):
        s.score("fit", content)


def test_fork_over_a_list(recorder: GraphRecorder, s: State) -> None:
    seen = list[object]()

    def body(branch: State, item: str) -> None:
        seen.append((item, branch))
        branch += item + gen("x")

    branches = s.fork(["a", "b"])
    assert branches.each(body) is branches
    assert seen == [("a", branches[0]), ("b", branches[1])]
    assert lines(recorder)[3:] == [
        '%4 = text %2 "a"',
        "%5 = gen %4 as x",
        '%6 = text %3 "b"',
        "%7 = gen %6 as x",
    ]
    assert len(branches["x"]) == 2


def test_each_of_a_count_has_numbers_and_of_a_slice_its_own(s: State) -> None:
    seen = list[int]()
    s.fork(3)[1:].each(lambda branch, item: seen.append(item))
    assert seen == [1, 2]


def test_each_raises_what_a_body_raises(s: State) -> None:
    def body(branch: State, item: int) -> None:
        raise KeyError(item)

    with pytest.raises(KeyError, match="0"):
        s.fork(2).each(body)


def test_branch_draws_and_each_draw_is_a_branch(recorder: GraphRecorder, s: State) -> None:
    s += "a"
    drafts = s.branch(gen("x", n=2, temperature=1))
    assert lines(recorder)[1:] == [
        "%2 = sample %1 as x (n=2, temperature=1.0)",
        "%3 = branch %2 number 0",
        "%4 = branch %2 number 1",
    ]
    drafts[1] += "b" + drafts[0]["x"]
    assert lines(recorder)[-1] == '%5 = text %4 "b" + %3'
    assert "x" not in s
    assert (len(drafts), len(drafts["x"])) == (2, 2)
    assert len(s.branch(gen("y", beams=3))) == 3
    assert len(s.branch(gen("y", beams=3, n=2))) == 2
    assert len(s.branch(gen("y"))) == 1


@pytest.mark.parametrize("what", ["a", select("x", ["a"]), "a" + gen("x"), None])
def test_branch_needs_a_gen(s: State, what: Any) -> None:
    with pytest.raises(AppendError, match=r"branch needs a gen\(\.\.\.\), not "):
        s.branch(what)


def test_keep_makes_the_state_the_branch(recorder: GraphRecorder, s: State) -> None:
    s += "a" + gen("x")
    drafts = s.branch(gen("y", n=2, temperature=1))
    drafts[0] += "b" + gen("z")
    s.keep(drafts[0])
    s += "c" + s["y"] + s["z"]
    assert lines(recorder)[-2:] == ["%8 = keep %3 %7", '%9 = text %8 "c" + %4 + %7']
    assert list(s.variables) == ["x", "y", "z"]


def test_a_turn_goes_on_through_keep(recorder: GraphRecorder, s: State) -> None:
    with s.user():
        branches = s.fork(2)
        s.keep(branches[1])
        s += "b"
    assert lines(recorder)[-2:] == ['%6 = text %5 "b"', "%7 = close %6 user"]


def test_what_keep_refuses(s: State) -> None:
    drafts, other = s.fork(2), State(GraphRecorder()).fork(1)[0]
    inner = drafts[0].fork(1)[0]
    for wrong, error, message in [
        ("a", AppendError, "keep needs a branch, not 'a'"),
        (other, AppendError, "belongs to another run"),
        (s, GraphError, "keep takes a branch of this state, and this is none"),
        (inner, GraphError, "keep takes a branch of this state"),
    ]:
        with pytest.raises(error, match=message):
            s.keep(wrong)  # pyright: ignore[reportArgumentType]
    s += "a"
    with pytest.raises(GraphError, match="something was appended since the fork") as caught:
        s.keep(drafts[0])
    assert caught.value.span is not None
    assert (caught.value.span.file, "s.keep(drafts[0])" in str(caught.value)) == (__file__, True)


def test_what_keep_released_takes_nothing_more(s: State) -> None:
    drafts = s.fork(2)
    inner = drafts[1].fork(1)[0]
    s.keep(drafts[0])
    for again in drafts:
        with pytest.raises(GraphError, match="a branch of this fork is kept already") as caught:
            s.keep(again)
        assert "node" not in caught.value.message
        assert "branch_is_live" in [each.law for each in caught.value.breaks]
    for released in (*drafts, inner):
        with pytest.raises(GraphError, match="keep has released"):
            released += "a"
    s += "a"
