"""What a legal graph is: one table of laws by the kind of node.

A law looks at one node and at the ledger of those before it, and says what it found wrong, or
None. The same laws hold a graph that came whole and one that is being recorded.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ramet.domains import Domain, checked
from ramet.errors import ParameterError, near_miss, shown
from ramet.ledger import Ledger
from ramet.nodes import (
    ATTRIBUTES_OF,
    METHODS,
    ROLES,
    SCALARS,
    TYPES,
    Binding,
    Branch,
    Call,
    Close,
    Fork,
    Gen,
    Input,
    Keep,
    Node,
    Open,
    Part,
    Ref,
    Root,
    Sample,
    Score,
    Select,
    Step,
    Text,
    kind_of,
)
from ramet.params import SEED, TEMPERATURE

Law: TypeAlias = Callable[[Any, Ledger], str | None]

MAX_BRANCHES = 4_096  # of one fork


def starts_at_root(node: Root, ledger: Ledger) -> str | None:
    if ledger.nodes:
        return "only node 0 is the root"
    return None


def input_is_early(node: Input, ledger: Ledger) -> str | None:
    if not all(isinstance(earlier, Root | Input) for earlier in ledger.nodes):
        return "inputs come right after the root"
    return None


def input_is_single(node: Input, ledger: Ledger) -> str | None:
    if node.name in ledger.inputs:
        return f"there is an input {node.name!r} already"
    return None


def type_is_known(node: Input, ledger: Ledger) -> str | None:
    return _one_of("type", node.takes, TYPES)


def state_is_earlier(node: Step, ledger: Ledger) -> str | None:
    if (earlier := ledger.node(node.state)) is None:
        return f"it continues node {node.state}, which does not come before it"
    if isinstance(earlier, Input):
        return f"it continues node {node.state}, an input, which is no state"
    return None


def state_is_free(node: Step, ledger: Ledger) -> str | None:
    if node.state in ledger.continued:
        return f"node {node.state} is continued already; only a fork has several futures"
    return None


def state_is_live(node: Step, ledger: Ledger) -> str | None:
    if ledger.is_released(node.state):
        return f"it continues node {node.state}, whose branch keep has released"
    return None


def parts_are_present(node: Text | Score, ledger: Ledger) -> str | None:
    if not node.parts or "" in node.parts:
        return "it has no parts, or an empty one"
    return None


def parts_are_unicode(node: Text | Score, ledger: Ledger) -> str | None:
    return not_unicode(texts_of(node.parts))


def parts_are_bound(node: Text | Score, ledger: Ledger) -> str | None:
    return first(unbound(part, ledger) for part in refs_of(node.parts))


def parts_are_texts(node: Text | Score, ledger: Ledger) -> str | None:
    return first(no_text(part, ledger) for part in refs_of(node.parts))


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


def name_is_identifier(node: Binding | Input, ledger: Ledger) -> str | None:
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
    return not_unicode(node.options)


def method_is_known(node: Select, ledger: Ledger) -> str | None:
    return _one_of("method", node.by, METHODS)


def temperature_is_legal(node: Select, ledger: Ledger) -> str | None:
    return _outside("temperature", node.temperature, TEMPERATURE)


def seed_is_legal(node: Select, ledger: Ledger) -> str | None:
    return _outside("seed", node.seed, SEED)


def count_is_legal(node: Fork, ledger: Ledger) -> str | None:
    if not 1 <= node.count <= MAX_BRANCHES:
        return f"it makes {node.count} branches; a fork makes 1 to {MAX_BRANCHES}"
    return None


def branch_is_of_fork(node: Branch, ledger: Ledger) -> str | None:
    fork = ledger.node(node.state)
    if not isinstance(fork, Fork | Sample):
        return f"node {node.state} is no fork"
    if not 0 <= node.index < fork.count:
        return f"its number is {node.index}, but the fork makes {fork.count} branches"
    return None


def branch_is_early(node: Branch, ledger: Ledger) -> str | None:
    if node.state in ledger.kept:
        return "one branch of the fork is kept already"
    return None


def branch_is_single(node: Branch, ledger: Ledger) -> str | None:
    if node.index in ledger.branches.get(node.state, ()):
        return f"the fork has a branch {node.index} already"
    return None


def branch_is_own(node: Keep, ledger: Ledger) -> str | None:
    fork = ledger.fork_of(node.branch)
    if fork is None:
        return f"node {node.branch} lies on no branch"
    if ledger.node(node.state) is None or ledger.lane(fork) != ledger.lane(node.state):
        return f"node {node.branch} lies on a branch of another state"
    return None


def state_is_at_its_fork(node: Keep, ledger: Ledger) -> str | None:
    fork = ledger.fork_of(node.branch)
    if fork is None or branch_is_own(node, ledger) or ledger.is_released(node.branch):
        return None
    if ledger.changed[fork] != ledger.changed[node.state]:
        return f"the state has gone on since node {fork} forked it; keep would lose that"
    return None


def branch_is_at_its_end(node: Keep, ledger: Ledger) -> str | None:
    if ledger.fork_of(node.branch) is not None and node.branch in ledger.continued:
        return f"node {node.branch} is not the last of its branch"
    return None


def branch_is_live(node: Keep, ledger: Ledger) -> str | None:
    if ledger.is_released(node.branch):
        return f"node {node.branch} lies on a branch that keep has released"
    return None


_STEP: tuple[Law, ...] = (state_is_earlier, state_is_free, state_is_live)
_PARTS: tuple[Law, ...] = (parts_are_present, parts_are_unicode, parts_are_bound, parts_are_texts)

LAWS: dict[type[Node], tuple[Law, ...]] = {
    Root: (starts_at_root,),
    Input: (input_is_early, input_is_single, name_is_identifier, type_is_known),
    Text: (*_STEP, *_PARTS),
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
    Score: (*_STEP, name_is_identifier, *_PARTS),
    Fork: (*_STEP, count_is_legal),
    Sample: (*_STEP, name_is_identifier),
    Branch: (
        state_is_earlier,
        state_is_live,
        branch_is_of_fork,
        branch_is_early,
        branch_is_single,
    ),
    Keep: (*_STEP, branch_is_own, state_is_at_its_fork, branch_is_at_its_end, branch_is_live),
    Call: (state_is_earlier, state_is_live),
}


# -- what several laws ask, and those of the result


def refs_of(parts: Iterable[Part]) -> list[Ref]:
    return [part for part in parts if isinstance(part, Ref)]


def texts_of(parts: Iterable[Part]) -> list[str]:
    return [part for part in parts if isinstance(part, str)]


def unbound(ref: Ref, ledger: Ledger) -> str | None:
    """Why the reference refers to nothing."""
    if (target := ledger.node(ref.node)) is None:
        return f"it refers to node {ref.node}, which does not come before it"
    if (bound := ledger.binds(ref.node)) is None:
        return f"it refers to node {ref.node}, a {kind_of(target)}, which binds no value"
    known = ATTRIBUTES_OF[type(bound)]
    if ref.attribute is not None and ref.attribute not in known:
        hint = near_miss(ref.attribute, known)
        return f"{shown(ref.attribute)} is no attribute of {kind_of(bound)}{hint}"
    return None


def no_text(ref: Ref, ledger: Ledger) -> str | None:
    """Why the value cannot be a part of a text; `unbound` says why there is none."""
    if unbound(ref, ledger) is not None:
        return None
    bound = ledger.binds(ref.node)
    if isinstance(bound, Gen) and bound.params.n > 1:
        return f"the value of node {ref.node} is a list of {bound.params.n} samples, not a text"
    if ref.attribute is not None and ref.attribute not in SCALARS:
        return f"{ref.attribute} of node {ref.node} is neither a text nor a number"
    return None


def not_unicode(texts: Iterable[str]) -> str | None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            return "a lone surrogate is in a text"
    return None


def first(found: Iterable[str | None]) -> str | None:
    return next((what for what in found if what is not None), None)


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
