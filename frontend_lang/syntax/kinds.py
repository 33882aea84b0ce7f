"""What is known of a name before its program runs: the kind of value that it stands for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ramet.syntax import tree


@dataclass(frozen=True, slots=True)
class Anything:
    """A value of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A value with these attributes, and no others."""

    what: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A value read from JSON that may have these keys; an attribute of its `gen` hides its like."""

    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Branches:
    """The group of a fork, with the names that its branches have."""

    names: "Names"


@dataclass(frozen=True, slots=True)
class OneBranch:
    names: "Names"


Kind = Anything | Generated | Parsed | Branches | OneBranch
Names = Mapping[str, Kind]

ANY = Anything()


def joined(one: Names, other: Names) -> dict[str, Kind]:
    """What is there of `other` when either may have happened."""
    return {n: k if one.get(n, k) == k else ANY for n, k in other.items()}


def changed(before: Names, after: Names) -> dict[str, Kind]:
    """What was bound in between."""
    return {n: k for n, k in after.items() if before.get(n) is not k}


def bound_in(block: tree.Block) -> dict[str, Kind]:
    """Every name that the statements may bind on their own state, whatever it will be.

    What a branch binds counts where one of them keeps a branch.
    """
    found: dict[str, Kind] = {}
    on_branches: dict[str, Kind] = {}
    left: list[tuple[tree.Statement, dict[str, Kind]]] = [(line, found) for line in block]
    keeps = False
    while left:
        line, into = left.pop()
        into |= dict.fromkeys(_binds(line), ANY)
        match line:
            case tree.If(arms=arms, otherwise=otherwise):
                bodies = [arm.body for arm in arms]
                bodies += [otherwise.body] if otherwise is not None else []
                left += [(each, into) for body in bodies for each in body]
            case tree.Turn(body=body) | tree.For(body=body) | tree.While(body=body):
                left += [(each, into) for each in body]
            case tree.Fork(targets=targets, body=body):
                on_branches |= dict.fromkeys(targets, ANY)
                left += [(each, on_branches) for each in body]
            case tree.ForkGen(gen=gen, body=body):
                on_branches[gen.name] = ANY
                left += [(each, on_branches) for each in body]
            case tree.Keep():
                keeps = keeps or into is found
            case _:
                pass
    return found | on_branches if keeps else found


def _binds(line: tree.Statement) -> Iterable[str]:
    match line:
        case tree.Gen(name=name) | tree.Select(name=name) | tree.Score(name=name):
            return (name,)
        case tree.Let(name=name):
            return (name,)
        case tree.Fork(group=group) | tree.ForkGen(group=group):
            return (group,)
        case tree.For(targets=targets):
            return targets
        case tree.Call(to=str(to)):
            return (to,)
        case tree.Broken(names=names):
            return names
        case _:
            return ()
