"""What the calls and the states of SGLang's frontend do, on a scripted backend."""

import re
import threading
import time
from typing import Any

import pytest

import ramet.compat.sglang as sgl
from ramet.compat.sglang.lang.ir import REGEX_INT, SglGen, SglSamplingParams, SglSelect
from tests.compat.conftest import Scripted


@sgl.function
def ask(s: Any, question: str) -> str:
    s += "Q: " + question + "\nA:"
    s += sgl.gen("answer", stop="\n")
    return "returned"


# -- functions


def test_run_returns_before_the_generation_ends(scripted: Scripted) -> None:
    scripted.delay = 0.2
    begin = time.monotonic()
    state = ask.run(question="why?")
    assert time.monotonic() - begin < 0.1
    assert state.ret_value == "returned"
    assert state["answer"] == "ok"
    assert time.monotonic() - begin >= 0.2
    assert state.text() == "Q: why?\nA:ok"
    assert repr(state) == "ProgramState(Q: why?\nA:ok)"


def test_a_call_is_a_run_and_arguments_may_be_in_order(scripted: Scripted) -> None:
    assert ask("one").text() == ask.run("one").text() == "Q: one\nA:ok"


def test_the_first_parameter_is_s() -> None:
    with pytest.raises(AssertionError, match="s"):
        sgl.function(lambda state, question: None)


def test_the_decorator_takes_arguments(scripted: Scripted) -> None:
    @sgl.function(num_api_spec_tokens=32)
    def program(s: Any, *words: str) -> None:
        s += " ".join(words)

    assert program.num_api_spec_tokens == 32
    assert program.run("a", "b").text() == "a b"
    assert program.func.__name__ == "program"


def test_no_backend_is_an_assertion() -> None:
    sgl.set_default_backend(None)
    with pytest.raises(AssertionError, match="Please specify a backend"):
        ask.run(question="?")
    assert sgl.flush_cache() is False
    assert sgl.get_server_info() is None


def test_a_backend_may_be_behind_an_endpoint() -> None:
    class Holder:
        endpoint = Scripted("held")

    assert ask.run(question="?", backend=Holder())["answer"] == "held"


def test_settings_of_a_gen_go_before_those_of_the_run(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "x" + sgl.gen("a", max_tokens=5, top_p=0.5) + sgl.gen("b", temperature=0)

    program.run(max_new_tokens=9, temperature=0.7, top_p=0.9).sync()
    first, second = scripted.params
    assert (first.max_new_tokens, first.temperature, first.top_p) == (5, 0.7, 0.5)
    assert (second.max_new_tokens, second.temperature, second.top_p) == (9, 0, 0.9)


def test_the_defaults_of_a_run(scripted: Scripted) -> None:
    ask.run(question="?").sync()
    [params] = scripted.params
    assert params == SglSamplingParams(stop="\n")
    assert (params.max_new_tokens, params.temperature, params.top_k, params.n) == (128, 1.0, -1, 1)


def test_the_stop_strings_of_the_template_are_added() -> None:
    backend = Scripted(template="chatml")
    ask.run(question="?", backend=backend).sync()
    ask.run(question="?", backend=backend, stop=["a", "b"]).sync()
    assert [params.stop for params in backend.params] == [["\n", "<|im_end|>"]] * 2


def test_a_parameter_of_the_program_goes_to_the_program(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any, n: int, temperature: str) -> None:
        s += f"{n} {temperature}" + sgl.gen("x")

    assert program.run(n=3, temperature="hot").text() == "3 hotok"
    assert scripted.params[0].n == 1
    assert scripted.params[0].temperature == 1.0


def test_bound_arguments_beat_those_of_the_call(scripted: Scripted) -> None:
    bound = ask.bind(question="bound")
    assert bound.run(question="called").text() == "Q: bound\nA:ok"
    with pytest.raises(AssertionError, match="qestion"):
        ask.bind(qestion="?")


def test_what_the_body_raises_comes_out_of_run(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "text"
        raise LookupError("in the body")

    with pytest.raises(LookupError, match="in the body"):
        program.run()


# -- expressions


def test_gen_with_choices_is_a_select() -> None:
    chosen = sgl.gen("x", choices=["a", "b"])
    assert isinstance(chosen, SglSelect)
    assert chosen.choices_method is sgl.token_length_normalized
    assert isinstance(sgl.gen("x", choices=[]), SglGen)
    with pytest.raises(AssertionError):
        sgl.select("x")


def test_a_wrong_regex_is_refused_at_the_call() -> None:
    with pytest.raises(re.error):
        sgl.gen("x", regex="(")


def test_positional_and_typed_gens() -> None:
    plain, number, text = sgl.gen("x", 64), sgl.gen_int("x", 8, 2, "."), sgl.gen_string("x")
    assert isinstance(plain, SglGen)
    assert isinstance(number, SglGen)
    assert isinstance(text, SglGen)
    assert plain.sampling_params.max_new_tokens == 64
    assert (number.sampling_params.n, number.sampling_params.stop) == (2, ".")
    assert (number.sampling_params.dtype, text.sampling_params.dtype) == (int, str)
    with pytest.raises(TypeError, match="regex"):
        sgl.gen_int("x", regex="a")


def test_a_dtype_is_a_regex_and_stops() -> None:
    params = SglSamplingParams(dtype=int, stop=".", regex="[a-z]").without_dtype()
    assert (params.regex, params.stop, params.dtype) == (REGEX_INT, [".", " ", "\n"], None)
    assert SglSamplingParams(dtype="bool").without_dtype().stop == []
    with pytest.raises(ValueError, match="dtype"):
        SglSamplingParams(dtype=list).without_dtype()


def test_only_text_and_expressions_can_be_added() -> None:
    with pytest.raises(AssertionError):
        sgl.gen("x") + 5  # type: ignore[operator]


def test_none_is_refused_at_once_and_a_number_by_the_worker(scripted: Scripted) -> None:
    @sgl.function
    def nothing(s: Any) -> None:
        s += None

    @sgl.function
    def number(s: Any) -> None:
        s += 5

    with pytest.raises(ValueError, match="None"):
        nothing.run()
    assert isinstance(number.run().error(), AssertionError)


# -- variables


def test_unknown_names_and_overwriting(scripted: Scripted) -> None:
    state = ask.run(question="?")
    state.sync()
    with pytest.raises(KeyError, match="missing"):
        state["missing"]
    assert "answer" in state
    assert "missing" not in state
    assert state.get_meta_info("missing") is None
    assert state.get_meta_info("answer") == {"completion_tokens": 2}
    state["answer"] = "mine"
    assert state["answer"] == "mine"


def test_contains_does_not_wait(scripted: Scripted) -> None:
    scripted.delay = 0.1
    state = ask.run(question="?")
    assert "answer" not in state
    assert state["answer"] == "ok"
    assert "answer" in state


def test_several_samples_are_a_list_and_the_first_goes_on() -> None:
    backend = Scripted(lambda text: ["one", "two"])
    state = ask.run(question="?", n=2, backend=backend)
    assert state["answer"] == ["one", "two"]
    assert state.text() == "Q: ?\nA:one"


def test_a_variable_of_a_scope_is_there_after_it(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "before "
        with s.var_scope("inside"):
            s += "a" + sgl.gen("x")
        s += " after"

    assert program.run()["inside"] == "aok"


# -- what goes wrong


def broken(text: str) -> str:
    raise ConnectionError("the model is gone")


def test_an_error_reaches_whoever_reads_the_variable() -> None:
    state = ask.run(question="?", backend=Scripted(broken))
    with pytest.raises(ConnectionError, match="the model is gone"):
        state["answer"]
    with pytest.raises(ConnectionError):
        state["answer"]
    assert isinstance(state.error(), ConnectionError)
    assert state.text() == "Q: ?\nA:"


def test_what_follows_an_error_is_dropped() -> None:
    backend = Scripted(broken)

    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x") + "b" + sgl.gen("y") + "c"

    state = program.run(backend=backend)
    with pytest.raises(ConnectionError):
        state["y"]
    assert state.text() == "a"
    assert len(backend.seen) == 1
    state += "more" + sgl.gen("z")
    with pytest.raises(ConnectionError):
        state["z"]


def test_an_error_of_a_branch_reaches_who_reads_the_joined_variable() -> None:
    backend = Scripted(lambda text: broken(text) if "b1" in text else "fine")

    @sgl.function
    def program(s: Any, only: list[int]) -> Any:
        s += "start "
        forks = s.fork(2)
        for i in only:
            forks[i] += f"b{i}" + sgl.gen("x")
        forks.join()
        return s["x"]

    assert program.run(only=[0, 1], backend=backend).ret_value == ["fine"]
    with pytest.raises(ConnectionError):
        program.run(only=[1], backend=backend)


def test_a_branch_of_a_failed_state_has_its_error() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x")
        fork = s.fork(1)[0]
        fork += sgl.gen("y")
        fork["y"]

    with pytest.raises(ConnectionError):
        program.run(backend=Scripted(broken))


def test_a_generation_written_anew_that_fails_has_no_old_value() -> None:
    answers = iter(["first"])

    def once(text: str) -> str:
        try:
            return next(answers)
        except StopIteration:
            raise ConnectionError("no more") from None

    @sgl.function
    def program(s: Any) -> Any:
        s += "a" + sgl.gen("x")
        assert s["x"] == "first"
        s += sgl.gen("x")
        return s["x"]

    with pytest.raises(ConnectionError, match="no more"):
        program.run(backend=Scripted(once))


def test_without_threads_an_error_is_raised_where_it_happens() -> None:
    before = threading.active_count()

    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.gen("x")
        assert threading.active_count() == before

    assert program.run(backend=Scripted(), use_thread=False)["x"] == "ok"
    with pytest.raises(ConnectionError):
        program.run(backend=Scripted(broken), use_thread=False)


# -- roles


def test_roles_write_the_template_and_the_messages(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += sgl.system("Be short.")
        s += sgl.user("Hi")
        with s.assistant():
            s += "Well, " + sgl.gen("x")

    state = program.run()
    assert state.text() == "SYSTEM:Be short.\nUSER:Hi\nASSISTANT:Well, ok\n"
    assert state.messages() == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Well, ok"},
    ]


def test_an_empty_message_and_the_halves(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += sgl.system()
        s += sgl.user_begin() + "Hi" + sgl.user_end()
        s += sgl.assistant_begin()
        for fork in s.fork(2):
            fork += sgl.gen("x")
        s += sgl.gen("y") + sgl.assistant_end()

    assert program.run().text() == "SYSTEM:\nUSER:Hi\nASSISTANT:ok\n"


def test_the_templates_system_prompt_comes_with_the_first_other_role() -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += sgl.user("Hi")

    state = program.run(backend=Scripted(template="qwen"))
    assert state.text() == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
    )
    assert [message["role"] for message in state.messages()] == ["system", "user"]


def test_nested_roles_are_an_error_of_the_state(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        with s.user():
            s += sgl.assistant("no")

    error = program.run().error()
    assert isinstance(error, AssertionError)
    assert "Nested roles" in str(error)


def test_a_role_with_an_expression_returns_it(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> Any:
        return s.user("Hi")

    state = program.run()
    assert state.text() == "USER:Hi\n"
    assert len(state.ret_value.expr_list) == 3


# -- reasoning


def test_reasoning_goes_into_a_variable_of_its_own() -> None:
    backend = Scripted("<think>two and two</think>\n\nfour")

    @sgl.function
    def program(s: Any) -> None:
        s += sgl.user("2 + 2?")
        s += sgl.assistant(sgl.separate_reasoning(sgl.gen("a"), model_type="qwen3"))

    for stream in (False, True):
        state = program.run(backend=backend, stream=stream)
        assert state.text_iter is not None
        state.sync()
        while not state.stream_executor.is_finished:
            time.sleep(0.001)
        assert state["a"] == "four"
        assert state["a_reasoning_content"] == "two and two"
        assert state.text() == "USER:2 + 2?\nASSISTANT:four\n"
        assert state.messages()[-1]["content"] == "four"


def test_reasoning_needs_a_name_and_a_known_model() -> None:
    with pytest.raises(ValueError, match="name"):
        sgl.separate_reasoning(sgl.gen(), model_type="qwen3")

    @sgl.function
    def program(s: Any) -> None:
        s += "a" + sgl.separate_reasoning(sgl.gen("x"), model_type="qwen33")

    with pytest.raises(ValueError, match="qwen3"):
        program.run(backend=Scripted())["x_reasoning_content"]


# -- images


def test_images_go_to_a_backend_that_takes_them(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any, picture: bytes) -> None:
        s += sgl.user(sgl.image(picture) + "What is it?")
        s += sgl.assistant(sgl.gen("x"))

    state = program.run(picture=b"png")
    assert state.text() == "USER:<image>What is it?\nASSISTANT:ok\n"
    assert scripted.images == [(b"png", "cG5n")]
    assert state.messages()[0]["content"][1]["image_url"]["url"] == "data:image/jpeg;base64,cG5n"


def test_videos_are_refused(scripted: Scripted) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += sgl.video("a.mp4", 4)

    assert isinstance(program.run().error(), NotImplementedError)
