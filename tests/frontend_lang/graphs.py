"""Legal graphs of every shape, drawn at random."""

from typing import Any

from hypothesis import strategies as st

from ramet.errors import GraphError, Span
from ramet.graph import Graph
from ramet.nodes import (
    METHODS,
    ROLES,
    TYPES,
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    ListOf,
    MapOf,
    Node,
    Open,
    Ref,
    Result,
    Sample,
    Score,
    Select,
    Text,
    TextOf,
    TupleOf,
)
from ramet.params import SamplingParams
from ramet.recorder import GraphRecorder
from ramet.types import Type

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
names = st.sampled_from(["a", "b", "answer", "é"])
spans = st.none() | st.builds(Span, texts, st.integers(1, 99), st.integers(1, 99))
seeds = st.none() | st.integers(0, 9)
types = st.none() | st.sampled_from([Type("int"), Type("regex", "a+"), Type("json", "{}")])
params = st.builds(
    SamplingParams,
    max_tokens=st.integers(10, 90),
    temperature=st.floats(0.1, 2),
    n=st.integers(1, 3),
    stop=st.lists(texts, max_size=2),
    logit_bias=st.dictionaries(st.integers(0, 9), st.floats(-1, 1), max_size=2),
    seed=seeds,
)
beams = st.builds(SamplingParams, beams=st.integers(2, 4), length_penalty=st.floats(-1, 1))
short = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 4),
    temperature=st.just(0.0) | st.floats(0.5, 2),
    ignore_eos=st.just(True),
    seed=seeds,
)


@st.composite
def graphs(draw: st.DrawFn, size: int = 10, runs: bool = False) -> Graph:
    """A legal graph: steps after random ends of states, refused ones left out.

    One that `runs` needs nothing but an engine: no inputs, some text before every draw, and little
    to generate.
    """
    recorder = GraphRecorder()
    ends, bound = [0], list[int]()
    if runs:
        ends[0] = recorder.add(Text(0, ("a",)))
    else:
        takes = st.dictionaries(names, st.sampled_from(TYPES), max_size=2)
        bound += [recorder.add(Input(*each)) for each in draw(takes).items()]
    for _ in range(draw(st.integers(0, size))):
        place = draw(st.integers(0, len(ends) - 1))
        node = draw(steps(ends[place], ends, bound, runs))
        try:
            at = recorder.add(node)
        except GraphError:  # a turn that is open already, or is not; a branch that is no more
            continue
        if isinstance(node, Call):
            ends.append(recorder.add(Text(at, ("c",))) if runs else at)
            continue
        ends[place] = at
        if isinstance(node, Gen | Select | Score):
            bound.append(at)
        if isinstance(node, Fork | Sample):
            some = draw(st.permutations(range(node.count)))[: draw(st.integers(0, 3))]
            begun = [recorder.add(Branch(at, index)) for index in some]
            ends += begun
            bound += begun if isinstance(node, Sample) else []
    return recorder.graph(draw(texts), draw(results(recorder, bound)))


def steps(state: int, ends: list[int], bound: list[int], runs: bool) -> st.SearchStrategy[Node]:
    at = st.just(state)
    parts = st.lists(texts | refs(bound, None), min_size=1, max_size=3).map(tuple)
    options = st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple)
    methods = st.sampled_from(METHODS)
    draws = short if runs else params | beams
    samples = params.filter(lambda p: p.n > 1) if not runs else short.map(_twice)
    kinds = st.none() if runs else types
    return st.one_of(
        st.builds(Text, at, parts, span=spans),
        st.builds(Text, at, parts, span=spans),
        st.builds(Open, at, st.sampled_from(ROLES), span=spans),
        st.builds(Close, at, st.sampled_from(ROLES), span=spans),
        st.builds(Gen, at, names, draws, kinds, span=spans),
        st.builds(Select, at, names, options, methods, st.floats(0, 2), seeds, span=spans),
        st.builds(Score, at, names, parts, span=spans),
        st.builds(Fork, at, st.integers(1, 3), span=spans),
        st.builds(Sample, at, names, samples if runs else samples | beams, kinds, span=spans),
        st.builds(Keep, at, st.sampled_from(ends), span=spans),
        st.builds(Call, at, texts, span=spans),
    )


def _twice(params: SamplingParams) -> SamplingParams:
    return SamplingParams.from_dict({**params.to_dict(), "n": 2, "temperature": 1.0})


def refs(bound: list[int], *attributes: str | None) -> st.SearchStrategy[Ref]:
    if not bound:
        return st.nothing()
    return st.builds(Ref, st.sampled_from(bound), st.sampled_from(attributes))


def results(recorder: GraphRecorder, bound: list[int]) -> st.SearchStrategy[Result]:
    single = [id for id in bound if not _is_list(recorder.nodes[id])]
    inputs = [id for id in bound if isinstance(recorder.nodes[id], Input)]
    drawn = [id for id in bound if id not in inputs]
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
        refs(bound, None),
        refs(drawn, "text", "tokens"),
        st.lists(texts | refs(single, None), max_size=2).map(lambda p: TextOf(tuple(p))),
    )
    return st.recursive(leaves, _containers, max_leaves=5)


def _is_list(node: Node) -> bool:
    return isinstance(node, Gen) and node.params.n > 1


def _containers(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    rows = st.lists(items, max_size=3).map(tuple)
    pairs = st.dictionaries(texts, items, max_size=3).map(lambda d: tuple(d.items()))
    return st.one_of(rows.map(ListOf), rows.map(TupleOf), pairs.map(MapOf))


def exactly(graph: Graph) -> str:
    """The graph with what equality leaves out: spans, and 1 against 1.0 against True."""
    return repr((graph, [node.span for node in graph.nodes]))
