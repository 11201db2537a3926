"""Prometheus metrics: the counters of the heartbeat and the latency, as they are when they are asked for."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from edge.bus.messages import HeartbeatMessage, JournalState, State
from edge.errors import StationError
from edge.types import Judgement

HOST = "127.0.0.1"
# fmt: off
BOUNDS_US = (
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
)
# fmt: on
"""Upper ends of the buckets, 1 ms to 10 s; a last bucket takes what is slower."""
READ_TIMEOUT_S = 10.0
COUNTERS = (
    ("linegate_triggers", "triggers_seen", "Triggers, each of which is owed one verdict."),
    ("linegate_deadlines_missed", "missed", "Triggers whose deadline passed without a result."),
    ("linegate_late_results", "late", "Results that came after their verdict and changed nothing."),
    ("linegate_overloads", "overruns", "Triggers that found no room."),
    ("linegate_duplicate_triggers", "duplicates", "Triggers that were sent twice."),
    ("linegate_unclaimed_frames", "unclaimed", "Frames that no open trigger asked for."),
    ("linegate_journal_lost", "journal_lost", "Verdicts that the journal could not keep."),
    ("linegate_pictures_lost", "pictures_lost", "Pictures that the journal could not keep."),
    ("linegate_masks_lost", "masks_lost", "Masks that were not sent, because too many waited."),
)
"""Name without `_total`, field of the heartbeat, help."""


class LatencyHistogram:
    """How long after its trigger each verdict was published. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_US) + 1)
        self._sum_us = 0
        self._lock = threading.Lock()

    def note(self, latency_us: int) -> None:
        """Count one verdict; takes about a microsecond, whoever reads."""
        bucket = bisect_left(BOUNDS_US, latency_us)
        with self._lock:
            self._counts[bucket] += 1
            self._sum_us += latency_us

    def snapshot(self) -> tuple[list[int], int]:
        """Verdicts in each bucket (not cumulative; the last is beyond every bound), and the sum in microseconds."""
        with self._lock:
            return list(self._counts), self._sum_us


class MetricsServer:
    """Answers scrapes on the loopback interface until it is closed."""

    def __init__(
        self,
        port: int,
        read: Callable[[], HeartbeatMessage],
        latencies: LatencyHistogram,
        info: Callable[[], dict[str, str]],
    ) -> None:
        """Bind the port and serve from a thread of its own.

        Args:
            port: 0 takes a free one.
            read: the counts as they are now; called for every scrape, from the server's threads.
            latencies: what the publishing stage notes.
            info: labels of `linegate_info`, by name.

        Raises:
            StationError: the port is in use, or not for this user.
        """
        registry = CollectorRegistry()
        registry.register(_StationCollector(read, latencies, info))
        try:
            self._server = make_server(HOST, port, make_wsgi_app(registry), ThreadingWSGIServer, _Handler)
        except OSError as error:
            raise StationError(
                f"metrics cannot be bound to {HOST}:{port} ({error.strerror})",
                "Stop the program that holds it (`ss -ltnp`), or choose another metrics.port in the station file.",
            ) from error
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    """Logs nothing, and does not wait for ever for a request that does not come."""

    timeout = READ_TIMEOUT_S

    def log_message(self, *_: object) -> None:
        """A scrape is no event."""


class _StationCollector(Collector):
    def __init__(
        self, read: Callable[[], HeartbeatMessage], latencies: LatencyHistogram, info: Callable[[], dict[str, str]]
    ) -> None:
        self._read, self._latencies, self._info = read, latencies, info

    def collect(self) -> Iterable[Metric]:
        """Every metric, from one reading."""
        beat = self._read()
        yield from _counters(beat)
        yield from _gauges(beat)
        yield _histogram(self._latencies)
        yield InfoMetricFamily("linegate", "What runs on this station.", self._info())


def _counters(beat: HeartbeatMessage) -> Iterator[Metric]:
    for name, field, text in COUNTERS:
        yield CounterMetricFamily(name, text, getattr(beat, field))
    verdicts = CounterMetricFamily("linegate_verdicts", "Verdicts by judgement.", labels=["judgement"])
    counts = {Judgement.OK: beat.ok, Judgement.NOT_OK: beat.not_ok, Judgement.NOT_DECIDABLE: beat.not_decidable}
    for judgement, count in counts.items():
        verdicts.add_metric([judgement.value], count)
    yield verdicts


def _gauges(beat: HeartbeatMessage) -> Iterator[Metric]:
    yield GaugeMetricFamily("linegate_in_flight", "Triggers that wait for their verdict.", beat.in_flight)
    yield GaugeMetricFamily("linegate_head_seq", "Number of the last verdict of this epoch.", beat.head_seq)
    yield GaugeMetricFamily(
        "linegate_journal_behind",
        "1 while the disk takes nothing and verdicts wait in memory.",
        int(beat.journal is JournalState.BEHIND),
    )
    states = GaugeMetricFamily("linegate_state", "1 for the state the station is in.", labels=["state"])
    for state in State:
        states.add_metric([state.value], int(beat.state is state))
    yield states


def _histogram(latencies: LatencyHistogram) -> Metric:
    counts, sum_us = latencies.snapshot()
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip([*(str(b / 1e6) for b in BOUNDS_US), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(
        "linegate_verdict_latency_seconds", "Trigger to publication of its verdict.", buckets, sum_us / 1e6
    )
