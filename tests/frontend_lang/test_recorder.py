import pytest

from ramet.errors import GraphError, TraceError
from ramet.graph import Gen, Graph, Ref, Root, Text
from ramet.recorder import GraphRecorder


def test_a_recorder_starts_at_the_root_and_gives_ids() -> None:
    recorder = GraphRecorder()
    assert recorder.nodes == (Root(),)
    assert recorder.add(Text(0, ("a",))) == 1
    assert recorder.add(Gen(1, "x")) == 2
    assert recorder.binds(2) == Gen(1, "x")
    assert recorder.graph("p", Ref(2)) == Graph("p", recorder.nodes, Ref(2))


def test_an_illegal_node_is_not_collected() -> None:
    recorder = GraphRecorder()
    with pytest.raises(GraphError, match="which does not come before it") as caught:
        recorder.add(Gen(1, "x"))
    assert [each.law for each in caught.value.breaks] == ["state_is_earlier"]
    assert recorder.nodes == (Root(),)


def test_an_illegal_result_is_no_graph() -> None:
    with pytest.raises(GraphError, match="result_is_bound"):
        GraphRecorder().graph("p", Ref(0))


def test_nothing_can_be_read() -> None:
    recorder = GraphRecorder()
    node = recorder.add(Gen(0, "x"))
    for look in (recorder.read, recorder.info):
        with pytest.raises(TraceError) as caught:
            look(node)
        assert caught.value.variable == "x"
        assert "look(node)" in str(caught.value)
