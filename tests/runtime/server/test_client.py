"""`ramet.Client` and `ramet.AsyncClient`: what an engine runs, on a server, with the same names."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import ramet
from ramet.client import RemoteError, RemoteFinished
from ramet.events import TextDelta
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.running import tips
from tests.runtime.server.serving import Served, listening

TEXT = ramet.loads(
    """\
program aside(t: str):
    "{t}"
    gen said(max_tokens=3, ignore_eos=true)
    return said

program story(topic: str, n: int = 2):
    "On {topic}: "
    fork i in range(n) as parts:
        gen part(max_tokens=4, ignore_eos=true)
    select mood from [" good", " bad"]
    if mood == " good":
        gen why(max_tokens=3, ignore_eos=true)
    gen end(max_tokens=5, ignore_eos=true)
    return {end, mood, parts: parts.part}
""",
    "story",
)


@ramet.program
def looks(s: ramet.State) -> None:
    s += "x" + ramet.gen("a", max_tokens=2)
    if s["a"] == "b":
        s += "y"


def url_of(served: Served) -> str:
    return str(served.client.base_url)


def remote(tokenizer: Tokenizer, body: Callable[[Served, ramet.Client], None], **how: Any) -> None:
    """Call it on a thread, with a client of a server that listens."""

    async def main() -> None:
        async with listening(tokenizer, **how) as (served, _):
            with ramet.Client(url_of(served), key=how.get("key")) as client:
                await asyncio.to_thread(body, served, client)

    asyncio.run(main())


def local(served: Served, program: Any, **arguments: Any) -> Any:
    async def run() -> Any:
        return await served.engine.run(program, **arguments)

    return asyncio.run(run())


@pytest.mark.parametrize(("program", "arguments"), [(tips, {"count": 2}), (TEXT, {"topic": "x"})])
def test_a_remote_result_is_as_the_local_one(
    byte_tokenizer: Tokenizer, program: Any, arguments: dict[str, Any]
) -> None:
    def body(served: Served, client: ramet.Client) -> None:
        here = local(served, program, **arguments)
        there = client.run(program, **arguments)
        assert there.value == here.value
        assert there.text == here.text
        assert [s.text for s in there.root.walk()] == [s.text for s in here.root.walk()]
        assert [s.path for s in there.root.walk()] == [s.path for s in here.root.walk()]
        assert there.usage.generated == here.usage.generated
        assert there.root.usage.generated == here.root.usage.generated
        for name, value in here.root.variables.items():
            assert there[name] == value
            assert there.root.variables[name] == value
        with pytest.raises(ramet.UnknownVariable):
            there["nothing"]
        again = client.stream(program, **arguments)
        events = [*again]
        assert again.result().value == here.value
        texts = "".join(e.text for e in events if isinstance(e, TextDelta))
        assert texts
        assert {type(e).__name__ for e in events} >= {"NodeStarted", "ValueBound", "BranchOpened"}

    remote(byte_tokenizer, body)


def test_inside_a_client_is_the_default(byte_tokenizer: Tokenizer) -> None:
    def body(served: Served, client: ramet.Client) -> None:
        with ramet.Client(url_of(served)):
            there = TEXT.run(topic="tea")
            assert isinstance(there, RemoteFinished)
            assert there.info("end").finish_reason == "length"
            first, second = TEXT.run_batch([{"topic": "tea"}, {"topic": "milk"}])
        assert isinstance(first, RemoteFinished)
        assert isinstance(second, RemoteFinished)
        assert first.value == there.value

    remote(byte_tokenizer, body)


def test_seeds_graphs_and_sources_are_sent(byte_tokenizer: Tokenizer) -> None:
    source = 'program p():\n    "x"\n    gen a(max_tokens=8, temperature=1.5, ignore_eos=true)\n'

    def body(served: Served, client: ramet.Client) -> None:
        program = ramet.loads(source)
        drawn = client.run(program.seeded(7))["a"]
        assert drawn == local(served, program.seeded(7))["a"]
        assert client.run(program.trace())["a"] == client.run(source)["a"]
        with pytest.raises(ramet.ArgumentError):
            client.run(3)  # type: ignore[arg-type]

    remote(byte_tokenizer, body)


def test_seed_and_limits_of_one_run(byte_tokenizer: Tokenizer) -> None:
    program = ramet.loads(
        "program p(seed: int, limits: str):\n"
        '    "{seed} {limits}"\n'
        "    gen a(max_tokens=8, temperature=1.5, ignore_eos=true)\n"
    )
    arguments = {"seed": 1, "limits": "none"}

    def body(served: Served, client: ramet.Client) -> None:
        seeded = client.with_options(seed=7)
        wanted = local(served, program.seeded(7), **arguments)["a"]
        assert seeded.run(program, **arguments)["a"] == wanted
        assert seeded.run(program.seeded(3), **arguments)["a"] == wanted
        assert seeded.stream(program, **arguments).result()["a"] == wanted
        (one,) = seeded.run_batch(program, [arguments])
        assert isinstance(one, RemoteFinished)
        assert one["a"] == wanted
        short = seeded.with_options(limits={"tokens": 4})
        with pytest.raises(ramet.LimitError) as limit:
            short.run(program, **arguments)
        assert limit.value.limit == "tokens"
        assert client.run(program.seeded(7), **arguments)["a"] == wanted

    async def coroutine(served: Served) -> None:
        async with ramet.AsyncClient(url_of(served)) as client:
            seeded = client.with_options(seed=7)
            wanted = (await served.engine.run(program.seeded(7), **arguments))["a"]
            assert (await seeded.run(program, **arguments))["a"] == wanted
            *_, last = [item async for item in seeded.stream(program, **arguments)]
            assert isinstance(last, RemoteFinished)
            assert last["a"] == wanted

    async def main() -> None:
        async with listening(byte_tokenizer) as (served, _):
            await coroutine(served)

    remote(byte_tokenizer, body)
    asyncio.run(main())


def test_a_program_that_looks_cannot_be_sent(byte_tokenizer: Tokenizer) -> None:
    def body(served: Served, client: ramet.Client) -> None:
        with pytest.raises(ramet.ArgumentError, match="looks cannot be sent: the value of 'a'"):
            client.run(looks)
        with pytest.raises(ramet.ArgumentError, match="no parameter 'counts'"):
            client.run(tips, counts=3)

    remote(byte_tokenizer, body)


def test_what_goes_wrong_there_is_raised_here(byte_tokenizer: Tokenizer) -> None:
    def body(served: Served, client: ramet.Client) -> None:
        with pytest.raises(ramet.SourceError) as source:
            client.run('program p():\n    "{b}"\n')
        assert source.value.diagnostics[0].span.line == 2
        with pytest.raises(ramet.LimitError) as limit:
            client.run(_many(3))
        assert limit.value.limit == "n"
        with pytest.raises(ramet.LimitError):
            client.stream(_many(3)).result()
        served.model.fail_at = {served.model.forwards}
        with pytest.raises(RemoteError) as failed:
            client.stream(tips).result()
        assert failed.value.code == "step_failed"
        wrong = client.run_batch(TEXT, [{"topic": "x", "n": 100}, {"topic": "x"}])
        assert [type(each) for each in wrong] == [ramet.LimitError, RemoteFinished]
        nobody = ramet.Client("http://127.0.0.1:9")
        with nobody, pytest.raises(RemoteError, match="does not answer"):
            nobody.run(tips)

    remote(byte_tokenizer, body, n=2)


def _many(n: int) -> Any:
    @ramet.program
    def many(s: ramet.State) -> None:
        s += "x"
        s += ramet.gen("a", n=n, temperature=1.0, max_tokens=2)

    return many


def test_a_key_is_sent(byte_tokenizer: Tokenizer) -> None:
    def body(served: Served, client: ramet.Client) -> None:
        assert client.run(tips).value
        with ramet.Client(url_of(served)) as nobody, pytest.raises(RemoteError) as caught:
            nobody.run(tips)
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")

    remote(byte_tokenizer, body, key="k", keys={"k": "me"})


def test_coroutines_run_together_and_leaving_cancels(byte_tokenizer: Tokenizer) -> None:
    long = ramet.loads('program p():\n    "x"\n    gen a(max_tokens=4000, ignore_eos=true)\n')

    async def main() -> None:
        async with (
            listening(byte_tokenizer) as (served, _),
            ramet.AsyncClient(url_of(served)) as client,
        ):
            both = await asyncio.gather(client.run(tips), TEXT.run(topic="x"))
            assert all(isinstance(each, RemoteFinished) for each in both)
            batch = await client.run_batch(TEXT, [{"topic": "x"}])
            assert isinstance(batch[0], RemoteFinished)
            assert batch[0].value == both[1].value
            items = [item async for item in client.stream(tips)]
            assert isinstance(items[-1], RemoteFinished)
            assert items[-1].value == both[0].value
            stream = client.stream(long)
            async for _ in stream:
                break
            await stream.aclose()
            assert await served.all_back()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.run(long)
            assert await served.all_back()

    asyncio.run(main())


def test_a_client_loads_no_engine() -> None:
    code = (
        "import ramet, sys; ramet.Client;"
        "print(json.dumps([n for n in ('torch', 'ramet.runtime') if n in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == []
