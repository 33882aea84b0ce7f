"""OpenAI's own clients over a socket, the one that waits and the asynchronous one: streams and
answers say the same, usage adds up, and ends, errors and cancellations are what they expect."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import openai
import pytest

from tests.runtime.conftest import ToyEngine, toy_model
from tests.runtime.server.live import Live, live

Route = Literal["completions", "chat"]
PROMPT = "how do you do"
CHAT: Any = [{"role": "user", "content": PROMPT}]
BASE: dict[Route, dict[str, Any]] = {
    "completions": {"model": "toy", "prompt": PROMPT, "max_tokens": 24, "temperature": 0},
    "chat": {"model": "toy", "messages": CHAT, "max_tokens": 24, "temperature": 0},
}
ROUTES = [*BASE]


def create_of(client: Any, route: Route) -> Callable[..., Any]:
    return client.completions.create if route == "completions" else client.chat.completions.create


def waited(served: Live, body: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """What a coroutine gives that has an asynchronous client."""

    async def main() -> Any:
        url = f"{served.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return await body(client)

    return asyncio.run(main())


def text_of(choice: Any) -> str:
    told = getattr(choice, "message", None) or getattr(choice, "delta", None)
    return choice.text if told is None else told.content or ""


def put_together(chunks: list[Any]) -> tuple[list[tuple[int, str, str]], dict[str, Any]]:
    """Of each choice its number, text and end; and the usage."""
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            assert choice.index not in ends, "nothing comes after the end"
            texts[choice.index] = texts.get(choice.index, "") + text_of(choice)
            if choice.finish_reason is not None:
                ends[choice.index] = choice.finish_reason
    usage = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(usage) == 1, "it is told once"
    assert chunks[-1].choices == []
    return [(at, texts[at], ends[at]) for at in sorted(texts)], spent(usage[0])


def whole(answer: Any) -> tuple[list[tuple[int, str, str]], dict[str, Any]]:
    found = [(each.index, text_of(each), each.finish_reason) for each in answer.choices]
    return found, spent(answer.usage)


def spent(usage: Any) -> dict[str, Any]:
    """All but what was cached, which is more each time."""
    told = usage.model_dump(exclude_none=True)
    details = told.pop("prompt_tokens_details")
    assert 0 <= details["cached_tokens"] <= told["prompt_tokens"]
    return told


SETTINGS: list[dict[str, Any]] = [
    {},
    {"n": 3, "temperature": 1.2, "seed": 4},
    {"stop": ["e", "a"], "max_tokens": 64},
    {"extra_body": {"beams": 3}, "n": 2},
    {"extra_body": {"regex": "[a-z]{3,9}"}},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("route", ROUTES)
def test_all_four_ways_say_the_same(served: Live, route: Route, settings: dict[str, Any]) -> None:
    request = BASE[route] | settings
    streamed = request | {"stream": True, "stream_options": {"include_usage": True}}
    create = create_of(served.openai, route)

    async def ways(client: openai.AsyncOpenAI) -> Any:
        ask = create_of(client, route)
        stream = await ask(**streamed)
        return whole(await ask(**request)), put_together([chunk async for chunk in stream])

    expected = whole(create(**request))
    assert put_together([*create(**streamed)]) == expected
    assert waited(served, ways) == (expected, expected)


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_the_sum_over_prompts_and_choices(served: Live, stream: bool) -> None:
    request: dict[str, Any] = {
        "model": "toy", "prompt": ["one", "three"], "n": 2, "max_tokens": 9, "logprobs": 0,
        "temperature": 1.3, "seed": 8, "stream": stream,
    }  # fmt: skip
    if stream:
        request["stream_options"] = {"include_usage": True}
    answer: Any = served.openai.completions.create(**request)
    chunks = [*answer] if stream else [answer]
    drawn = sum(len(c.logprobs.tokens) for chunk in chunks for c in chunk.choices if c.logprobs)
    [usage] = [spent(chunk.usage) for chunk in chunks if chunk.usage is not None]
    assert usage == {
        "prompt_tokens": len("one") + len("three"),
        "completion_tokens": drawn,
        "total_tokens": len("one") + len("three") + drawn,
    }


ENDS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 5}, "length"),
    ({"max_tokens": 400, "stop": ["e", "a", "t"]}, "stop"),
    ({"logit_bias": {"256": 100}}, "stop"),
    ({"logit_bias": {"256": 100}, "extra_body": {"ignore_eos": True}}, "length"),
    ({"extra_body": {"stop_token_ids": [*range(200)]}}, "stop"),
    ({"extra_body": {"regex": "[a-f]{4}"}}, "stop"),
    ({"extra_body": {"regex": "[a-f]{40}"}}, "length"),
    ({"extra_body": {"choice": ["left", "right"]}}, "stop"),
]


@pytest.mark.parametrize(("settings", "end"), ENDS)
@pytest.mark.parametrize("route", ROUTES)
def test_why_it_ended(served: Live, route: Route, settings: dict[str, Any], end: str) -> None:
    create, request = create_of(served.openai, route), BASE[route] | settings
    assert [choice.finish_reason for choice in create(**request).choices] == [end]
    told = [
        choice.finish_reason for chunk in create(**request, stream=True) for choice in chunk.choices
    ]
    assert [reason for reason in told if reason is not None] == [end]
    assert told[-1] == end


ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None]] = [
    ({"temperature": -1}, openai.BadRequestError, "invalid_value"),
    ({"n": 17}, openai.BadRequestError, "limit_exceeded"),
    ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "invalid_request"),
    ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found"),
    (
        {"extra_body": {"regex": "b", "allowed_token_ids": [0]}},
        openai.UnprocessableEntityError,
        "ruled_out",
    ),
]


@pytest.mark.parametrize(("settings", "kind", "code"), ERRORS)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_is_raised_by_both(
    served: Live,
    route: Route,
    stream: bool,
    settings: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
) -> None:
    request = BASE[route] | settings | {"stream": stream}

    async def ask(client: openai.AsyncOpenAI) -> Any:
        with pytest.raises(kind) as caught:
            await create_of(client, route)(**request)
        return caught.value

    with pytest.raises(kind) as caught:
        create_of(served.openai, route)(**request)
    for error in (caught.value, waited(served, ask)):
        assert error.code == code
        assert isinstance(error.body, dict)
        assert error.body["message"]
    assert served.all_back()


@pytest.mark.parametrize("route", ROUTES)
def test_a_step_that_fails_under_a_stream_is_raised_by_both(served: Live, route: Route) -> None:
    model = toy_model(served.engine.core)
    request = BASE[route] | {"max_tokens": 3000, "stream": True, "extra_body": {"ignore_eos": True}}

    async def ask(client: openai.AsyncOpenAI) -> None:
        stream = await create_of(client, route)(**request)
        await anext(stream)
        model.fail_at = set(range(model.forwards, model.forwards + 5))
        with pytest.raises(openai.APIError, match="try again"):
            async for _ in stream:
                pass

    stream = create_of(served.openai, route)(**request)
    next(stream)
    model.fail_at = set(range(model.forwards, model.forwards + 5))
    with pytest.raises(openai.APIError, match="try again"):
        list(stream)
    model.fail_at = set()
    waited(served, ask)
    model.fail_at = set()
    assert served.all_back()


def test_a_client_that_tries_again_gets_its_answer(served: Live) -> None:
    model = toy_model(served.engine.core)
    model.fail_at = {model.forwards}
    patient = served.openai.with_options(max_retries=1)
    assert patient.completions.create(**BASE["completions"]).choices


def test_a_tenant_with_too_many_runs_is_told(toy_engine: ToyEngine) -> None:
    with live(toy_engine(), model="toy", tenant=1) as served:
        long = BASE["completions"] | {"max_tokens": 3000, "extra_body": {"ignore_eos": True}}
        with served.openai.completions.create(**long, stream=True) as stream:
            next(stream)
            with pytest.raises(openai.RateLimitError) as caught:
                served.openai.completions.create(**BASE["completions"])
            assert caught.value.code == "too_many_runs"
        assert served.all_back()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_takes_everything_back(served: Live, route: Route, stream: bool) -> None:
    request = BASE[route] | {"max_tokens": 3000, "stream": stream}
    request |= {"extra_body": {"ignore_eos": True}}

    async def ask(client: openai.AsyncOpenAI) -> None:
        dice = random.Random(3)

        async def one() -> None:
            answer = await create_of(client, route)(**request)
            async for _ in answer:
                pass

        async def leave(after: float) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one(), after)

        await asyncio.gather(*(leave(dice.random() / 5) for _ in range(12)))

    waited(served, ask)
    assert served.all_back(within=1.0)
    assert create_of(served.openai, route)(**BASE[route]).choices


@pytest.mark.parametrize("route", ROUTES)
def test_a_stream_that_is_closed_early_is_cancelled(served: Live, route: Route) -> None:
    request = BASE[route] | {"max_tokens": 3000, "stream": True}
    request |= {"extra_body": {"ignore_eos": True}}

    async def ask(client: openai.AsyncOpenAI) -> None:
        async with await create_of(client, route)(**request) as stream:
            await anext(stream)

    waited(served, ask)
    assert served.all_back(within=1.0)
    with create_of(served.openai, route)(**request) as stream:
        next(stream)
    assert served.all_back(within=1.0)


def test_models_by_the_asynchronous_client(served: Live) -> None:
    async def ask(client: openai.AsyncOpenAI) -> list[str]:
        return [model.id async for model in client.models.list()]

    assert waited(served, ask) == ["toy"]
