"""What a scrape tells: of the engine what its counters say at that moment, of requests what was
seen where their items pass. Nothing is counted on the engine's own path.

Names are those of the field behind `ramet_`: seconds, tokens, blocks. Each server has a registry of
its own.
"""

import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ramet.runtime.core import EngineStats
from ramet.runtime.events import Event, TextDelta
from ramet.runtime.result import Finished
from ramet.runtime.server.asks import Delta, Ended, Item, Spent
from ramet.runtime.server.turns import Turns

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """The registry of one server."""

    def __init__(self, turns: Turns) -> None:
        self._registry = CollectorRegistry()
        self._engine = _Engine(turns)
        self._registry.register(self._engine)
        self._first = self._histogram(
            "time_to_first_token_seconds", "From a request to its first text.", _SECONDS
        )
        self._between = self._histogram(
            "inter_token_latency_seconds", "Between two pieces of a text.", _BETWEEN
        )
        self._whole = self._histogram(
            "e2e_request_latency_seconds", "From a request to its last token.", _SECONDS
        )
        self._queue = self._histogram(
            "request_queue_time_seconds", "Until the engine first let it in.", _SECONDS
        )
        self._prompt = self._histogram(
            "request_prompt_tokens", "Tokens of a request's prompt.", _TOKENS
        )
        self._generated = self._histogram(
            "request_generation_tokens", "Tokens that a request drew.", _TOKENS
        )
        self._runs = self._counter("program_runs", "Runs of programs that are over.", "status")
        self._run = self._histogram(
            "program_run_seconds", "From a program's arrival to the end of a run of it.", _SECONDS
        )
        self._answers = self._counter(
            "http_requests", "Requests, by the route that answered and how.", "route", "status"
        )
        self._ended = self._counter("request_success", "Texts that ended.", "finished_reason")
        self._failed = self._counter("request_failure", "Requests that did not end.", "error")
        self._prompts = self._counter("prompt_tokens", "Tokens of all prompts.")
        self._cached = self._counter("prompt_tokens_cached", "Of those, found in the cache.")
        self._tokens = self._counter("generation_tokens", "Tokens drawn.")

    async def watched(
        self, items: AsyncGenerator[Item, None], since: float | None = None
    ) -> AsyncGenerator[Item, None]:
        """The same items; what they tell of time and size is noted. `since` is when the request
        came, by `time.perf_counter()`."""
        begun = time.perf_counter() if since is None else since
        last: dict[int, float] = {}
        try:
            async for item in items:
                match item:
                    case Delta(sample=sample):
                        now = time.perf_counter()
                        if sample in last:
                            self._between.observe(now - last[sample])
                        elif not last:
                            self._first.observe(now - begun)
                        last[sample] = now
                    case Ended(finish_reason=reason):
                        self._ended.labels(reason).inc()
                    case Spent():
                        self._note(item, time.perf_counter() - begun)
                    case _:
                        pass
                yield item
        except Exception as error:
            self._failed.labels(type(error).__name__).inc()
            raise
        finally:
            await items.aclose()

    @contextmanager
    def watched_run(self) -> Generator["WatchedRun", None, None]:
        """Inside, a program runs, which came now. Its latencies are those of its texts."""
        run = WatchedRun(self._first, self._between)
        status = "cancelled"
        try:
            yield run
            status = "done"
        except Exception as error:
            status = "failed"
            self._failed.labels(type(error).__name__).inc()
            raise
        finally:
            self._runs.labels(status).inc()
            self._run.observe(time.perf_counter() - run.begun)
        if run.finished is not None:
            self._note_run(run.finished)

    def answered(self, route: str, status: int) -> None:
        """A request got its answer; `route` is the server's own name for it, "" for none."""
        self._answers.labels(route, status).inc()

    def text(self, stats: EngineStats) -> bytes:
        """All of it, as Prometheus reads it."""
        self._engine.stats = stats
        return generate_latest(self._registry)

    def _note(self, spent: Spent, seconds: float) -> None:
        self._whole.observe(seconds)
        if spent.queued is not None:
            self._queue.observe(spent.queued)
        self._prompt.observe(spent.prompt)
        self._generated.observe(spent.generated)
        self._prompts.inc(spent.prompt)
        self._cached.inc(spent.reused)
        self._tokens.inc(spent.generated)

    def _note_run(self, finished: Finished) -> None:
        for state in finished.root.walk():
            self._prompts.inc(state.usage.prompt_computed + state.usage.prompt_reused)
            self._cached.inc(state.usage.prompt_reused)
            self._tokens.inc(state.usage.generated)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"ramet_{name}", says, buckets=buckets, registry=self._registry)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"ramet_{name}", says, labels, registry=self._registry)


class WatchedRun:
    """What is seen of one run."""

    def __init__(self, first: Histogram, between: Histogram) -> None:
        self.begun = time.perf_counter()
        self.finished: Finished | None = None
        self._first = first
        self._between = between
        self._last: dict[tuple[str, int, int], float] = {}  # by text

    def see(self, event: Event) -> None:
        """It happens now."""
        if isinstance(event, TextDelta):
            now, text = time.perf_counter(), (event.path, event.node, event.sample)
            before = self._last.get(text)
            if before is not None:
                self._between.observe(now - before)
            elif not self._last:
                self._first.observe(now - self.begun)
            self._last[text] = now


class _Engine(Collector):
    """The engine's own counters, read when somebody asks."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.stats: EngineStats | None = None

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self.stats
        if stats is None:
            return
        cache = stats.cache
        gauges = {
            "num_requests_running": (stats.running, "Sequences in the engine's steps."),
            "num_requests_waiting": (stats.waiting, "Sequences that wait for room in a step."),
            "num_sequences": (stats.sequences, "Contexts that are open, idle ones too."),
            "num_runs_running": (self._turns.running, "Runs that have their turn."),
            "num_runs_waiting": (self._turns.waiting, "Runs that wait for their turn."),
            "num_tokens_waiting": (self._turns.text, "Tokens of the texts of those."),
            "num_blocks": (cache.num_blocks, "Blocks of the pool."),
            "kv_cache_usage_ratio": (cache.held / cache.num_blocks, "Blocks held, of all."),
        }
        for name, (value, says) in gauges.items():
            yield GaugeMetricFamily(f"ramet_{name}", says, value=value)
        blocks = GaugeMetricFamily("ramet_blocks", "Blocks by what they are.", labels=["state"])
        for state in ("free", "held", "cached"):
            blocks.add_metric([state], getattr(cache, state))
        yield blocks
        counters = {
            "engine_steps": (stats.steps, "Forward passes that were committed."),
            "engine_failed_steps": (stats.failed_steps, "Those that raised and were undone."),
            "engine_tokens": (stats.tokens, "Tokens run through the model."),
            "num_preemptions": (stats.preemptions, "Sequences that lost their blocks."),
            "num_share_preemptions": (stats.yielded, "Those of a tenant over its share."),
            "prefix_cache_queries": (cache.queries, "Tokens looked for in the cache."),
            "prefix_cache_hits": (cache.hits, "Tokens found there."),
            "block_copies": (cache.copies, "Copies on write."),
            "blocks_published": (cache.published, "Blocks that were made findable."),
            "blocks_merged": (cache.merged, "Blocks that turned out to be there already."),
            "blocks_evicted": (cache.evicted, "Cached blocks that were used for something else."),
        }
        for name, (value, says) in counters.items():
            yield CounterMetricFamily(f"ramet_{name}", says, value=value)
