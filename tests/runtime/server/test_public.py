"""Public prefixes: what tenants save by them, what they do not see, and that no text changes."""

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from ramet.params import SamplingParams
from ramet.runtime.cli import serving
from ramet.runtime.core import EngineCore
from ramet.runtime.sequence import Generation, Task
from ramet.runtime.server import ServerConfig
from ramet.runtime.server.config import ConfigError
from ramet.runtime.server.openai.prompts import Prompts
from ramet.runtime.server.openai.requests import Message
from ramet.runtime.server.public import declare, public_tokens
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.cli import ramet
from tests.runtime.conftest import ToyCore, all_back, byte_backend, drive, toy_text
from tests.runtime.server.serving import Served, serve
from tests.runtime.tokenizers import smollm2

KEYS = {"one": "ann", "two": "bob"}
PUBLIC = "You are the assistant of a library. You answer in one sentence, and name the book. "
WHOLE = len(PUBLIC) // 16 * 16
SECRET = "What did the third earl write about his debts, and where is it kept?"
SOURCE = 'program secret(t: str):\n    "{t}"\n    gen a(max_tokens=20, ignore_eos=true)\n'
SIZES: dict[str, Any] = {"max_tokens": 4, "ignore_eos": True, "temperature": 0}


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def reused(served: Served, key: str, prompt: str, **more: Any) -> int:
    body = {"model": "default", "prompt": prompt, **SIZES, **more}
    answer = await served.client.post("/v1/completions", json=body, headers=bearing(key))
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


async def asked(served: Served, key: str, path: str, body: dict[str, Any] | None = None) -> Any:
    if body is None:
        answer = await served.client.get(path, headers=bearing(key))
    else:
        answer = await served.client.post(path, json=body, headers=bearing(key))
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


# -- usage


def test_another_tenant_saves_the_full_public_blocks_and_nothing_else(
    byte_tokenizer: Tokenizer,
) -> None:
    async def body(served: Served) -> None:
        prompt = PUBLIC + SECRET
        assert await reused(served, "one", prompt) == 0
        assert await reused(served, "two", prompt) == WHOLE
        assert await reused(served, "one", prompt) > len(prompt) - 16
        assert await reused(served, "two", PUBLIC + "Else?") == len(PUBLIC), "its own since"

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_a_program_and_a_search_save_it_too(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        arguments = {"source": SOURCE, "arguments": {"t": PUBLIC + SECRET}}
        first = await asked(served, "one", "/v1/programs", arguments)
        assert first["result"]["usage"]["prompt_reused"] == 0
        second = await asked(served, "two", "/v1/programs", arguments)
        assert second["result"]["usage"]["prompt_reused"] == WHOLE
        assert second["result"]["text"] == first["result"]["text"]
        assert await reused(served, "two", PUBLIC + "Any book?", beams=2) == len(PUBLIC)

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_who_leaves_the_prefix_inside_is_seen_by_nobody(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        left = PUBLIC[:40] + SECRET
        assert await reused(served, "one", left) == 0
        for prompt in (left, PUBLIC + SECRET):
            said = await asked(served, "two", "/v1/cache/explain", {"prompt": prompt})
            assert (said["found"], said["nearest"]) == (32, [])
        assert await reused(served, "two", left) == 32
        assert await reused(served, "one", left) > len(left) - 16

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_nobody_computes_what_another_tenant_is_computing(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        both = await asyncio.gather(*(reused(served, key, PUBLIC + key) for key in ("one", "two")))
        assert sorted(both) == [0, WHOLE]

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_without_keys_it_is_one_more_prefix(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for known in (0, WHOLE):
            body = {"model": "default", "prompt": PUBLIC + str(known), **SIZES}
            told = (await served.client.post("/v1/completions", json=body)).json()
            assert told["usage"]["prompt_tokens_details"]["cached_tokens"] == known

    serve(byte_tokenizer, body, public=(PUBLIC,))


# -- the window


def test_a_tenant_sees_its_own_and_what_is_public(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        run = {"source": SOURCE, "arguments": {"t": PUBLIC + SECRET}}
        await asked(served, "one", "/v1/programs", run)
        (prefix,) = (await asked(served, "two", "/v1/cache?text=1000"))["spans"]
        assert (prefix["tokens"], prefix["text"]) == (WHOLE, PUBLIC[:WHOLE])
        assert (prefix["public"], prefix["maker"]) == (True, "public")
        await reused(served, "two", PUBLIC + "Mine, and long enough for a block of it.")
        theirs = await asked(served, "two", "/v1/cache?text=1000")
        assert [span["maker"] for span in theirs["spans"]] == ["public", "completion"]
        assert [span["above"] for span in theirs["spans"]] == [None, 0]
        said = await asked(served, "two", "/v1/cache/explain", {"prompt": PUBLIC + "What"})
        assert said["found"] == len(PUBLIC)
        assert said["nearest"][0]["text"].startswith("Mine")
        early = await asked(served, "two", "/v1/cache/explain", {"prompt": PUBLIC[:20]})
        assert (early["found"], early["nearest"][0]["maker"]) == (20, "public")
        assert "secret" not in str([theirs, said, early])
        assert "earl" not in str([theirs, said, early])

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_nobody_forgets_what_is_public(byte_tokenizer: Tokenizer) -> None:
    async def body(served: Served) -> None:
        for key in ("one", "two"):
            await reused(served, key, PUBLIC + SECRET)
        everything = await served.client.delete("/v1/cache", headers=bearing("one"))
        assert everything.json()["blocks"] > 0
        (left,) = (await asked(served, "one", "/v1/cache"))["spans"]
        assert left["public"]
        for path in ("/v1/cache/forget", "/flush_cache"):
            headers = bearing("one")
            asking = {"prompt": PUBLIC} if path.endswith("forget") else None
            answer = await served.client.post(path, json=asking, headers=headers)
            assert answer.status_code == 200
        assert await reused(served, "two", PUBLIC + SECRET) > len(PUBLIC + SECRET) - 16
        assert await reused(served, "one", PUBLIC + SECRET) == WHOLE

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_what_is_public_is_evicted_last_and_a_pin_is_its_tenants(
    byte_tokenizer: Tokenizer,
) -> None:
    async def body(served: Served) -> None:
        for key in ("one", "two"):
            await reused(served, key, PUBLIC + SECRET)
        pin = {"prompt": PUBLIC + SECRET, "seconds": 60}
        await asked(served, "one", "/v1/cache/pins", pin)
        assert (await asked(served, "two", "/v1/cache/pins"))["pins"] == []
        for number in range(40):
            await reused(served, "two", f"{number:03} " * 32)
        whole = len(PUBLIC + SECRET) // 16 * 16
        for key, kept in (("one", whole), ("two", WHOLE), ("one", whole)):
            found = await asked(served, key, "/v1/cache/explain", {"prompt": PUBLIC + SECRET})
            assert found["found"] - kept in range(16)

    serve(byte_tokenizer, body, keys=KEYS, public=(PUBLIC,))


def test_every_dialect_is_a_maker(byte_tokenizer: Tokenizer) -> None:
    long = "As long as a block, and then a bit more of it. "
    chat = [{"role": "user", "content": long}]
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "completion": ("/v1/completions", {"prompt": long, **SIZES, "beams": 2}),
        "chat": (
            "/v1/chat/completions",
            {"messages": chat, **SIZES},
        ),
        "generate": ("/generate", {"text": long, "sampling_params": {"max_new_tokens": 4}}),
    }

    async def body(served: Served) -> None:
        for maker, (path, asking) in bodies.items():
            if path.startswith("/v1"):
                asking = {"model": "default", **asking, "max_tokens": 40}
            await asked(served, "one", path, asking)
            spans = (await asked(served, "one", "/v1/cache"))["spans"]
            assert {span["maker"] for span in spans} == {maker}
            await served.client.delete("/v1/cache", headers=bearing("one"))

    serve(byte_tokenizer, body, keys=KEYS)


# -- the oracle


def ignored(task: Task) -> None:
    """Nobody waits for it."""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("public", [False, True])
def test_texts_are_the_same(toy_core: ToyCore, seed: int, public: bool) -> None:
    """Two tenants in one batch, in pools so small that they preempt each other and evict."""
    draw = random.Random(seed)
    size = draw.choice((1, 4, 16))
    prefix = [draw.randrange(256) for _ in range(40)]
    room = draw.choice((96, 400)) // size
    core: EngineCore = toy_core(num_blocks=room, block_size=size, step_tokens=64, prefill_chunk=31)
    if public:
        declare(core, [prefix[:24], prefix])
    asked: list[tuple[Generation, list[int]]] = []
    for _ in range(24):
        known = prefix[: draw.choice((0, 8, 15, 16, 17, 24, 39, 40))]
        prompt = [*known, *(draw.randrange(3) for _ in range(draw.randint(1, 12)))]
        params = SamplingParams(max_tokens=12, ignore_eos=True)
        sequence = core.open(prompt, draw.choice((b"one", b"two")))
        asked.append((core.generate(sequence, params, key=0, on_done=ignored), prompt))
        for _ in range(draw.randrange(3)):
            core.step()
            core.audit()
    drive(core)
    for task, prompt in asked:
        assert task.drawn == toy_text(prompt, 12)
        core.close(task.sequence)
    assert all_back(core)


# -- declaring


def test_a_prefix_is_encoded_as_the_start_of_a_context(toy_core: ToyCore) -> None:
    core = toy_core(block_size=4)
    (tokens,) = public_tokens(core, ["<eos>ab and so on"])
    assert tokens[0] in core.tokenizer.control_ids
    assert tokens == Prompts(core.tokenizer).whole("<eos>ab and so on")


def test_the_token_that_opens_a_context_comes_once() -> None:
    backend = byte_backend(("<bos>",))
    bos = backend.token_to_id("<bos>") or 0
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", bos)]
    )
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>"))
    pool = SimpleNamespace(block_size=4, num_blocks=64)
    core: Any = SimpleNamespace(tokenizer=tokenizer, pool=pool, context=100)
    plain, spelled = public_tokens(core, ["one, two", "<bos>one, two"])
    assert plain == spelled
    assert plain.count(bos) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("short", "has 5 tokens; only full blocks are shared, and a block has 16"),
        ("", "has 0 tokens; only full blocks"),
        ("x" * 4096, "has 4096 tokens; no more than 4079 leave room"),
        ("a lone \ud800" * 9, "not valid Unicode"),
    ],
)
def test_a_prefix_that_cannot_be_shared_is_told_at_the_start(
    byte_tokenizer: Tokenizer, text: str, says: str
) -> None:
    async def body(served: Served) -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match=says):
        serve(byte_tokenizer, body, public=(PUBLIC, text))


def test_a_chats_rendering_is_a_prefix_of_that_chat(smollm2_core: Any) -> None:
    """What /tokenize and /detokenize make of messages is what the file has to say."""
    tokenizer = smollm2()
    prompts = Prompts(tokenizer)
    system = Message(role="system", content="You are an assistant of few words.\n\nThat is all.")
    head = prompts.chat([system], prompts=False)
    text = tokenizer.hf.backend_tokenizer.decode(head, skip_special_tokens=False)
    (tokens,) = public_tokens(smollm2_core, [text])
    assert tokens == head
    whole = prompts.chat([system, Message(role="user", content="Hello")])
    assert whole[: len(head)] == head


@pytest.fixture
def smollm2_core() -> Any:
    pool = SimpleNamespace(block_size=16, num_blocks=64)
    return SimpleNamespace(tokenizer=smollm2(), pool=pool, context=2048)


def test_files_reach_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[ServerConfig] = []
    monkeypatch.setattr(serving, "Engine", lambda *words, **more: SimpleNamespace(close=lambda: 0))
    monkeypatch.setattr(serving, "serve", lambda engine, config, told: seen.append(config))
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes("Ä\r\n".encode())
    second.write_bytes(b"two")
    result = ramet("serve", "--public", str(first), "--public", str(second))
    assert result.exit_code == 0, result.output
    assert seen[0].public == ("Ä\r\n", "two")
    assert "two" not in repr(seen[0])

    def refuse(engine: object, config: object, told: object) -> None:
        raise ConfigError("public: the prefix 'two' has 3 tokens")

    monkeypatch.setattr(serving, "serve", refuse)
    result = ramet("serve", "--public", str(second))
    assert result.exit_code == 2
    assert "has 3 tokens" in result.output
    for wrong in (tmp_path / "nowhere", tmp_path):
        result = ramet("serve", "--public", str(wrong))
        assert result.exit_code == 2
        assert "cannot be read" in " ".join(result.output.replace("│", " ").split())
