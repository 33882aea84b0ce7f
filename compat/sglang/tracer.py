"""Runs a body without a model: what it appends becomes a graph, or its constant beginning."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from ramet.compat.sglang.backend.base_backend import BaseBackend
from ramet.compat.sglang.chat_template import get_chat_template
from ramet.compat.sglang.expressions import (
    SglConcateAndAppend,
    SglConstantText,
    SglExpr,
    SglExprList,
    SglGen,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
    text_or_expr,
)

current_trace: ContextVar["TracerProgramState | None"] = ContextVar("current_trace", default=None)


class StopTracing(Exception):
    """The constant beginning is over."""


class SglArgument(SglExpr):
    """An argument that is not known. It can be appended and added to text, not looked at."""

    def __init__(self, name: str, value: Any = None) -> None:
        self.name = name
        self.value = value

    def __format__(self, spec: str) -> str:
        raise TypeError(
            f"argument {self.name!r} cannot stand in an f-string of a program that is traced: "
            'write s += "..." + argument + "..."'
        )

    def __bool__(self) -> bool:
        raise TypeError(f"argument {self.name!r} has no value while a program is traced")

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> "SglArgument":
        return SglArgument(f"{self.name}[{index!r}]", self.value[index])

    def __int__(self) -> int:
        return int(self.value)


class SglFork(SglExpr):
    """A fork into that many branches."""

    def __init__(self, number: int) -> None:
        self.number = number


class SglGetForkItem(SglExpr):
    """The beginning of a branch."""

    def __init__(self, index: int) -> None:
        self.index = index


class TracedNode:
    """One thing that was appended, and the node before it."""

    def __init__(self, number: int, expr: SglExpr, prev_node: "TracedNode | None") -> None:
        self.node_id = number
        self.expr = expr
        self.prev_node = prev_node

    def __repr__(self) -> str:
        return f"%{self.node_id} = {self.expr!r}"

    def print_graph_dfs(self) -> str:
        """The nodes that lead to this one, a line each, the first one first."""
        chain: list[TracedNode] = []
        node: TracedNode | None = self
        while node is not None:
            chain.append(node)
            node = node.prev_node
        return "\n".join(map(repr, reversed(chain)))


class TracerProgramState:
    """Stands for `s` while a program is traced."""

    def __init__(
        self,
        backend: BaseBackend | None,
        arguments: Mapping[str, Any],
        *,
        only_prefix: bool = False,
        last_node: TracedNode | None = None,
    ) -> None:
        template = get_chat_template("default") if backend is None else backend.get_chat_template()
        self.backend = backend
        self.arguments = dict(arguments)
        self.chat_template = template
        self.nodes: list[TracedNode] = []
        self.last_node = last_node
        self.variables: dict[str, SglExpr] = {}
        self.messages_: list[dict[str, Any]] = []
        self.cur_role: str | None = None
        self.ret_value: Any = None
        self._only_prefix = only_prefix
        self._children: list[TracerProgramState] = []
        self._root = self
        self._count = 0

    # -- what a body does

    def __iadd__(self, other: Any) -> "TracerProgramState":
        if other is None:
            raise ValueError("Tried to append None to state.")
        self._append(text_or_expr(other))
        return self

    def __getitem__(self, name: str) -> SglVariable:
        assert name in self.variables, f"there is no variable {name!r} here"
        if self._only_prefix:
            raise StopTracing
        return SglVariable(name, self)

    get_var = __getitem__

    def __setitem__(self, name: str, value: Any) -> None:
        self.variables[name] = value

    def fork(self, size: int = 1, position_ids_offset: Any = None) -> "TracerGroup":
        if self._only_prefix:
            raise StopTracing
        self._add(SglFork(size))
        return TracerGroup([self._child(index) for index in range(size)], self)

    @contextmanager
    def copy(self, position_ids_offset: Any = None) -> "Iterator[TracerProgramState]":
        group = self.fork(1)
        yield group[0]
        group.join()

    def system(self, expr: Any = None) -> Any:
        return self._role("system", expr)

    def user(self, expr: Any = None) -> Any:
        return self._role("user", expr)

    def assistant(self, expr: Any = None) -> Any:
        return self._role("assistant", expr)

    def var_scope(self, name: str) -> Any:
        return self._between(SglVarScopeBegin(name), SglVarScopeEnd(name))

    def _role(self, role: str, expr: Any) -> Any:
        if expr is None:
            return self._between(SglRoleBegin(role), SglRoleEnd(role))
        turn = SglExprList([SglRoleBegin(role), text_or_expr(expr), SglRoleEnd(role)])
        self._append(turn)
        return turn

    @contextmanager
    def _between(self, begin: SglExpr, end: SglExpr) -> Iterator[None]:
        self._append(begin)
        yield
        self._append(end)

    # -- what was traced

    def flatten_nodes(self) -> list[TracedNode]:
        """The nodes of this state and of its branches."""
        return [*self.nodes, *(n for child in self._children for n in child.flatten_nodes())]

    def text(self) -> str:
        """The constant text so far."""
        texts = (node.expr.value for node in self.nodes if isinstance(node.expr, SglConstantText))
        return "".join(texts)

    # -- one method for each kind

    def _append(self, expr: SglExpr) -> None:
        match expr:
            case SglExprList():
                for each in expr.expr_list:
                    self._append(each)
            case SglRoleBegin():
                self._role_begin(expr.role)
            case SglRoleEnd():
                _, suffix = self.chat_template.get_prefix_and_suffix(expr.role, self.messages_)
                self.messages_.append({"role": expr.role, "content": ""})
                self.cur_role = None
                self._add(SglConstantText(suffix))
            case SglExpr():
                self._add(expr)
            case _:
                raise TypeError(f"{expr!r} cannot be appended to a state")

    def _role_begin(self, role: str) -> None:
        assert self.cur_role is None, "Nested roles are not allowed."
        default = self.chat_template.default_system_prompt
        if not self.messages_ and role != "system" and default:
            self._role_begin("system")
            self._add(SglConstantText(default))
            self._append(SglRoleEnd("system"))
        prefix, _ = self.chat_template.get_prefix_and_suffix(role, self.messages_)
        self._add(SglConstantText(prefix))
        self.cur_role = role

    def _add(self, expr: SglExpr) -> None:
        if self._only_prefix and not isinstance(expr, SglConstantText | SglVarScopeBegin):
            raise StopTracing
        if isinstance(expr, SglGen | SglSelect | SglVarScopeBegin) and expr.name is not None:
            self.variables[expr.name] = expr
        self._root._count += 1
        self.last_node = TracedNode(self._root._count, expr, self.last_node)
        self.nodes.append(self.last_node)

    def _child(self, index: int) -> "TracerProgramState":
        child = TracerProgramState(self.backend, self.arguments, last_node=self.last_node)
        child._root = self._root
        child.chat_template = self.chat_template
        child.variables = dict(self.variables)
        child.messages_ = list(self.messages_)
        child.cur_role = self.cur_role
        child._add(SglGetForkItem(index))
        self._children.append(child)
        return child


class TracerGroup:
    """Stands for the branches of a fork while a program is traced."""

    def __init__(self, states: list[TracerProgramState], src_state: TracerProgramState) -> None:
        self.states = states
        self.src_state = src_state

    def join(self, mode: str = "gather_variable") -> None:
        if mode == "concate_and_append":
            self.src_state += SglConcateAndAppend(self.states)
        for state in self.states:
            new = state.variables.keys() - self.src_state.variables.keys()
            self.src_state.variables |= {name: state.variables[name] for name in new}

    def __getitem__(self, index: int) -> TracerProgramState:
        return self.states[index]

    def __setitem__(self, index: int, value: TracerProgramState) -> None:
        assert self.states[index] is value, "a branch cannot be replaced"

    def __iadd__(self, other: Any) -> "TracerGroup":
        for index, state in enumerate(self.states):
            if isinstance(other, list | tuple):
                state += other[index]
            else:
                state += other(index) if callable(other) else other
        return self


def trace_program(
    program: Any, arguments: Mapping[str, Any], backend: BaseBackend | None
) -> TracerProgramState:
    """Trace a program; arguments that are not given are not known."""
    return _trace(program, TracerProgramState(backend, _filled(program, arguments)))


def constant_prefix(program: Any, backend: BaseBackend) -> str:
    """The text that every run of the program begins with, as far as it does not look at its
    arguments."""
    state = TracerProgramState(backend, _filled(program, {}), only_prefix=True)
    with suppress(Exception):  # it looked at an argument, or was stopped
        _trace(program, state)
    return state.text()


def _trace(program: Any, state: TracerProgramState) -> TracerProgramState:
    token = current_trace.set(state)
    try:
        state.ret_value = program.func(state, **state.arguments)
    finally:
        current_trace.reset(token)
    return state


def _filled(program: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = {**program.bind_arguments}
    unknown = {name: SglArgument(name) for name in program.arg_names}
    given = {name: SglArgument(name, value) for name, value in arguments.items()}
    return {**unknown, **given, **known}
