"""Programs traced without a model."""

from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.lang.backend.base_backend import BaseBackend
from ramet.compat.sglang.lang.ir import SglArgument, SglConstantText, SglGen


@sgl.function
def program(s: Any, question: str) -> None:
    s += "Be short.\n"
    s += "Q: " + question + "\nA:" + sgl.gen("answer", stop="\n")
    forks = s.fork(2)
    for i in range(2):
        forks[i] += f"[{i}]" + sgl.gen("note")
    forks.join()
    s += s["answer"]


def test_a_trace_lists_what_is_appended() -> None:
    traced = program.trace()
    assert traced.last_node is not None
    lines = traced.last_node.print_graph_dfs().splitlines()
    assert lines[0] == "%1 = ConstantText(value='Be short.\\n')"
    assert "%5 = Gen('answer', stop='\\n')" in lines
    kinds = [type(node.expr) for node in traced.nodes[:5]]
    assert kinds == [SglConstantText, SglConstantText, SglArgument, SglConstantText, SglGen]
    assert len(traced.flatten_nodes()) == len(traced.nodes) + 6
    assert set(traced.variables) == {"answer", "note"}


def test_roles_are_written_with_the_backends_template() -> None:
    @sgl.function
    def chat(s: Any) -> None:
        s += sgl.user("Hi")
        s += sgl.assistant(sgl.gen("x"))

    assert chat.trace(backend=BaseBackend()).text() == "USER:Hi\nASSISTANT:\n"


def test_arguments_cannot_be_looked_at() -> None:
    @sgl.function
    def looks(s: Any, question: str) -> None:
        s += f"Q: {question}"

    @sgl.function
    def asks(s: Any, question: str) -> None:
        if question:
            s += "yes"

    with pytest.raises(TypeError, match="f-string"):
        looks.trace()
    with pytest.raises(TypeError, match="no value"):
        asks.trace()
    assert looks.bind(question="x").trace().text() == "Q: x"


def test_a_program_called_while_tracing_is_traced() -> None:
    @sgl.function
    def outer(s: Any, question: str) -> Any:
        s += "outer"
        return program(question=question)

    inner = outer.trace().ret_value
    assert inner.text().startswith("Be short.\n")
