"""What is refused, in which words, and that nobody else notices."""

from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.nodes import Gen, Input, Ref, Root, Text
from ramet.params import SamplingParams
from ramet.runtime import Engine, EngineConfig, EngineError
from ramet.runtime.core import EngineCore
from ramet.runtime.errors import (
    CapacityError,
    ContextLengthError,
    EngineClosed,
    PromptError,
    RequestError,
)
from ramet.runtime.sequence import Task
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import (
    ToyCore,
    ToyEngine,
    ToyModel,
    all_back,
    byte_backend,
    drive,
    toy_text,
    toy_words,
)
from tests.runtime.tokenizers import wrap

GREEDY = SamplingParams(max_tokens=6, ignore_eos=True)


def ignored(task: Task) -> None:
    """Nobody waits for it."""


# -- the core


@pytest.fixture
def busy(toy_core: ToyCore) -> EngineCore:
    """Somebody runs already."""
    core = toy_core(context=64, num_blocks=8, block_size=4)
    return core


def refused(
    core: EngineCore, ask: Callable[[EngineCore], object], kind: type[EngineError]
) -> EngineError:
    """The error; before it somebody else was halfway through, and is right afterwards."""
    other = core.generate(core.open([1, 2, 3]), GREEDY, key=0, on_done=ignored)
    core.step()
    with pytest.raises(kind) as caught:
        ask(core)
    core.audit()
    drive(core)
    assert other.drawn == toy_text([1, 2, 3], 6)
    for sequence in list(core._sequences):
        core.close(sequence)
    assert all_back(core)
    return caught.value


def generate(prompt: list[int], **sampling: Any) -> Callable[[EngineCore], object]:
    def ask(core: EngineCore) -> object:
        params = SamplingParams(**{"max_tokens": 4, **sampling})
        return core.generate(core.open(prompt), params, key=0, on_done=ignored)

    return ask


def score(prompt: list[int], start: int) -> Callable[[EngineCore], object]:
    return lambda core: core.score(core.open(prompt), start, on_done=ignored)


@pytest.mark.parametrize("ask", [generate([]), score([], 1)])
def test_an_empty_prompt(busy: EngineCore, ask: Callable[[EngineCore], object]) -> None:
    error = refused(busy, ask, PromptError)
    assert str(error) == "there is no text to continue: the prompt is empty"


@pytest.mark.parametrize(("ask", "length"), [(generate([5] * 64), 64), (score([5] * 65, 3), 65)])
def test_a_prompt_as_long_as_the_context(
    busy: EngineCore, ask: Callable[[EngineCore], object], length: int
) -> None:
    error = refused(busy, ask, ContextLengthError)
    assert isinstance(error, ContextLengthError)
    assert (error.prompt, error.context) == (length, 64)
    assert f"{length} tokens" in str(error)
    assert "holds 64" in str(error)


def test_a_prompt_one_token_shorter_is_taken(toy_core: ToyCore) -> None:
    core = toy_core(context=64)
    task = core.generate(core.open([5] * 63), GREEDY, key=0, on_done=ignored)
    score = core.score(core.open([5] * 64), 63, on_done=ignored)
    drive(core)
    assert (task.drawn, len(score.logprobs)) == (toy_text([5] * 63, 1), 1)


def test_a_request_that_can_never_fit(busy: EngineCore) -> None:
    error = refused(busy, generate([5] * 20, max_tokens=12), CapacityError)
    assert isinstance(error, CapacityError)
    assert (error.tokens, error.needed, error.blocks) == (32, 9, 8)
    assert "32 tokens" in str(error)
    assert "9 blocks" in str(error)
    assert "has 8" in str(error)


def test_with_one_block_more_it_is_taken(toy_core: ToyCore) -> None:
    core = toy_core(context=64, num_blocks=9, block_size=4)
    task = core.generate(
        core.open([5] * 20), SamplingParams(max_tokens=12, ignore_eos=True), key=0, on_done=ignored
    )
    drive(core)
    assert task.drawn == toy_text([5] * 20, 12)


@pytest.mark.parametrize("token", [-1, 257, 100_000])
def test_a_token_outside_the_vocabulary(busy: EngineCore, token: int) -> None:
    for ask in (generate([1, token, 2]), score([1, token, 2], 1)):
        error = refused(busy, ask, PromptError)
        assert str(error) == f"token {token} is not in the vocabulary, which has 257 tokens"


@pytest.mark.parametrize("field", ["logit_bias", "allowed_tokens"])
def test_sampling_tokens_outside_the_vocabulary(busy: EngineCore, field: str) -> None:
    given: object = {257: 1.0} if field == "logit_bias" else [3, 257]
    error = refused(busy, generate([1], **{field: given}), RequestError)
    assert str(error) == f"{field}: token 257 is not in the vocabulary, which has 257 tokens"


def test_a_stop_regex_that_is_too_large(busy: EngineCore) -> None:
    error = refused(busy, generate([1], stop_regex="(a{900}){900}"), RequestError)
    assert "stop_regex" in str(error)


# -- programs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ({"max_tokens": -3}, "max_tokens must be"),
        ({"temperature": -0.5}, "temperature must be a number from 0"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"top_p": 0}, "top_p must be"),
        ({"top_k": -1}, "top_k must be"),
        ({"n": 0}, "n must be"),
        ({"n": 3}, "n is 3, but at temperature 0"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, but max_tokens is only 8"),
        ({"stop": ""}, "stop must be"),
        ({"logit_bias": {-1: 2}}, "logit_bias must be"),
        ({"allowed_tokens": []}, "allowed_tokens must be"),
        ({"logprobs": 21}, "logprobs must be"),
        ({"temprature": 1}, "unknown sampling parameter 'temprature'; did you mean 'temperature'?"),
    ],
)
def test_sampling_values_that_cannot_be(
    toy_engine: ToyEngine, fields: dict[str, Any], message: str
) -> None:
    def body(s: ramet.State) -> None:
        s += "some text"
        s += ramet.gen("x", **fields)

    error = refused_run(toy_engine(), ramet.program(body))
    assert isinstance(error, ramet.ParameterError)
    assert message in str(error)
    assert __file__ in str(error)


def refused_run(engine: Engine, program: Any, **arguments: Any) -> Exception:
    """The error of a run; in the same batch others run, and are right."""
    error, *others = mixed(engine, program, arguments)
    assert isinstance(error, Exception)
    for index, other in enumerate(others):
        assert not isinstance(other, Exception)
        assert other.value == toy_words(engine.tokenizer, f"other {index}", 8)
    assert all_back(engine.core)
    return error


def mixed(engine: Engine, program: Any, arguments: dict[str, Any]) -> list[Any]:
    @ramet.program
    def fine(s: ramet.State, index: int) -> object:
        s += f"other {index}"
        s += ramet.gen("y", max_tokens=8, ignore_eos=True)
        return s["y"]

    runs = [engine.start(fine, {"index": index}) for index in range(2)]
    engine.round(runs)
    bad = engine.start(program, arguments)
    runs.insert(0, bad)
    while not all(run.done for run in runs):
        engine.round(runs)
        engine.audit()
    return [run.outcome() for run in runs]


@ramet.program
def plain(s: ramet.State, text: str) -> object:
    s += text
    s += ramet.gen("x", max_tokens=8, ignore_eos=True)
    return s["x"]


def test_a_program_on_an_empty_prompt(toy_engine: ToyEngine) -> None:
    error = refused_run(toy_engine(), plain, text="")
    assert isinstance(error, PromptError)
    assert "the prompt is empty" in str(error)
    (note,) = error.__notes__
    assert note.startswith("in the program at ")
    assert __file__ in note


def test_a_program_longer_than_the_context(toy_engine: ToyEngine) -> None:
    error = refused_run(toy_engine(context=32), plain, text="x" * 50)
    assert isinstance(error, ContextLengthError)
    assert "50 tokens" in str(error)
    assert "32" in str(error)


def test_a_program_that_can_never_fit(toy_engine: ToyEngine) -> None:
    error = refused_run(toy_engine(num_blocks=4), plain, text="x" * 50)
    assert isinstance(error, CapacityError)
    assert (error.tokens, error.needed, error.blocks) == (58, 5, 4)


def test_a_lone_surrogate(toy_engine: ToyEngine) -> None:
    error = refused_run(toy_engine(), plain, text="a\ud800b")
    assert isinstance(error, ramet.GraphError)
    assert "a lone surrogate is in a text" in str(error)


def test_a_bias_outside_the_vocabulary(toy_engine: ToyEngine) -> None:
    @ramet.program
    def biased(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("x", logit_bias={300: 1.0})

    error = refused_run(toy_engine(), biased)
    assert isinstance(error, RequestError)
    assert "logit_bias: token 300" in str(error)


def test_an_option_that_is_too_long(toy_engine: ToyEngine) -> None:
    @ramet.program
    def choice(s: ramet.State) -> None:
        s += "text"
        s += ramet.select("x", ["a", "b" * 200])

    error = refused_run(toy_engine(context=64), choice)
    assert isinstance(error, ContextLengthError)
    assert error.prompt == 204


def test_select_on_an_empty_context(toy_engine: ToyEngine) -> None:
    @ramet.program
    def choice(s: ramet.State) -> None:
        s += ramet.select("x", ["a", "b"])

    error = refused_run(toy_engine(), choice)
    assert isinstance(error, PromptError)
    assert "select needs some text before it" in str(error)


def test_an_unknown_variable(toy_engine: ToyEngine) -> None:
    @ramet.program
    def misspelt(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("answer", max_tokens=2)
        s += "so " + s["anwser"]

    error = refused_run(toy_engine(), misspelt)
    assert isinstance(error, ramet.UnknownVariable)
    assert "unknown variable 'anwser'; did you mean 'answer'?" in str(error)


def test_an_attribute_that_the_value_lacks(toy_engine: ToyEngine) -> None:
    """Whether in a text, in the body or in what is returned."""

    @ramet.program
    def in_text(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("x", max_tokens=2)
        s += "with " + s["x"].probs

    @ramet.program
    def in_body(s: ramet.State) -> None:
        s += "text"
        s += ramet.gen("x", max_tokens=2)
        assert s["x"].probs

    @ramet.program
    def in_return(s: ramet.State) -> object:
        s += "text"
        s += ramet.gen("x", max_tokens=2)
        return {"probs": s["x"].probs}

    for program in (in_text, in_body, in_return):
        error = refused_run(toy_engine(), program)
        assert isinstance(error, AttributeError | ramet.GraphError)
        assert "probs" in str(error)


def test_a_probability_that_nobody_asked_for(toy_engine: ToyEngine) -> None:
    @ramet.program
    def unsure(s: ramet.State) -> object:
        s += "text"
        s += ramet.gen("x", max_tokens=2)
        return s["x"].prob

    error = refused_run(toy_engine(), unsure)
    assert isinstance(error, ramet.LanguageError)
    assert "logprobs=0" in str(error)


def test_wrong_arguments(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    for arguments, message in (
        ({}, "missing a required argument: 'text'"),
        ({"txt": "a"}, "no parameter 'txt'; did you mean 'text'?"),
        ({"text": 5}, "text must be str, not 5"),
    ):
        with pytest.raises(ramet.ArgumentError, match=message.replace("?", r"\?")):
            engine.run(plain, **arguments)
    assert all_back(engine.core)


def test_a_graph_takes_the_arguments_that_it_has_inputs_for(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    graph = plain.trace(text="abc")
    eight = SamplingParams(max_tokens=8, ignore_eos=True)
    nodes = (Root(), Input("text"), Text(0, (Ref(1),)), Gen(2, "x", eight))
    open_graph = ramet.Graph("open", nodes, Ref(3))
    with pytest.raises(TypeError, match="no input 'text'"):
        engine.run(graph, text="abc")
    with pytest.raises(TypeError, match="takes its arguments by name"):
        engine.run(graph, "abc")
    with pytest.raises(TypeError, match="'text' is missing"):
        engine.run(open_graph)
    words = toy_words(engine.tokenizer, "abc", 8)
    assert engine.run(open_graph, text="abc").value == words
    assert engine.run(graph).value == toy_words(engine.tokenizer, "abc", 8)


def test_a_graph_that_breaks_a_law_runs_nothing(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    graph = plain.trace(text="abc")
    torn = ramet.Graph("torn", (*graph.nodes, graph.nodes[-1]), graph.result)
    with pytest.raises(ramet.GraphError):
        engine.run(torn)
    engine.audit()
    assert engine.stats().steps == 0
    assert all_back(engine.core)


REFUSES = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_chat_template_that_refuses() -> None:
    tokenizer: Tokenizer = wrap(byte_backend(), REFUSES, eos_token="<eos>")
    engine = Engine.of(ToyModel(), tokenizer, EngineConfig(num_blocks=64))

    @ramet.program
    def chat(s: ramet.State) -> None:
        s += ramet.user("hello")
        s += ramet.system("be brief")
        s += ramet.assistant(ramet.gen("x", max_tokens=3))

    error = refused_run(engine, chat)
    assert isinstance(error, PromptError)
    assert "the chat template refuses a message with role 'system'" in str(error)
    assert "no system here" in str(error)


def test_a_closed_engine(toy_engine: ToyEngine) -> None:
    engine = toy_engine()
    engine.close()
    engine.close()
    for call in (engine.run, engine.stream):
        with pytest.raises(EngineClosed, match="the engine is closed"):
            call(plain, text="abc")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"block_size": 0}, "block_size"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"step_tokens": -1}, "step_tokens"),
        ({"max_sequences": 0}, "max_sequences"),
        ({"prefill_chunk": 0}, "prefill_chunk"),
        ({"max_context": 0}, "max_context"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(EngineError, match=f"^{field}: "):
        EngineConfig(**settings)
