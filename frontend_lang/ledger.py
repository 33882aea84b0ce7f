"""The nodes of a graph so far, and what its laws need to know of them, each in O(1).

Knows what follows from the order of nodes: open roles, branches, what is continued or released.
Knows no law (`ramet.laws`).
"""

from ramet.nodes import (
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
    Role,
    Sample,
    Score,
    Select,
    Step,
)


class Ledger:
    """What there is after each node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.roles: list[Role | None] = []  # the role open after each node
        self.begun: list[int] = []  # the root, branch or call that each node's state began with
        self.became: dict[int, int] = {}  # of a branch that was kept, what its state began with
        self.changed: list[int] = []  # the last node on each state that made no mere branches
        self.continued: set[int] = set()  # states that a node other than a beginning continues
        self.branches: dict[int, dict[int, int]] = {}  # of each fork, by index
        self.under: dict[int, list[int]] = {}  # the states that begin on each state
        self.released: dict[int, int] = {}  # states that a keep ended, by it
        self.kept: set[int] = set()  # forks of which one branch was kept
        self.inputs: set[str] = set()

    def note(self, node: Node) -> int:
        """Enter a node, and give its id."""
        id = len(self.nodes)
        role = self.role(node.state) if isinstance(node, Step) else None
        begun = self.begun[node.state] if isinstance(node, Step) and self.node(node.state) else 0
        match node:
            case Open(role=opened):
                role = opened
            case Close():
                role = None
            case Call():
                self.under.setdefault(begun, []).append(id)
                role, begun = None, id
            case Branch(state=fork, index=index):
                self.branches.setdefault(fork, {}).setdefault(index, id)
                self.under.setdefault(begun, []).append(id)
                begun = id
            case Keep(branch=branch):
                role = self.role(branch)
                self._release(branch, id)
            case Input(name=name):
                self.inputs.add(name)
            case _:
                pass
        if isinstance(node, Step) and not isinstance(node, Branch | Call):
            self.continued.add(node.state)
        if isinstance(node, Fork | Sample) and self.node(node.state) is not None:
            self.changed.append(self.changed[node.state])
        elif isinstance(node, Keep) and self.node(node.branch) is not None:
            self.changed.append(self.changed[node.branch])
        else:
            self.changed.append(id)
        self.nodes.append(node)
        self.roles.append(role)
        self.begun.append(begun)
        return id

    def _release(self, branch: int, keep: int) -> None:
        """The branch goes on as the state; its siblings end, with all that is under them."""
        fork = self.fork_of(branch)
        if fork is None or fork in self.kept:
            return
        self.kept.add(fork)
        lane, begun = self.lane(fork), self.begun[branch]
        self.under.setdefault(lane, []).extend(self.under.pop(begun, []))
        if lane < begun:  # as in every legal graph; so no chain of these comes back
            self.became[begun] = lane
        ended = list(self.branches[fork].values())
        for id in ended:
            self.released.setdefault(id, keep)
            ended += self.under.pop(id, [])

    def lane(self, id: int) -> int:
        """What the node's state began with; a branch that was kept is the state it became."""
        begun = found = self.begun[id]
        while found in self.became:
            found = self.became[found]
        if found != begun:
            self.became[begun] = found  # the next time it is one look
        return found

    def is_released(self, id: int) -> bool:
        """Whether the node lies on a state that a keep has ended."""
        return self.node(id) is not None and self.begun[id] in self.released

    def node(self, id: int) -> Node | None:
        return self.nodes[id] if 0 <= id < len(self.nodes) else None

    def role(self, state: int) -> Role | None:
        return self.roles[state] if 0 <= state < len(self.roles) else None

    def fork_of(self, id: int) -> int | None:
        """The fork of the branch that the node lies on; None if it lies on none."""
        if self.node(id) is None:
            return None
        begun = self.nodes[self.begun[id]]
        if not isinstance(begun, Branch) or not isinstance(self.node(begun.state), Fork | Sample):
            return None
        return begun.state

    def binds(self, id: int) -> Binding | Input | None:
        """The node that says what kind of value this one binds; None if it binds none."""
        match node := self.node(id):
            case Gen() | Select() | Score() | Input():
                return node
            case Branch(state=fork) if isinstance(sample := self.node(fork), Sample):
                return sample
            case _:
                return None
