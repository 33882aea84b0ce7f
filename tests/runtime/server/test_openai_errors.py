"""What OpenAI's routes refuse, and how; and that nothing that is sent makes them fail."""

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import BaseModel

from ramet.runtime.server.openai.requests import ChatRequest, CompletionRequest
from ramet.runtime.server.routes.tokens import DetokenizeRequest, TokenizeRequest
from ramet.runtime.server.sglang import GenerateRequest, SglSampling
from tests.runtime.conftest import toy_model
from tests.runtime.server.live import Live

HELLO: Any = [{"role": "user", "content": "Hello!"}]


def post(served: Live, path: str, body: Any) -> httpx2.Response:
    """Also what a client would not let through: NaN, half a surrogate."""
    headers = {"Content-Type": "application/json"}
    return served.http.post(path, content=json.dumps(body), headers=headers)


def refused(served: Live, **request: Any) -> dict[str, Any]:
    """The error that the client raises for a bad request."""
    request = {"model": "toy", "prompt": "a", "max_tokens": 4, **request}
    with pytest.raises(openai.BadRequestError) as caught:
        served.openai.completions.create(**request)
    assert caught.value.type == "invalid_request_error"
    assert isinstance(caught.value.body, dict)
    return caught.value.body


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("temperature", -1, "from 0 to 100, not -1"),
        ("temperature", "hot", "valid number"),
        ("top_p", 7, "to 1, not 7"),
        ("n", 0, "greater than or equal to 1"),
        ("n", 17, "17 is more than the 16"),
        ("best_of", 17, "17 is more than the 16"),
        ("max_tokens", -1, "greater than or equal to 0"),
        ("max_tokens", 1_000_000, "to 65536, not 1000000"),
        ("logprobs", 21, "to 20, not 21"),
        ("presence_penalty", 3, "from -2 to 2, not 3"),
        ("logit_bias", {"x": 1}, "no token id"),
        ("logit_bias", {"1": 1000}, "from -100 to 100"),
        ("stop", ["a"] * 17, "at most 16 strings"),
        ("stop", "", "1 to 256 bytes, not ''"),
        ("seed", 2**70, "18446744073709551615"),
        ("prompt", [True], "expected a text or its token ids"),
        ("prompt", ["a", 1], "expected a text or its token ids"),
        ("prompt", ["a"] * 65, "65 prompts is more than the 64"),
        ("suffix", "end", "fills no gaps"),
    ],
)
def test_a_value_that_is_wrong_is_named(served: Live, field: str, value: Any, says: str) -> None:
    error = refused(served, **{field: value})
    assert error["param"] == field
    assert says in error["message"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"tempreature": 1}, "did you mean 'temperature'"),
        ({"nonsense": 1}, "unknown field 'nonsense'"),
        ({"regex": "a", "choice": ["b"]}, "one type"),
        ({"regex": "("}, "regex"),
        ({"grammar": "no grammar"}, "grammar"),
        ({"choice": []}, "option"),
        ({"beams": 2, "temperature": 1}, "beam"),
        ({"beams": 2, "n": 3}, "beams"),
        ({"beams": 2, "best_of": 3}, "best_of"),
        ({"length_penalty": 2}, "beams"),
        ({"best_of": 2, "n": 3}, "best_of is 2, but n is 3"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"stream_options": {"include_usage": True}}, "stream is not true"),
        ({"min_tokens": 9}, "min_tokens"),
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": [5, 257]}, "vocabulary"),
        ({"prompt": [-1]}, "vocabulary"),
        ({"prompt": "\ud800"}, "Unicode"),
        ({"stop_token_ids": [-1]}, "stop_tokens"),
        ({"allowed_token_ids": [9999]}, "vocabulary"),
        ({"logit_bias": {"9999": 1}}, "vocabulary"),
    ],
)
def test_what_cannot_be_done_is_said(served: Live, extra: dict[str, Any], says: str) -> None:
    body = {"model": "toy", "prompt": "a", "max_tokens": 4, **extra}
    answer = post(served, "/v1/completions", body)
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "calls no tools"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "text only"),
        ({"reasoning_effort": "high"}, "reasoning"),
        ({"store": True}, "stores no answers"),
        ({"top_logprobs": 2}, "logprobs is not true"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "differ"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "expected one of system"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]}, "calls no tools"),
        ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "calls no tools"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "c"}]}, "calls no tools"),
        ({"messages": [{"role": "user", "content": None}]}, "content is null"),
        ({"add_generation_prompt": False}, "one is true"),
        (
            {
                "messages": [{"role": "assistant", "content": "x"}],
                "add_generation_prompt": True,
                "continue_final_message": True,
            },
            "one is true",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text only"),
        ({"messages": [{"role": "user", "content": "x", "name": "Bo"}]}, "no place for names"),
        ({"continue_final_message": True}, "assistant"),
    ],
)
def test_a_chat_says_what_is_not_here(served: Live, extra: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        served.openai.chat.completions.create(
            **{"model": "toy", "messages": HELLO, **{k: v for k, v in extra.items() if k in KNOWN}},
            extra_body={k: v for k, v in extra.items() if k not in KNOWN},
        )


KNOWN = {"messages", "tools", "audio", "store", "top_logprobs", "max_tokens", "response_format"}


def test_fields_that_say_nothing_are_taken(served: Live) -> None:
    answer = served.openai.chat.completions.create(
        model="toy",
        messages=HELLO,
        max_tokens=1,
        tools=[],
        tool_choice="none",
        store=False,
        user="me",
        modalities=["text"],
        metadata={"a": "b"},
        service_tier="auto",
        extra_body={"functions": None, "top_k": -1, "n": 1.0},
    )
    assert len(answer.choices) == 1


def test_a_prompt_that_is_too_long(served: Live) -> None:
    error = refused(served, prompt="a" * 5000)
    assert error["code"] == "context_length_exceeded"
    error = refused(served, prompt="a" * 70_000)
    assert error["code"] == "context_length_exceeded"


def test_models(served: Live) -> None:
    assert [model.id for model in served.openai.models.list()] == ["toy"]
    assert served.openai.models.retrieve("toy").object == "model"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o'"):
        served.openai.models.retrieve("gpt-4o")
    with pytest.raises(openai.NotFoundError):
        served.openai.completions.create(model="gpt-4o", prompt="a")


def test_an_error_in_the_middle_of_a_stream_is_raised(served: Live) -> None:
    model = toy_model(served.engine.core)
    with served.openai.completions.create(
        model="toy", prompt="soon to fail", max_tokens=4000, stream=True,
        extra_body={"ignore_eos": True},
    ) as stream:  # fmt: skip
        events = iter(stream)
        next(events)
        model.fail_at = set(range(model.forwards, model.forwards + 5))
        with pytest.raises(openai.APIError, match="try again"):
            list(events)
    model.fail_at = set()
    assert served.all_back()


def test_a_step_that_fails_is_503_before_anything_was_sent(served: Live) -> None:
    model = toy_model(served.engine.core)
    for stream in (False, True):
        model.fail_at = {model.forwards}
        with pytest.raises(openai.InternalServerError) as caught:
            served.openai.completions.create(model="toy", prompt="failing", stream=stream)
        assert caught.value.status_code == 503
    assert served.openai.completions.create(model="toy", prompt="failing").choices


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 40)
    | st.floats()
    | st.floats(0, 2)
    | st.text(max_size=8)
    | st.sampled_from(["", "a", "never", "text", "json_object", "user", "\ud800", "[a-z]+", "("])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=9)}
    ),
    min_size=1,
    max_size=3,
)
SAMPLING = {
    "n": st.integers(1, 3),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.1, 1),
    "top_k": st.integers(-1, 300),
    "min_p": st.floats(0, 1),
    "frequency_penalty": st.floats(-2, 2),
    "repetition_penalty": st.floats(0.5, 2),
    "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3),
    "logit_bias": st.dictionaries(st.integers(0, 256).map(str), st.floats(-100, 100), max_size=3),
    "regex": st.text("ab[]()*+", max_size=5),
    "stop_regex": st.text("ab[]()*+", max_size=5),
    "stop_token_ids": st.lists(st.integers(0, 256), max_size=3),
    "ignore_eos": st.booleans(),
}
OPENAI = SAMPLING | {
    "seed": st.integers(-(2**63), 2**63),
    "stream": st.booleans(),
    "beams": st.integers(1, 4),
    "min_tokens": st.integers(0, 3),
    "grammar": st.sampled_from(["start: /a+/", "start: (", ""]),
    "choice": st.lists(st.text(max_size=3), max_size=3),
    "allowed_token_ids": st.lists(st.integers(0, 256), max_size=3),
}
IDS = st.lists(st.integers(0, 260), max_size=9)


def bodies(model: type[BaseModel], needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Requests that may be right, and in some of them one field is anything."""
    right = st.fixed_dictionaries(needed, optional=optional)
    fields = [field.alias or name for name, field in model.model_fields.items()]
    wrong = st.dictionaries(st.sampled_from(fields) | st.text(max_size=5), ANYTHING, max_size=1)
    return st.builds(lambda body, other: body | other, right, wrong)


BODIES = {
    "/v1/completions": bodies(
        CompletionRequest,
        {
            "model": st.just("toy"),
            "max_tokens": st.integers(0, 4),
            "prompt": st.text(max_size=9) | st.lists(st.text(max_size=5), max_size=3) | IDS,
        },
        OPENAI
        | {"echo": st.booleans(), "logprobs": st.integers(0, 4), "best_of": st.integers(1, 4)},
    ),
    "/v1/chat/completions": bodies(
        ChatRequest,
        {"model": st.just("toy"), "max_tokens": st.integers(1, 4), "messages": MESSAGES},
        OPENAI
        | {
            "logprobs": st.just(True),
            "response_format": st.sampled_from(
                [
                    {"type": "text"},
                    {"type": "json_object"},
                    {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}},
                    {"type": "json_schema", "json_schema": {"schema": {"enum": [1, "a"]}}},
                ]
            ),
        },
    ),
    "/tokenize": bodies(
        TokenizeRequest, {}, {"prompt": st.text(), "messages": MESSAGES, "model": st.just("toy")}
    ),
    "/detokenize": bodies(DetokenizeRequest, {"tokens": IDS}, {}),
    "/generate": bodies(
        GenerateRequest,
        {"text": st.text(max_size=9) | st.lists(st.text(max_size=5), max_size=3)},
        {
            "sampling_params": bodies(SglSampling, {"max_new_tokens": st.integers(0, 4)}, SAMPLING),
            "stream": st.booleans(),
            "return_logprob": st.booleans(),
            "logprob_start_len": st.integers(-1, 9),
            "top_logprobs_num": st.integers(0, 3),
            "return_text_in_logprobs": st.booleans(),
        },
    ),
}


@pytest.mark.filterwarnings("ignore:Possible (nested set|set ):FutureWarning")
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), path=st.sampled_from([*BODIES]))
def test_nothing_that_is_sent_makes_it_fail(served: Live, data: st.DataObject, path: str) -> None:
    answer = post(served, path, data.draw(BODIES[path]))
    assert answer.status_code in (200, 400, 404, 422), answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "server_error" not in answer.text


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=ANYTHING, path=st.sampled_from([*BODIES]))
def test_a_body_that_is_anything_is_refused(served: Live, body: Any, path: str) -> None:
    assert post(served, path, body).status_code == 400
