"""What a run of a graph can take, worked out before it runs."""

from dataclasses import dataclass

from ramet.graph import Graph, before
from ramet.ledger import Ledger
from ramet.nodes import Branch, Call, Fork, Gen, Input, Keep, Sample, Score, Select, Step
from ramet.passes.bounds import DRAWS, Count, Most, needs, width
from ramet.passes.rewrite import ledger_of, refs_in, refs_of

TURN = 32
"""Tokens that a chat template writes around a turn, if nobody says how many."""


@dataclass(frozen=True, slots=True)
class StatePlan:
    """One state: the program's own, a branch, or that of a program that is called."""

    begins: int  # the node it begins with
    ends: int  # its last node
    own: int  # tokens that its own nodes append, at most
    context: int  # tokens of its context at its end, at most; what it began on counts
    uses: int  # draws that read what it began on: its own, and those of states under it
    next_use: int | None  # the first of them


@dataclass(frozen=True, slots=True)
class Plan:
    """Bounds on one run. Tokens are those of `count`; "at most" is the sum over all nodes, with
    `max_tokens` for what is drawn, and for a value in a text as well.
    """

    states: tuple[StatePlan, ...]  # by the node that each begins with
    inputs: tuple[str, ...]  # arguments in texts that are not given: the bounds leave them out
    prompt: int  # tokens of texts, turns, options and scored texts at most, each counted once
    prompt_alone: int  # the same, had each draw, option and sample been a request of its own
    generated: int  # tokens drawn at most: `max_tokens` for each sample, and for each beam
    context: int  # tokens of the longest context at most
    context_least: int  # tokens of the longest context that a draw certainly has before it
    branches: int  # branches begun in all, those of forks and of samples
    branches_live: int  # branches there at once at most: keep ends those of its fork
    block_size: int  # tokens a block holds
    blocks: int  # blocks at most, were all states there at once; each holds its own tokens only
    blocks_alone: int  # the same without sharing: each state holds its whole context
    critical: tuple[int, ...]  # the longest row of draws that wait for each other, by node
    critical_tokens: int  # tokens drawn along it at most
    uses: tuple[int, ...]  # of each node: draws to come that read the context up to it
    next_use: tuple[int | None, ...]  # of each node: the one of those that can come first


def plan(graph: Graph, count: Count, *, block_size: int = 16, turn: int = TURN) -> Plan:
    """What a run of the graph can take.

    Args:
        count: how many tokens a text has.
        block_size: tokens a block holds.
        turn: tokens that the chat template writes around a turn at most.
    """
    ledger = ledger_of(graph)
    most = Most(graph, ledger, count, turn)
    start, finish, slowest = _times(graph)
    uses, next_use = _uses(graph, start)
    critical = _critical(graph, finish, slowest)
    states = _states(graph, ledger, most, uses, next_use)
    blocks, blocks_alone = _blocks(graph, ledger, most, states, block_size)
    used = {ref.node for ref in refs_in(graph)}
    draws = [id for id, node in enumerate(graph.nodes) if isinstance(node, DRAWS)]
    forks = [node for node in graph.nodes if isinstance(node, Fork | Sample)]
    return Plan(
        states=states,
        inputs=tuple(
            node.name
            for id, node in enumerate(graph.nodes)
            if isinstance(node, Input) and id in used
        ),
        prompt=sum(_prompt(most, id) for id in range(len(graph.nodes))),
        prompt_alone=sum(_prompt_alone(most, id) for id in draws),
        generated=sum(_generated(graph, id) for id in draws),
        context=max(most.context),
        context_least=max((need.context for need in needs(graph, count)), default=0),
        branches=sum(fork.count for fork in forks),
        branches_live=_live(graph, ledger),
        block_size=block_size,
        blocks=blocks,
        blocks_alone=blocks_alone,
        critical=critical,
        critical_tokens=max(finish),
        uses=uses,
        next_use=next_use,
    )


def _prompt(most: Most, id: int) -> int:
    match most.graph.nodes[id]:
        case Select(by=by) as node:
            return sum(most.options(node)) * (2 if by == "unconditional" else 1)
        case Score(parts=parts):
            return most.text(parts)
        case Gen() | Branch():
            return 0
        case _:
            return most.appended[id]


def _prompt_alone(most: Most, id: int) -> int:
    node = most.graph.nodes[id]
    assert isinstance(node, Step), "a draw continues a state"
    context = most.context[node.state]
    match node:
        case Select():
            return len(node.options) * context + _prompt(most, id)
        case Gen(params=params) | Sample(params=params):
            return width(params) * context
        case _:
            return context + _prompt(most, id)


def _generated(graph: Graph, id: int) -> int:
    match graph.nodes[id]:
        case Gen(params=params) | Sample(params=params):
            return width(params) * params.max_tokens
        case _:
            return 0


def _times(graph: Graph) -> tuple[list[int], list[int], list[int | None]]:
    """For each node: tokens drawn one after the other before it, and with it, at most; and the node
    that it waits for longest."""
    start: list[int] = []
    finish: list[int] = []
    slowest: list[int | None] = []
    for node in graph.nodes:
        needed = [ref.node for ref in refs_of(node)]
        if isinstance(node, Step) and before(node) is not None:
            needed.append(node.state)
        if isinstance(node, Keep):
            needed.append(node.branch)
        last = max(needed, key=finish.__getitem__, default=None)
        start.append(0 if last is None else finish[last])
        slowest.append(last)
        drawn = node.params.max_tokens if isinstance(node, Gen | Sample) else 0
        finish.append(start[-1] + drawn)
    return start, finish, slowest


def _critical(graph: Graph, finish: list[int], slowest: list[int | None]) -> tuple[int, ...]:
    at: int | None = finish.index(max(finish))
    row: list[int] = []
    while at is not None:
        if isinstance(graph.nodes[at], Gen | Sample):
            row.append(at)
        at = slowest[at]
    return tuple(reversed(row))


def _uses(graph: Graph, start: list[int]) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    uses = [0] * len(graph.nodes)
    first: list[int | None] = [None] * len(graph.nodes)
    for id in range(len(graph.nodes) - 1, 0, -1):
        node = graph.nodes[id]
        if (earlier := before(node)) is None:
            continue
        draws = isinstance(node, DRAWS)
        uses[earlier] += uses[id] + draws
        found = [each for each in (first[earlier], id if draws else first[id]) if each is not None]
        first[earlier] = min(found, key=lambda each: (start[each], each), default=None)
    return tuple(uses), tuple(first)


def _states(
    graph: Graph,
    ledger: Ledger,
    most: Most,
    uses: tuple[int, ...],
    next_use: tuple[int | None, ...],
) -> tuple[StatePlan, ...]:
    ends: dict[int, int] = {}
    own: dict[int, int] = {}
    for id, node in enumerate(graph.nodes):
        if not isinstance(node, Input):
            begun = ledger.begun[id]
            ends[begun] = id
            own[begun] = own.get(begun, 0) + most.appended[id]
    return tuple(
        StatePlan(begun, end, own[begun], most.context[end], uses[begun], next_use[begun])
        for begun, end in sorted(ends.items())
    )


def _blocks(
    graph: Graph,
    ledger: Ledger,
    most: Most,
    states: tuple[StatePlan, ...],
    size: int,
) -> tuple[int, int]:
    """Blocks with sharing, and without. A state that begins inside a block copies it."""

    def full(tokens: int) -> int:
        return -(-tokens // size)

    def shared(tokens: int) -> int:
        return full(tokens) + 1 if tokens else 0

    beside: dict[int, tuple[int, int]] = {}  # what the draws on each state take beside it
    for id, node in enumerate(graph.nodes):
        match node:
            case Select():
                tails = most.options(node)
            case Score(parts=parts):
                tails = [most.text(parts)]
            case Gen(params=params) | Sample(params=params) if width(params) > 1:
                tails = width(params) * [params.max_tokens]
            case _:
                continue
        context, begun = most.context[node.state], ledger.begun[id]
        taken = sum(map(shared, tails)), sum(full(context + tail) for tail in tails)
        most_so_far = beside.get(begun, (0, 0))
        beside[begun] = max(taken[0], most_so_far[0]), max(taken[1], most_so_far[1])
    branches = {s.begins for s in states if isinstance(graph.nodes[s.begins], Branch)}
    own = sum(shared(s.own) if s.begins in branches else full(s.own) for s in states)
    whole = sum(full(s.context) for s in states)
    return own + sum(a for a, _ in beside.values()), whole + sum(b for _, b in beside.values())


def _live(graph: Graph, ledger: Ledger) -> int:
    """Branches there at once, if those of nested forks are there for as long as they can be."""
    nodes: dict[int, list[int]] = {}  # of each state
    called: dict[int, list[int]] = {}  # on each state
    for id, node in enumerate(graph.nodes):
        nodes.setdefault(ledger.begun[id], []).append(id)
        if isinstance(node, Call):
            called.setdefault(ledger.begun[node.state], []).append(id)
    peak: dict[int, int] = {}  # under each state

    def family(fork: int) -> int:
        node = graph.nodes[fork]
        assert isinstance(node, Fork | Sample), "only these have branches"
        return node.count + sum(peak[branch] for branch in ledger.branches.get(fork, {}).values())

    for begun in sorted(nodes, reverse=True):  # a state begins after the one it begins on
        now = sum(peak[call] for call in called.get(begun, ()))
        peak[begun] = now
        for id in nodes[begun]:
            match graph.nodes[id]:
                case Fork() | Sample():
                    now += family(id)
                case Keep(branch=branch):
                    kept = graph.nodes[ledger.begun[branch]]
                    assert isinstance(kept, Branch), "only branches are kept"
                    now += peak[ledger.begun[branch]] - family(kept.state)
                case _:
                    pass
            peak[begun] = max(peak[begun], now)
    return peak[0]
