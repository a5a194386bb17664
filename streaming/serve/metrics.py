"""What the server does, in numbers for Prometheus: vLLM's names under ``mr_stream:``, and ours."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.serve.served import Served
from streaming.serve.streams.streams import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)


class Metrics:
    """Counts for one server.

    Args:
        running: returns how many answers have begun and not ended.
        waiting: returns how many have not begun.
        streams: returns how many streams there are, and their frames.
    """

    def __init__(
        self,
        running: Callable[[], float],
        waiting: Callable[[], float],
        streams: Callable[[], Totals],
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StreamNumbers(streams))
        self._gauge("num_requests_running", "Answers that have begun").set_function(running)
        self._gauge("num_requests_waiting", "Answers that have not").set_function(waiting)
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts, visual ones included")
        self._said = self._counter("generation_tokens", "Tokens of answers")
        self._asked = self._counter("prefix_cache_queries", "Visual tokens asked about")
        self._hits = self._counter("prefix_cache_hits", "Those that were not encoded for it")
        self._ended = self._counter("request_success", "Answers", "finished_reason")
        self._failed = self._counter("request_failure", "Requests refused or failed", "code")
        self._first = self._histogram("time_to_first_token_seconds", "From request to first text")
        self._whole = self._histogram("e2e_request_latency_seconds", "From request to its end")
        self._stages = self._counter("stage_seconds", "Busy seconds of workers", "stage")
        self._frames = self._counter("frames", "Frames of clips that were not warm")
        self._tokens = self._counter("visual_tokens", "Of frames, before and behind", "state")

    def answered(self, served: Served, first_seconds: float) -> None:
        """Count an answer, whose first text came after so many seconds."""
        answer = served.answer
        self._prompt.inc(answer.num_text_tokens + answer.num_visual_tokens)
        self._said.inc(answer.num_answer_tokens)
        self._asked.inc(answer.num_visual_tokens)
        self._hits.inc(served.num_cached_tokens)
        self._ended.labels(served.answer.finish_reason).inc()
        self._first.observe(first_seconds)
        self._whole.observe(answer.elapsed_seconds)
        self._frames.inc(0 if served.warm else answer.num_frames)
        self._tokens.labels("seen").inc(answer.num_unpruned_tokens)
        self._tokens.labels("kept").inc(answer.num_visual_tokens)
        for stage, seconds in answer.seconds.items():
            self._stages.labels(stage).inc(seconds)

    def failed(self, code: str) -> None:
        """Count a request that got an error."""
        self._failed.labels(code).inc()

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mr_stream:{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"mr_stream:{name}", text, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"mr_stream:{name}", text, registry=self._registry, buckets=_SECONDS)


class _StreamNumbers(Collector):
    """Counts streams when it is asked, rather than while they go on."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        totals = self._totals()
        yield GaugeMetricFamily("mr_stream:streams", "Streams kept", value=totals.num_streams)
        frames = CounterMetricFamily("mr_stream:stream_frames", "Of streams", labels=["state"])
        frames.add_metric(["seen"], totals.num_seen_frames)
        frames.add_metric(["dropped"], totals.num_dropped_frames)
        yield frames
