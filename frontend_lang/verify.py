"""What a legal graph is: one table of laws by the kind of node.

A law looks at one node and at the ledger of those before it, and says what it found wrong, or
None. The same laws hold a graph that came whole and one that is being recorded.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from ramet.domains import Domain, checked
from ramet.errors import Break, GraphError, ParameterError, near_miss, shown
from ramet.graph import Graph
from ramet.nodes import (
    ATTRIBUTES,
    METHODS,
    ROLES,
    Branch,
    Close,
    Fork,
    Gen,
    ListOf,
    MapOf,
    Node,
    Open,
    Part,
    Ref,
    Result,
    Role,
    Root,
    Select,
    Step,
    Text,
    TextOf,
    TupleOf,
    kind_of,
)
from ramet.params import SEED, TEMPERATURE

MAX_RESULT_DEPTH = 32
MAX_RESULT_BITS = 4_096


def verify(graph: Graph) -> None:
    """Raise one `GraphError` that lists every law which any node, or the result, breaks."""
    ledger = Ledger()
    breaks = [b for node in graph.nodes for b in ledger.enter(node)]
    if not graph.nodes:
        breaks.append(Break(0, "root", "starts_at_root", "the graph has no nodes"))
    breaks += _result_breaks(graph.nodes, graph.result)
    if breaks:
        raise GraphError.of(breaks)


class Ledger:
    """The nodes so far, and what the laws need to know of them: a new node is checked in O(1)."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.roles: list[Role | None] = []  # the role open after each node
        self.continued: set[int] = set()  # states that a node other than a branch continues
        self.branched: set[tuple[int, int]] = set()  # fork and index of each branch

    def add(self, node: Node) -> int:
        """Enter a node and give its id; one that breaks a law is refused, and not entered."""
        if breaks := self.breaks(node):
            raise GraphError("\n".join(b.sentence for b in breaks), breaks=tuple(breaks))
        self._note(node)
        return len(self.nodes) - 1

    def enter(self, node: Node) -> list[Break]:
        """Enter a node, legal or not, and give the laws that it breaks."""
        breaks = self.breaks(node)
        self._note(node)
        return breaks

    def breaks(self, node: Node) -> list[Break]:
        """The laws that the node would break as the next one."""
        found = ((law.__name__, law(node, self)) for law in LAWS[type(node)])
        kind, id = kind_of(node), len(self.nodes)
        return [Break(id, kind, law, what, node.span) for law, what in found if what is not None]

    def role(self, state: int) -> Role | None:
        return self.roles[state] if 0 <= state < len(self.roles) else None

    def node(self, id: int) -> Node | None:
        return self.nodes[id] if 0 <= id < len(self.nodes) else None

    def _note(self, node: Node) -> None:
        role = self.role(node.state) if isinstance(node, Step) else None
        match node:
            case Open(role=opened):
                role = opened
            case Close():
                role = None
            case Branch(state=fork, index=index):
                self.branched.add((fork, index))
            case _:
                pass
        if isinstance(node, Step) and not isinstance(node, Branch):
            self.continued.add(node.state)
        self.nodes.append(node)
        self.roles.append(role)


Law: TypeAlias = Callable[[Any, Ledger], str | None]


def starts_at_root(node: Root, ledger: Ledger) -> str | None:
    if ledger.nodes:
        return "only node 0 is the root"
    return None


def state_is_earlier(node: Step, ledger: Ledger) -> str | None:
    if ledger.node(node.state) is None:
        return f"it continues node {node.state}, which does not come before it"
    return None


def state_is_free(node: Step, ledger: Ledger) -> str | None:
    if node.state in ledger.continued:
        return f"node {node.state} is continued already; only a fork has several futures"
    return None


def parts_are_present(node: Text, ledger: Ledger) -> str | None:
    if not node.parts or "" in node.parts:
        return "it has no parts, or an empty one"
    return None


def parts_are_unicode(node: Text, ledger: Ledger) -> str | None:
    return _not_unicode(_texts(node.parts))


def parts_are_bound(node: Text, ledger: Ledger) -> str | None:
    return _first(_ref_break(part, ledger.nodes) for part in _refs(node.parts))


def parts_are_texts(node: Text, ledger: Ledger) -> str | None:
    return _first(_list_break(part, ledger.nodes) for part in _refs(node.parts))


def role_is_known(node: Open | Close, ledger: Ledger) -> str | None:
    return _one_of("role", node.role, ROLES)


def no_role_is_open(node: Open, ledger: Ledger) -> str | None:
    if (role := ledger.role(node.state)) is not None:
        return f"the {role} turn is still open; turns do not nest"
    return None


def its_role_is_open(node: Close, ledger: Ledger) -> str | None:
    if (role := ledger.role(node.state)) != node.role:
        return f"it closes {node.role}, but {'no turn' if role is None else role} is open"
    return None


def name_is_identifier(node: Gen | Select, ledger: Ledger) -> str | None:
    if not node.name.isidentifier():
        return f"{shown(node.name)} is not a name: letters, digits and _, no digit first"
    return None


def options_are_distinct(node: Select, ledger: Ledger) -> str | None:
    if not node.options or "" in node.options:
        return "it has no options, or an empty one"
    if len(set(node.options)) < len(node.options):
        return "an option is there twice"
    return None


def options_are_unicode(node: Select, ledger: Ledger) -> str | None:
    return _not_unicode(node.options)


def method_is_known(node: Select, ledger: Ledger) -> str | None:
    return _one_of("method", node.by, METHODS)


def temperature_is_legal(node: Select, ledger: Ledger) -> str | None:
    return _outside("temperature", node.temperature, TEMPERATURE)


def seed_is_legal(node: Select, ledger: Ledger) -> str | None:
    return _outside("seed", node.seed, SEED)


def count_is_positive(node: Fork, ledger: Ledger) -> str | None:
    if node.count < 1:
        return f"it makes {node.count} branches; at least 1 is needed"
    return None


def branch_is_of_fork(node: Branch, ledger: Ledger) -> str | None:
    fork = ledger.node(node.state)
    if not isinstance(fork, Fork):
        return f"node {node.state} is no fork"
    if not 0 <= node.index < fork.count:
        return f"its number is {node.index}, but the fork makes {fork.count} branches"
    return None


def branch_is_single(node: Branch, ledger: Ledger) -> str | None:
    if (node.state, node.index) in ledger.branched:
        return f"the fork has a branch {node.index} already"
    return None


_STEP: tuple[Law, ...] = (state_is_earlier, state_is_free)

LAWS: dict[type[Node], tuple[Law, ...]] = {
    Root: (starts_at_root,),
    Text: (*_STEP, parts_are_present, parts_are_unicode, parts_are_bound, parts_are_texts),
    Open: (*_STEP, role_is_known, no_role_is_open),
    Close: (*_STEP, role_is_known, its_role_is_open),
    Gen: (*_STEP, name_is_identifier),
    Select: (
        *_STEP,
        name_is_identifier,
        options_are_distinct,
        options_are_unicode,
        method_is_known,
        temperature_is_legal,
        seed_is_legal,
    ),
    Fork: (*_STEP, count_is_positive),
    Branch: (state_is_earlier, branch_is_of_fork, branch_is_single),
}


def check_result(nodes: Sequence[Node], result: Result) -> None:
    """Raise one `GraphError` that lists what is wrong with the result of these nodes."""
    if breaks := _result_breaks(nodes, result):
        raise GraphError.of(breaks)


def _result_breaks(nodes: Sequence[Node], result: Result) -> list[Break]:
    found = _result_faults(nodes, result, MAX_RESULT_DEPTH)
    return [Break(len(nodes), "return", law, what) for law, what in found]


def _result_faults(nodes: Sequence[Node], result: Result, depth: int) -> Iterator[tuple[str, str]]:
    match result:
        case Ref():
            yield from _named("result_is_bound", _ref_break(result, nodes))
        case TextOf(parts):
            yield from _named("result_is_unicode", _not_unicode(_texts(parts)))
            for ref in _refs(parts):
                yield from _named("result_is_bound", _ref_break(ref, nodes))
                yield from _named("result_is_text", _list_break(ref, nodes))
        case ListOf() | TupleOf() | MapOf() if depth == 0:
            yield "result_is_flat", f"it nests deeper than {MAX_RESULT_DEPTH}"
        case ListOf(items) | TupleOf(items):
            for item in items:
                yield from _result_faults(nodes, item, depth - 1)
        case MapOf(items):
            yield from _named("result_is_unicode", _not_unicode(key for key, _ in items))
            if len(dict(items)) < len(items):
                yield "result_is_map", "a key is there twice"
            for _, item in items:
                yield from _result_faults(nodes, item, depth - 1)
        case _:
            yield from _named("result_is_json", _constant_break(result))


def _named(law: str, found: str | None) -> Iterator[tuple[str, str]]:
    if found is not None:
        yield law, found


def _constant_break(value: bool | int | float | str | None) -> str | None:
    if isinstance(value, str):
        return _not_unicode([value])
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number in JSON"
    if isinstance(value, int) and value.bit_length() > MAX_RESULT_BITS:
        return f"a whole number of more than {MAX_RESULT_BITS} bits"
    return None


def _refs(parts: Iterable[Part]) -> list[Ref]:
    return [part for part in parts if isinstance(part, Ref)]


def _texts(parts: Iterable[Part]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def _ref_break(ref: Ref, nodes: Sequence[Node]) -> str | None:
    if not 0 <= ref.node < len(nodes):
        return f"it refers to node {ref.node}, which does not come before it"
    if not isinstance(target := nodes[ref.node], Gen | Select):
        return f"it refers to node {ref.node}, a {kind_of(target)}, which binds no value"
    if ref.attribute is not None and ref.attribute not in ATTRIBUTES:
        hint = near_miss(ref.attribute, ATTRIBUTES)
        return f"{shown(ref.attribute)} is no attribute of a value{hint}"
    return None


def _list_break(ref: Ref, nodes: Sequence[Node]) -> str | None:
    target = nodes[ref.node] if 0 <= ref.node < len(nodes) else None
    if isinstance(target, Gen) and target.params.n > 1 and ref.attribute is None:
        return f"the value of node {ref.node} is a list of {target.params.n} samples, not a text"
    return None


def _not_unicode(texts: Iterable[str]) -> str | None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            return "a lone surrogate is in a text"
    return None


def _outside(name: str, value: object, domain: Domain) -> str | None:
    try:
        checked(name, value, domain)
    except ParameterError as error:
        return error.message
    return None


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str | None:
    if value not in known:
        return f"{shown(value)} is no {what} ({', '.join(known)}){near_miss(value, known)}"
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next((what for what in found if what is not None), None)
