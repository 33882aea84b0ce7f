"""Plans of small graphs, with letters for tokens and every number worked out by hand."""

from hypothesis import given, settings

from ramet.graph import (
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    Node,
    Open,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Text,
    chain,
)
from ramet.params import SamplingParams
from ramet.passes import Plan, StatePlan, plan
from ramet.passes.bounds import DRAWS, needs
from tests.frontend_lang.graphs import graphs


def planned(*nodes: Node, **settings: int) -> Plan:
    return plan(Graph("g", (Root(), *nodes)), len, **settings)


def most(count: int, **fields: float) -> SamplingParams:
    return SamplingParams(max_tokens=count, **fields)  # pyright: ignore[reportArgumentType]


TWO_TIPS = (
    Text(0, ("0123456789",)),  # 1
    Fork(1, 2),
    Branch(2, 0),
    Text(3, ("ab",)),
    Gen(4, "tip", most(20)),  # 5
    Branch(2, 1),
    Text(6, ("abcd",)),
    Gen(7, "tip", most(30)),  # 8
    Text(2, ("x", Ref(5), Ref(8))),  # 9
    Gen(9, "sum", most(40)),  # 10
)


def test_states_and_their_bounds() -> None:
    assert planned(*TWO_TIPS).states == (
        StatePlan(begins=0, ends=10, own=101, context=101, uses=3, next_use=5),
        StatePlan(begins=3, ends=5, own=22, context=32, uses=1, next_use=5),
        StatePlan(begins=6, ends=8, own=34, context=44, uses=1, next_use=8),
    )


def test_tokens() -> None:
    found = planned(*TWO_TIPS)
    assert found.prompt == 10 + 2 + 4 + (1 + 20 + 30)
    assert found.prompt_alone == 12 + 14 + 61
    assert found.generated == 20 + 30 + 40
    assert found.context == 101
    assert found.inputs == ()


def test_blocks_with_sharing_and_without() -> None:
    found = planned(*TWO_TIPS, block_size=10)
    assert found.block_size == 10
    assert found.blocks == 11 + (3 + 1) + (4 + 1)  # a branch may copy the block it begins in
    assert found.blocks_alone == 11 + 4 + 5


def test_what_draws_take_beside_their_state() -> None:
    select = planned(Text(0, ("abc",)), Select(1, "x", ("d", "efg")), block_size=4)
    assert (select.blocks, select.blocks_alone) == (2 + (2 + 2), 2 + (1 + 2))
    score = planned(Text(0, ("abc",)), Score(1, "x", ("defgh",)), block_size=4)
    assert (score.blocks, score.blocks_alone) == (1 + 3, 1 + 2)
    samples = planned(Text(0, ("abc",)), Gen(1, "x", most(4, n=3, temperature=1)), block_size=4)
    assert (samples.blocks, samples.generated, samples.context) == (1 + 3 * 2, 12, 3)
    beams = planned(Text(0, ("abc",)), Gen(1, "x", most(4, beams=2)), block_size=4)
    assert (beams.blocks, beams.generated, beams.context) == (2 + 2 * 2, 8, 7)


def test_draws_count_what_they_compute() -> None:
    found = planned(
        Open(0, "user"),
        Text(1, ("abc",)),
        Close(2, "user"),
        Select(3, "x", ("d", "ef"), "unconditional"),
        Score(4, "y", ("ghij", Ref(4))),
        Gen(5, "z", most(5, n=2, temperature=1)),
        turn=7,
    )
    assert found.prompt == 7 + 3 + 2 * (1 + 2) + (4 + 2)
    assert found.prompt_alone == (2 * 10 + 6) + (12 + 6) + 2 * 12
    assert found.context == 7 + 3 + 2


def test_numbers_in_texts_are_short_and_inputs_are_left_out() -> None:
    found = planned(
        Input("topic"),
        Input("unused"),
        Text(0, ("ab", Ref(1))),
        Score(3, "x", ("c",)),
        Text(4, (Ref(4), Ref(4, "mean"))),
    )
    assert found.inputs == ("topic",)
    assert found.context == 2 + 2 * 24


def test_branches_in_all_and_at_once() -> None:
    found = planned(
        Fork(0, 3),
        Branch(1, 0),
        Fork(2, 2),
        Branch(1, 1),
        Keep(1, 4),  # the other branches are gone, and so are those of branch 0
        Sample(5, "x", most(4, beams=4)),
        Branch(6, 2),
        Fork(7, 1),
    )
    assert (found.branches, found.branches_live) == (3 + 2 + 4 + 1, 5)
    kept_with_branches = planned(
        Fork(0, 3), Branch(1, 0), Fork(2, 2), Keep(1, 3), Fork(4, 4), Call(0, "p"), Fork(6, 5)
    )
    assert (kept_with_branches.branches, kept_with_branches.branches_live) == (14, 5 + 2 + 4)


def test_the_critical_path_goes_through_states_and_values() -> None:
    found = planned(*TWO_TIPS)
    assert (found.critical, found.critical_tokens) == ((8, 10), 70)
    kept = planned(
        Gen(0, "a", most(5)),
        Sample(1, "b", most(7, n=2, temperature=1)),
        Branch(2, 0),
        Gen(3, "c", most(9)),
        Call(1, "p"),
        Gen(5, "d", most(20)),  # a call waits for nobody
        Keep(2, 4),
        Gen(7, "e", most(2)),
    )
    assert (kept.critical, kept.critical_tokens) == ((1, 2, 4, 8), 23)
    assert planned(Text(0, ("a",))).critical == ()


def test_remaining_uses_and_the_next() -> None:
    found = planned(
        Text(0, ("a",)),
        Gen(1, "x", most(9)),
        Fork(2, 2),
        Branch(3, 0),
        Branch(3, 1),
        Gen(5, "z", most(8)),
        Text(4, (Ref(6),)),
        Gen(7, "y", most(2)),
        Score(3, "s", ("b",)),
    )
    assert found.uses == (4, 4, 3, 3, 1, 1, 0, 1, 0, 0)
    # After node 2 the draw of branch 1 and the score may come at once, the other has to wait.
    assert found.next_use == (2, 2, 6, 6, 8, 6, None, 8, None, None)


@settings(max_examples=100)
@given(graphs(size=14))
def test_bounds_hold_together(graph: Graph) -> None:
    found = plan(graph, len, block_size=4)
    assert found.context_least <= found.context
    assert found.branches_live <= found.branches
    assert found.critical_tokens <= found.generated
    assert found.uses[0] <= sum(isinstance(node, DRAWS) for node in graph.nodes)
    for need in needs(graph, len):
        assert need.context <= need.room
        assert all(found.uses[id] > 0 for id in chain(graph, need.node)[:-1])


# -- what is certain


def certain(*nodes: Node) -> list[tuple[int, int]]:
    return [(need.context, need.room) for need in needs(Graph("g", (Root(), *nodes)), len)]


def test_text_before_a_draw_is_certain() -> None:
    assert certain(Text(0, ("ab cd",)), Gen(1, "x", most(7))) == [(5, 12)]
    assert certain(Text(0, ("ab",)), Text(1, (" cd",)), Gen(2, "x", most(7))) == [(5, 12)]


def test_the_word_beside_something_unknown_is_not() -> None:
    text = Text(0, ("ab cd",))
    assert certain(text, Select(1, "x", ("y",))) == [(2, 2)]
    assert certain(text, Score(1, "x", ("y",)), Gen(2, "y", most(1))) == [(2, 2), (5, 6)]
    value = (Gen(0, "v", most(1)), Text(1, ("ab cd ef", Ref(1), "gh ij")))
    assert certain(*value, Gen(2, "x", most(1)))[1] == (len(" cd") + len(" ij"), 7)
    assert certain(Open(0, "user"), Text(1, ("ab cd",)), Gen(2, "x", most(1))) == [(3, 4)]
    assert certain(Text(0, ("abcd",)), Select(1, "x", ("y",))) == [(0, 0)]


def test_only_a_space_after_a_letter_begins_a_word() -> None:
    """Some tokenizers have tokens of a full stop and the line ends after it."""
    assert certain(Text(0, ("ab.\n\ncd",)), Select(1, "x", ("y",))) == [(0, 0)]
    assert certain(Text(0, ("ab.  \n  cd",)), Select(1, "x", ("y",))) == [(3, 3)]


def test_texts_in_pieces_are_counted_once() -> None:
    counted = list[str]()

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    pieces = [Text(at, (f" w{at}", "x")) for at in range(50)]
    branches = [each for i in range(20) for each in (Branch(51, i), Gen(52 + 2 * i, "x"))]
    graph = Graph("g", (Root(), *pieces, Fork(50, 20), *branches))
    whole = "".join(f" w{at}x" for at in range(50))
    assert [need.context for need in needs(graph, count)] == [len(whole)] * 20
    assert sum(map(len, counted)) < 2 * len(whole)


def test_a_word_without_an_end_is_not_kept() -> None:
    pieces = [Text(at, ("a" * 1_000,)) for at in range(100)]
    (need,) = needs(Graph("g", (Root(), *pieces, Gen(100, "x"))), len)
    assert need.context == 0
    (need,) = needs(Graph("g", (Root(), Text(0, ("a" * 60_000,)), Gen(1, "x"))), len)
    assert need.context == 60_000


def test_what_is_certain_goes_into_branches_and_not_into_calls() -> None:
    nodes = (
        Text(0, ("abc",)),
        Fork(1, 1),
        Branch(2, 0),
        Text(3, ("def",)),
        Gen(4, "x", most(1)),
        Sample(2, "y", most(2, beams=2)),
        Branch(6, 0),
        Keep(6, 7),
        Score(8, "z", ("a",)),
        Call(8, "p"),
        Gen(10, "w", most(4)),
    )
    assert certain(*nodes) == [(6, 7), (3, 5), (3, 3), (0, 4)]
