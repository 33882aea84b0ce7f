"""Legal graphs of every shape, drawn at random."""

from random import Random

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
    Part,
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

LETTERS = 'ab \n"\\%{é€😀\u0301\u2028\x00\ufffe'
NAMES = ("a", "b", "answer", "é")
KINDS = (Text, Text, Text, Open, Close, Gen, Gen, Select, Score, Fork, Fork, Sample, Keep, Call)


def graphs(size: int = 10, runs: bool = False) -> st.SearchStrategy[Graph]:
    """Legal graphs of at most that many steps; a smaller one is the beginning of a larger.

    One that `runs` needs nothing but an engine: no inputs, some text before every draw, and little
    to generate.
    """
    seeds = st.integers(0, 2**32)
    return st.builds(lambda seed, steps: Draw(seed, runs).graph(steps), seeds, st.integers(0, size))


class Draw:
    """Steps after random ends of states, refused ones left out."""

    def __init__(self, seed: int, runs: bool) -> None:
        self.chance = Random(seed)
        self.runs = runs
        self.recorder = GraphRecorder()
        self.ends = [0]
        self.bound: list[int] = []
        self.families: list[tuple[int, list[int]]] = []  # a state and its branches, in `ends`

    def graph(self, steps: int) -> Graph:
        if self.runs:
            self.ends[0] = self.recorder.add(Text(0, ("a",)))
        else:
            for name in self.chance.sample(NAMES, self.chance.randrange(3)):
                self.bound.append(self.recorder.add(Input(name, self.chance.choice(TYPES))))
        for _ in range(steps):
            self._step()
        name = self._text()
        return self.recorder.graph(name, self._result(3))

    def _step(self) -> None:
        place = self.chance.randrange(len(self.ends))
        kind = self.chance.choice(KINDS)
        if kind is Keep and self.families:
            place = self.chance.choice(self.families)[0]
        node = self._node(kind, self.ends[place])
        try:
            at = self.recorder.add(node)
        except GraphError:  # a turn that is open already, or is not; a branch that is no more
            return
        if isinstance(node, Call):
            self.ends.append(self.recorder.add(Text(at, ("c",))) if self.runs else at)
            return
        self.ends[place] = at
        if isinstance(node, Gen | Select | Score):
            self.bound.append(at)
        if isinstance(node, Fork | Sample):
            indices = self.chance.sample(range(node.count), self.chance.randint(0, node.count))
            begun = [self.recorder.add(Branch(at, index)) for index in indices]
            if begun:
                family = range(len(self.ends), len(self.ends) + len(begun))
                self.families.append((place, list(family)))
            self.ends += begun
            self.bound += begun if isinstance(node, Sample) else []

    def _node(self, kind: type[Node], state: int) -> Node:
        chance, span = self.chance, self._span()
        if kind is Text:
            return Text(state, self._parts(), span=span)
        if kind is Open:
            return Open(state, chance.choice(ROLES), span=span)
        if kind is Close:
            role = self.recorder._ledger.role(state) or chance.choice(ROLES)
            return Close(state, role, span=span)
        if kind is Gen:
            params = self._params(1 if self.runs else chance.randint(1, 3))
            return Gen(state, chance.choice(NAMES), params, self._type(params), span=span)
        if kind is Sample:
            params = self._params(chance.randint(2, 3))
            return Sample(state, chance.choice(NAMES), params, self._type(params), span=span)
        if kind is Select:
            options = tuple({self._text() for _ in range(chance.randint(1, 3))})
            by, heat = chance.choice(METHODS), chance.choice([0.0, 0.7])
            options = tuple(sorted(options))
            return Select(state, chance.choice(NAMES), options, by, heat, self._seed(), span=span)
        if kind is Score:
            return Score(state, chance.choice(NAMES), self._parts(), span=span)
        if kind is Fork:
            return Fork(state, chance.randint(1, 3), span=span)
        if kind is Keep:
            families = [each for place, each in self.families if self.ends[place] == state]
            some = chance.choice(families or [range(len(self.ends))])
            return Keep(state, self.ends[chance.choice(some)], span=span)
        return Call(state, self._text(), span=span)

    def _params(self, n: int) -> SamplingParams:
        chance = self.chance
        if self.runs:
            heat = 1.0 if n > 1 else chance.choice([0.0, 1.5])
            count = chance.randint(1, 4)
            return SamplingParams(
                max_tokens=count, temperature=heat, n=n, ignore_eos=True, seed=self._seed()
            )
        if chance.random() < 0.2:
            return SamplingParams(beams=n + 1, length_penalty=chance.uniform(-1, 1))
        return SamplingParams(
            max_tokens=chance.randint(10, 90),
            temperature=chance.uniform(0.1, 2),
            n=n,
            stop=[self._text() for _ in range(chance.randrange(3))],
            logit_bias={token: chance.uniform(-1, 1) for token in range(chance.randrange(3))},
            seed=self._seed(),
        )

    def _type(self, params: SamplingParams) -> Type | None:
        types = [Type("int"), Type("bool"), Type("regex", "a+"), Type("json", "{}")]
        some = not self.runs and params.beams == 1 and self.chance.random() < 0.4
        return self.chance.choice(types) if some else None

    def _seed(self) -> int | None:
        return self.chance.choice([None, 0, 9])

    def _span(self) -> Span | None:
        chance = self.chance
        known = chance.random() < 0.5
        return Span(self._text(), chance.randint(1, 99), chance.randint(1, 99)) if known else None

    def _text(self) -> str:
        return "".join(self.chance.choices(LETTERS, k=self.chance.randint(1, 5)))

    def _parts(self) -> tuple[Part, ...]:
        return tuple(self._part(self.bound) for _ in range(self.chance.randint(1, 3)))

    def _part(self, bound: list[int]) -> Part:
        if not bound or self.chance.random() < 0.5:
            return self._text()
        return Ref(self.chance.choice(bound))

    def _result(self, depth: int) -> Result:
        chance = self.chance
        single = [id for id in self.bound if not self._is_list(id)]
        leaves: list[Result] = [None, True, 7, 0.1, 1e300, -(2**70), self._text()]
        leaves.append(TextOf(tuple(self._part(single) for _ in range(chance.randrange(3)))))
        if self.bound:
            ref = Ref(chance.choice(self.bound))
            leaves += 2 * [ref]
            if not isinstance(self.recorder.nodes[ref.node], Input):
                leaves.append(Ref(ref.node, chance.choice(["text", "tokens"])))
        if depth == 0 or chance.random() < 0.5:
            return chance.choice(leaves)
        items = [self._result(depth - 1) for _ in range(chance.randrange(4))]
        named = {self._text(): item for item in items}
        return chance.choice(
            [ListOf(tuple(items)), TupleOf(tuple(items)), MapOf(tuple(named.items()))]
        )

    def _is_list(self, id: int) -> bool:
        node = self.recorder.nodes[id]
        return isinstance(node, Gen) and node.params.n > 1


def exactly(graph: Graph) -> str:
    """The graph with what equality leaves out: spans, and 1 against 1.0 against True."""
    return repr((graph, [node.span for node in graph.nodes]))
