"""`/metrics`: what a scrape says, held against what was asked."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from ramet.runtime import Engine, EngineConfig
from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.conftest import ToyModel, toy_model
from tests.runtime.server.live import Live, live


@pytest.fixture
def fresh(byte_tokenizer: Tokenizer) -> Iterator[Live]:
    """A server that nobody asked anything."""
    engine = Engine.of(ToyModel(), byte_tokenizer, EngineConfig(num_blocks=256))
    with live(engine, model="toy") as each:
        yield each


def scraped(served: Live) -> dict[str, float]:
    text = served.http.get("/metrics").text
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_asked_is_counted(fresh: Live) -> None:
    prompt = "sixteen letters and some more"
    for _ in range(3):
        fresh.openai.completions.create(model="toy", prompt=prompt, max_tokens=8, temperature=0)
    told = scraped(fresh)
    stats = fresh.engine.stats()
    assert told["ramet_prompt_tokens_total"] == 3 * len(prompt)
    assert told["ramet_prompt_tokens_cached_total"] == 2 * (len(prompt) - 1)
    assert told["ramet_generation_tokens_total"] == 24
    assert told["ramet_request_success_total[length]"] == 3
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
        assert told[f"ramet_{name}_seconds_count"] == 3
        assert 0 <= told[f"ramet_{name}_seconds_sum"] < 20
    assert told["ramet_inter_token_latency_seconds_count"] <= 3 * 7
    assert told["ramet_prefix_cache_queries_total"] == stats.cache.queries
    assert told["ramet_prefix_cache_hits_total"] == stats.cache.hits > 0
    assert told["ramet_engine_steps_total"] == stats.steps == toy_model(fresh.engine.core).forwards
    assert told["ramet_engine_tokens_total"] == stats.tokens
    assert told["ramet_block_copies_total"] == stats.cache.copies == 2
    assert told["ramet_num_blocks"] == 256
    states = [told[f"ramet_blocks[{state}]"] for state in ("free", "held", "cached")]
    assert sum(states) == 256
    assert states == [stats.cache.free, 0, stats.cache.cached]
    for name in ("requests_running", "requests_waiting", "runs_running", "tokens_waiting"):
        assert told[f"ramet_num_{name}"] == 0
    for name in ("num_preemptions", "num_share_preemptions", "engine_failed_steps"):
        assert told[f"ramet_{name}_total"] == 0


def test_what_failed_is_counted(fresh: Live) -> None:
    fresh.http.post("/v1/completions", json={"model": "toy", "prompt": "a" * 5000})
    toy_model(fresh.engine.core).fail_at = {0}
    fresh.http.post("/v1/completions", json={"model": "toy", "prompt": "a"})
    told = scraped(fresh)
    assert told["ramet_request_failure_total[ContextLengthError]"] == 1
    assert told["ramet_request_failure_total[StepError]"] == 1
    assert told["ramet_engine_failed_steps_total"] == 1


PROGRAM = (
    'program p(n: int):\n    "sixteen letters and more"\n    gen a(max_tokens=n, ignore_eos=true)\n'
)


def test_runs_of_programs_are_counted(fresh: Live) -> None:
    batch = {"source": PROGRAM, "batch": [{"n": 6}, {"n": 5}, {}], "stream": True}
    assert fresh.http.post("/v1/programs", json=batch).status_code == 200
    told = scraped(fresh)
    assert told["ramet_program_runs_total[done]"] == 2
    assert told["ramet_program_run_seconds_count"] == 2
    assert told["ramet_generation_tokens_total"] == 11
    assert told["ramet_prompt_tokens_total"] >= 48
    assert told["ramet_prompt_tokens_cached_total"] > 0
    assert told["ramet_time_to_first_token_seconds_count"] == 2
    assert 0 < told["ramet_inter_token_latency_seconds_count"] <= 9


def test_every_answer_is_counted_by_its_route(fresh: Live) -> None:
    """By the server's own name for it: a client names nothing."""
    fresh.http.get("/v1/programs/prog_1")
    fresh.http.get("/v1/programs/prog_2")
    fresh.http.get("/nowhere/of/mine")
    fresh.http.post("/v1/programs/check", json={"source": PROGRAM})
    told = scraped(fresh)
    assert told["ramet_http_requests_total[/v1/programs/{id}][404]"] == 2
    assert told["ramet_http_requests_total[][404]"] == 1
    assert told["ramet_http_requests_total[/v1/programs/check][200]"] == 1


def test_who_gave_way_for_others_is_counted(byte_tokenizer: Tokenizer) -> None:
    """One tenant has more than half of 24 blocks, and another comes."""
    config = EngineConfig(num_blocks=24, block_size=4, sharing=False)
    engine = Engine.of(ToyModel(), byte_tokenizer, config)
    keys = {"a-key": "a", "b-key": "b"}
    with live(engine, model="toy", keys=keys, token="a-key") as served:
        headers = {"Authorization": "Bearer a-key"}
        asked = {"model": "toy", "prompt": ["x" * 20] * 4, "max_tokens": 70, "ignore_eos": True}
        with served.http.stream(
            "POST", "/v1/completions", json={**asked, "stream": True}, headers=headers
        ) as flood:
            lines = flood.iter_lines()
            next(lines)
            other = served.openai.with_options(api_key="b-key").completions
            other.create(model="toy", prompt="y" * 30, max_tokens=4, temperature=0)
            assert sum('"finish_reason":"length"' in line for line in lines) == 4
        told = {
            family.name: family.samples[0].value
            for family in text_string_to_metric_families(
                served.http.get("/metrics", headers=headers).text
            )
            if family.name.endswith("preemptions")
        }
        assert told["ramet_num_share_preemptions"] > 0
        assert told["ramet_num_preemptions"] >= told["ramet_num_share_preemptions"]


def test_nothing_is_kept_for_the_whole_process(fresh: Live) -> None:
    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("ramet")]
    assert all(value == 0 for name, value in scraped(fresh).items() if name.endswith("_count"))
