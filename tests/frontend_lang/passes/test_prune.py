from ramet.graph import (
    Branch,
    Call,
    Fork,
    Gen,
    Graph,
    Input,
    Keep,
    ListOf,
    Node,
    Ref,
    Result,
    Root,
    Sample,
    Score,
    Select,
    Text,
)
from ramet.params import SamplingParams
from ramet.passes import prune

TWO = SamplingParams(n=2, temperature=1)


def pruned(*nodes: Node, result: Result = None) -> tuple[Node, ...]:
    return prune(Graph("g", (Root(), *nodes), result)).nodes[1:]


def test_branches_that_bind_nothing_go_and_so_does_their_fork() -> None:
    nodes = (Text(0, ("a",)), Fork(1, 2), Branch(2, 0), Branch(2, 1), Text(3, ("b",)))
    assert pruned(*nodes, Text(2, ("c",))) == (Text(0, ("a",)), Text(1, ("c",)))


def test_a_branch_goes_alone() -> None:
    nodes = (Fork(0, 2), Branch(1, 0), Branch(1, 1), Text(2, ("b",)), Gen(3, "x"))
    assert pruned(*nodes) == (Fork(0, 2), Branch(1, 1), Gen(2, "x"))


def test_a_branch_stays_for_what_is_bound_under_it() -> None:
    nodes = (Fork(0, 1), Branch(1, 0), Text(2, ("a",)), Fork(3, 1), Branch(4, 0), Gen(5, "x"))
    assert pruned(*nodes) == nodes
    nodes = (Fork(0, 1), Branch(1, 0), Call(2, "p"), Gen(3, "x"))
    assert pruned(*nodes) == nodes
    nodes = (Fork(0, 1), Branch(1, 0), Fork(2, 1), Branch(3, 0), Call(4, "p"), Text(5, ("a",)))
    assert pruned(*nodes) == ()


def test_every_kind_of_value_is_observable() -> None:
    for bound in (Gen(2, "x"), Select(2, "x", ("a",)), Score(2, "x", ("a",)), Sample(2, "x", TWO)):
        nodes = (Fork(0, 1), Branch(1, 0), bound)
        assert pruned(*nodes) == nodes
    sampled = (Sample(0, "x", TWO), Branch(1, 1))
    assert pruned(*sampled) == sampled


def test_a_branch_that_is_kept_stays() -> None:
    nodes = (Fork(0, 2), Branch(1, 1), Text(2, ("a",)), Keep(1, 3), Text(4, ("b",)))
    assert pruned(*nodes) == nodes
    inner = (Fork(2, 1), Branch(3, 0), Text(4, ("a",)), Keep(3, 5))
    nodes = (Fork(0, 2), Branch(1, 1), *inner, Keep(1, 6), Text(7, ("b",)))
    assert pruned(*nodes) == nodes
    assert pruned(*nodes[:-2]) == ()  # nobody keeps the branch that keeps


def test_a_sibling_of_what_is_kept_goes() -> None:
    nodes = (Fork(0, 2), Branch(1, 0), Branch(1, 1), Text(3, ("a",)), Keep(1, 2), Gen(5, "x"))
    assert pruned(*nodes) == (Fork(0, 2), Branch(1, 0), Keep(1, 2), Gen(3, "x"))


def test_a_fork_stays_where_a_draw_counts_it() -> None:
    for drawn in (Gen(1, "x"), Select(1, "x", ("a",)), Sample(1, "x", TWO)):
        assert pruned(Fork(0, 1), drawn) == (Fork(0, 1), drawn)
    assert pruned(Gen(0, "x"), Fork(1, 1), Score(2, "y", ("a",))) == (
        Gen(0, "x"),
        Score(1, "y", ("a",)),
    )
    assert pruned(Fork(0, 1), Fork(1, 1), Text(2, ("a",))) == (Text(0, ("a",)),)
    assert pruned(Fork(0, 1), Fork(1, 1), Branch(2, 0), Gen(3, "x")) == (
        Fork(0, 1),
        Fork(1, 1),
        Branch(2, 0),
        Gen(3, "x"),
    )


def test_calls_that_bind_nothing_go() -> None:
    assert pruned(Call(0, "p"), Text(1, ("a",)), Gen(0, "x")) == (Gen(0, "x"),)


def test_inputs_that_nobody_refers_to_go() -> None:
    nodes = (Input("a"), Input("b"), Input("c"), Text(0, (Ref(2),)))
    assert pruned(*nodes) == (Input("b"), Text(0, (Ref(1),)))
    assert pruned(*nodes, result=ListOf((Ref(3),))) == (
        Input("b"),
        Input("c"),
        Text(0, (Ref(1),)),
    )
    branch = (Input("a"), Fork(0, 1), Branch(2, 0), Text(3, (Ref(1),)))
    assert pruned(*branch) == ()


def test_the_text_of_the_program_itself_stays() -> None:
    assert pruned(Gen(0, "x"), Text(1, ("the end",))) == (Gen(0, "x"), Text(1, ("the end",)))
