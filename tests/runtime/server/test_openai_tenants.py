"""Keys, shares and limits, as OpenAI's client meets them."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.runtime.conftest import ToyEngine
from tests.runtime.server.live import Live, live

KEYS = {"key-a": "ann", "key-b": "bob"}
PROMPT: dict[str, Any] = {
    "model": "toy",
    "prompt": "a secret of some length, " * 3,
    "max_tokens": 1,
}


def cached(client: openai.OpenAI, **more: Any) -> int:
    usage = client.completions.create(**PROMPT, **more).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    return usage.prompt_tokens_details.cached_tokens or 0


def test_a_key_is_needed_and_its_tenant_shares_with_nobody(toy_engine: ToyEngine) -> None:
    with live(toy_engine(), model="toy", keys=KEYS, token="key-a") as served:
        with pytest.raises(openai.AuthenticationError):
            served.openai.with_options(api_key="wrong").models.list()
        ann, bob = (served.openai.with_options(api_key=key) for key in KEYS)
        for beams in ({}, {"extra_body": {"beams": 2}, "temperature": 0}):
            cached(ann, **beams)
            assert cached(ann, **beams) > 0
        assert cached(bob) == 0
        assert cached(bob) > 0
        generate = {"text": PROMPT["prompt"], "sampling_params": {"max_new_tokens": 1}}
        headers = {"Authorization": "Bearer key-b"}
        told = served.http.post("/generate", json=generate, headers=headers).json()
        assert told["meta_info"]["cached_tokens"] > 0
        assert served.http.post("/flush_cache", headers=headers).status_code == 200
        assert cached(ann) > 0
        assert cached(bob) == 0
        for path in ("/metrics", "/v1/models", "/get_model_info"):
            assert served.http.get(path, headers={"Authorization": ""}).status_code == 401


def refused(served: Live, call: Callable[[], object], status: int) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    assert caught.value.status_code == status
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert served.all_back()
    return caught.value


def test_prompts_of_a_call_are_taken_together_or_not_at_all(toy_engine: ToyEngine) -> None:
    with live(toy_engine(), model="toy", tenant=3, running=2, queue=0) as served:
        create = served.openai.completions.create
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError):
                create(model="toy", prompt=["a", "b", "c", "d"], stream=stream)
            refused(served, lambda s=stream: create(model="toy", prompt=["a"] * 3, stream=s), 503)
        assert len(create(model="toy", prompt=["a", "b"]).choices) == 2
