"""What the body of a program writes on: a state, and the branches of one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ramet.compat.sglang.executor import StreamExecutor, chunks
from ramet.compat.sglang.expressions import (
    SglConcateAndAppend,
    SglExpr,
    SglExprList,
    SglRoleBegin,
    SglRoleEnd,
    SglVarScopeBegin,
    SglVarScopeEnd,
    text_or_expr,
)
from ramet.compat.sglang.logprobs import lengths, since


class ProgramState:
    """The `s` of a program, and what running it returns."""

    def __init__(self, stream_executor: StreamExecutor) -> None:
        self.stream_executor = stream_executor
        self.ret_value: Any = None  # what the body returned

    # -- appending

    def __iadd__(self, other: Any) -> "ProgramState":
        if other is None:
            raise ValueError("Tried to append None to state.")
        self.stream_executor.submit(other)
        return self

    def system(self, expr: Any = None) -> Any:
        return self._role("system", expr)

    def user(self, expr: Any = None) -> Any:
        return self._role("user", expr)

    def assistant(self, expr: Any = None) -> Any:
        return self._role("assistant", expr)

    def _role(self, role: str, expr: Any) -> SglExprList | AbstractContextManager[None]:
        """The message appended, or for no content a `with` around it."""
        if expr is None:
            return self._between(SglRoleBegin(role), SglRoleEnd(role))
        turn = SglExprList([SglRoleBegin(role), text_or_expr(expr), SglRoleEnd(role)])
        self.stream_executor.submit(turn)
        return turn

    def var_scope(self, name: str) -> AbstractContextManager[None]:
        """The text appended in the `with` becomes a variable."""
        return self._between(SglVarScopeBegin(name), SglVarScopeEnd(name))

    @contextmanager
    def _between(self, begin: SglExpr, end: SglExpr) -> Iterator[None]:
        self.stream_executor.submit(begin)
        yield
        self.stream_executor.submit(end)

    # -- branches

    def fork(
        self, size: int = 1, position_ids_offset: list[int] | None = None
    ) -> "ProgramStateGroup":
        """States that go on from here, each for itself. Waits for what was appended so far."""
        branches = self.stream_executor.fork(size, position_ids_offset)
        return ProgramStateGroup([ProgramState(branch) for branch in branches], self)

    @contextmanager
    def copy(self, position_ids_offset: list[int] | None = None) -> "Iterator[ProgramState]":
        """One branch, joined at the end of the `with`."""
        group = self.fork(1, position_ids_offset)
        try:
            yield group[0]
        finally:
            group.join()

    # -- reading

    def __getitem__(self, name: Any) -> Any:
        return self.get_var(name)

    def get_var(self, name: Any) -> Any:
        """The value of a variable, when it has one; raises what kept it from getting one."""
        return self.stream_executor.get_var(name)

    def __setitem__(self, name: Any, value: Any) -> None:
        self.set_var(name, value)

    def set_var(self, name: Any, value: Any) -> None:
        self.stream_executor.set_var(name, value)

    def __contains__(self, name: Any) -> bool:
        return name in self.stream_executor.variables

    def get_meta_info(self, name: Any) -> Any:
        """What is known about a generation or a choice: tokens, log-probabilities, the reason."""
        return self.stream_executor.get_meta_info(name)

    def text(self) -> str:
        return self.stream_executor.text()

    def messages(self) -> list[dict[str, Any]]:
        """The messages that are complete, in the form of OpenAI's API."""
        return self.stream_executor.messages()

    def sync(self) -> None:
        self.stream_executor.sync()

    def error(self) -> BaseException | None:
        """What ended this state, if something did."""
        return self.stream_executor.error()

    def __repr__(self) -> str:
        return f"ProgramState({self.text()})"

    # -- streaming

    def text_iter(self, var_name: Any = None) -> Iterator[str]:
        """The whole text, or one variable, as it comes; in one piece unless the run streams."""
        if not self.stream_executor.stream:
            yield self.text() if var_name is None else self.get_var(var_name)
            return
        empty = True
        for text in chunks(self.stream_executor, var_name):
            empty = False
            yield text
        if empty and var_name is not None and var_name not in self:
            yield ""

    async def text_async_iter(
        self, var_name: Any = None, return_meta_data: bool = False
    ) -> AsyncIterator[Any]:
        """The same for a coroutine; with `return_meta_data` pairs of text and what is known,
        where log-probabilities are those of the piece."""
        executor = self.stream_executor
        meta_of = executor.meta_info.get
        if not executor.stream:
            await asyncio.to_thread(executor.sync)
            text = self.text() if var_name is None else self.get_var(var_name)
            yield (text, meta_of(var_name)) if return_meta_data else text
            return
        seen, told = 0, dict[str, int]()
        async for text in _chunks(executor, var_name):
            seen += len(text)
            if not return_meta_data:
                yield text
                continue
            meta = meta_of(var_name) or {}
            yield text, since(meta, told)
            told = lengths(meta)
        if not seen and var_name is not None and var_name not in self:
            yield ("", None) if return_meta_data else ""


async def _chunks(executor: StreamExecutor, name: Any) -> AsyncIterator[str]:
    """`chunks`, without holding a thread."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    executor.watch(wake)
    try:
        seen, done = 0, False
        while not done:
            changed.clear()
            chunk = executor.poll(name, seen)
            if chunk is None:
                await changed.wait()
                continue
            seen, done = seen + len(chunk.text), chunk.done
            if chunk.text:
                yield chunk.text
    finally:
        executor.unwatch(wake)


class ProgramStateGroup:
    """The branches of a fork. Iterated by index; it has no length."""

    def __init__(self, states: Sequence[ProgramState], src_state: ProgramState) -> None:
        self.states = list(states)
        self.src_state = src_state

    def join(self, mode: str = "gather_variable") -> None:
        """Wait for the branches, in order, and take over what they have.

        `gather_variable`: each variable that is not in the parent becomes a list there, of one
        entry for each branch that has it. `concate_and_append`: the parent's text goes on with
        the text of every branch.
        """
        if mode == "gather_variable":
            self._gather()
        elif mode == "concate_and_append":
            self.src_state += SglConcateAndAppend(self.states)
            self.src_state.sync()
        else:
            raise ValueError(
                f"unknown join mode {mode!r}: expected 'gather_variable' or 'concate_and_append'"
            )
        for state in self.states:
            state.stream_executor.end()

    def _gather(self) -> None:
        parent = self.src_state.stream_executor
        known = set(parent.variables)
        for state in self.states:
            branch = state.stream_executor
            branch.sync()
            for name, value in branch.variables.items():
                if name not in known:
                    parent.variables.setdefault(name, []).append(value)
            if branch.error_ is not None:
                missing = branch.variable_event.keys() - branch.variables.keys()
                parent.lost.update(dict.fromkeys(missing, branch.error_) | branch.lost)

    def __getitem__(self, index: int) -> ProgramState:
        return self.states[index]

    def __setitem__(self, index: int, value: ProgramState) -> None:
        """For `group[i] += ...`, which hands back the state that is there."""
        assert self.states[index] is value, "a branch cannot be replaced"

    def __iadd__(self, other: Any) -> "ProgramStateGroup":
        """An expression for all branches, a list with one for each, or a function of the index."""
        if isinstance(other, SglExpr):
            each: list[Any] = [other] * len(self.states)
        elif isinstance(other, list | tuple):
            if len(other) < len(self.states):
                raise ValueError(f"{len(other)} things for {len(self.states)} branches")
            each = list(other[: len(self.states)])
        elif callable(other):
            function: Callable[[int], Any] = other
            each = [function(index) for index in range(len(self.states))]
        else:
            raise ValueError(f"cannot append {other!r} to a group of branches")
        for state, item in zip(self.states, each, strict=True):
            state += item
        return self
