"""Metrics: what /metrics shows, named after vLLM's under ``graphkv:``; reuse of the same context and reuse block by block are kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from graphkv.scheduler import Scheduler, Stats
    from graphkv.strategy import Answer

_FIRST = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_WHOLE = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)
_STORE_SECONDS = 15.0
"""The size of a store is asked for at most this often: a folder is walked for it."""


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        scheduler: asked for its queue and its store when the metrics are read.

    Example:
        >>> metrics = Metrics(scheduler)  # doctest: +SKIP
        >>> metrics.answered(answer, 0.8, stream=False)  # doctest: +SKIP
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"graphkv:{name}", about, labels, registry=self.registry)

        self._first = Histogram("graphkv:time_to_first_token_seconds", "From the question to the first token.", buckets=_FIRST, registry=self.registry)
        self._whole = Histogram("graphkv:e2e_request_latency_seconds", "From the question to the whole answer.", buckets=_WHOLE, registry=self.registry)
        self._success = counter("request_success", "Questions answered.", "finished_reason", "stream")
        self._refused = counter("request_refused", "Requests that were not answered.", "kind")
        self._prompt = counter("prompt_tokens", "Tokens of prompts, documents included.")
        self._generated = counter("generation_tokens", "Tokens generated.")
        self._exact = counter("tokens_reused_exact", "Prompt tokens that came as part of the very same context, assembled before.")
        self._composed = counter("tokens_reused_composed", "Prompt tokens that came block by block from the store.")
        self._computed = counter("tokens_computed", "Prompt tokens that were computed.")
        self._http = counter("http_requests", "Requests by route and status.", "method", "route", "status")
        self._in_work = Gauge("graphkv:http_requests_in_work", "Requests that are being answered.", registry=self.registry)
        self.registry.register(_Live(scheduler))

    def answered(self, answer: Answer, seconds: float, stream: bool) -> None:
        """Count an answer; `seconds` from the request to its end."""
        self._first.observe(answer.timings.first_token)
        self._whole.observe(seconds)
        self._success.labels(answer.finish_reason, str(stream).lower()).inc()
        self._prompt.inc(answer.tokens_reused + answer.tokens_computed)
        self._generated.inc(answer.tokens_generated)
        self._exact.inc(answer.tokens_exact)
        self._composed.inc(answer.tokens_reused - answer.tokens_exact)
        self._computed.inc(answer.tokens_computed)

    def refused(self, kind: str) -> None:
        """Count a question that got no answer. The guard counts what ends in an error status; inside a stream the route does."""
        self._refused.labels(kind).inc()

    def begun(self) -> None:
        """A request came in."""
        self._in_work.inc()

    def done(self, method: str, route: str, status: int) -> None:
        """A request has been answered."""
        self._in_work.dec()
        self._http.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text form."""
        return generate_latest(self.registry)


class _Live(Collector):
    """Numbers that are read when they are asked for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._store = _Slow(lambda: float(scheduler.engine.store.nbytes))

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())  # so that registering asks for no numbers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        stats: Stats = self.scheduler.stats()
        for name, about, value in (
            ("num_requests_waiting", "Questions in the queue.", stats.waiting),
            ("num_requests_running", "Questions that are being decoded.", stats.running),
            ("contexts", "Assembled contexts in memory.", stats.contexts),
            ("context_cache_bytes", "Bytes of assembled contexts in memory.", stats.context_bytes),
            ("store_bytes", "Bytes of encoded blocks in the store.", self._store()),
        ):
            yield GaugeMetricFamily(f"graphkv:{name}", about, value=value)


class _Slow:
    """A number that is dear to get, and may be a while old."""

    def __init__(self, get: Callable[[], float]) -> None:
        self._get, self._value, self._at = get, 0.0, -_STORE_SECONDS

    def __call__(self) -> float:
        now = time.monotonic()
        if now - self._at >= _STORE_SECONDS:
            self._at = now  # first: whoever asks while it is being got is told the old one
            self._value = self._get()
        return self._value
