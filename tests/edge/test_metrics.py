"""Prometheus reads the counters as they are, and only from this machine."""

from __future__ import annotations

import http.client
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from edge.bus.messages import HeartbeatMessage, JournalState, Mode, State
from edge.errors import StationError
from edge.metrics import BOUNDS_US, LatencyHistogram, MetricsServer

BEAT = HeartbeatMessage(
    station_id="press-3",
    epoch=1_700_000_000_000,
    head_seq=60,
    triggers_seen=65,
    ok=30,
    not_ok=20,
    not_decidable=10,
    in_flight=5,
    missed=4,
    late=3,
    overruns=2,
    duplicates=7,
    unclaimed=8,
    state=State.CONTINUOUS_EXECUTION,
    mode=Mode.JUDGE,
    journal=JournalState.OK,
    journal_lost=11,
    pictures_lost=12,
    masks_lost=2,
    plaintext_remote=False,
    wall_us=1,
)
INFO = {"station_id": "press-3", "product": 'a "bracket"\nor\\two', "software_version": "0.1.0"}


@dataclass
class Station:
    """What the server reads."""

    server: MetricsServer
    latencies: LatencyHistogram
    beat: HeartbeatMessage = BEAT

    def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def text(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=60) as answer:
            return str(answer.read().decode("utf-8"))


@pytest.fixture
def station() -> Iterator[Station]:
    latencies = LatencyHistogram()
    server = MetricsServer(0, lambda: made.beat, latencies, lambda: INFO)
    made = Station(server, latencies)
    yield made
    server.close()


def test_every_counter_is_there_under_its_name(station: Station) -> None:
    values = station.scrape()
    plain = {name: value for (name, labels), value in values.items() if not labels and "latency" not in name}
    assert plain == {
        "linegate_triggers_total": 65,
        "linegate_in_flight": 5,
        "linegate_deadlines_missed_total": 4,
        "linegate_late_results_total": 3,
        "linegate_overloads_total": 2,
        "linegate_duplicate_triggers_total": 7,
        "linegate_unclaimed_frames_total": 8,
        "linegate_journal_lost_total": 11,
        "linegate_pictures_lost_total": 12,
        "linegate_masks_lost_total": 2,
        "linegate_journal_behind": 0,
        "linegate_head_seq": 60,
    }
    verdicts = {
        dict(labels)["judgement"]: v for (name, labels), v in values.items() if name == "linegate_verdicts_total"
    }
    assert verdicts == {"OK": 30, "NOT_OK": 20, "NOT_DECIDABLE": 10}
    assert values["linegate_info", tuple(sorted(INFO.items()))] == 1


def test_types_are_what_prometheus_expects(station: Station) -> None:
    types = {family.name: family.type for family in text_string_to_metric_families(station.text())}
    assert types["linegate_triggers"] == types["linegate_verdicts"] == "counter"
    assert types["linegate_in_flight"] == types["linegate_state"] == types["linegate_info"] == "gauge"
    assert types["linegate_verdict_latency_seconds"] == "histogram"


def test_each_scrape_reads_anew(station: Station) -> None:
    assert station.scrape()["linegate_triggers_total", ()] == 65
    station.beat = msgspec.structs.replace(BEAT, triggers_seen=66, in_flight=6, journal=JournalState.BEHIND)
    values = station.scrape()
    assert values["linegate_triggers_total", ()] == 66
    assert values["linegate_journal_behind", ()] == 1


@pytest.mark.parametrize("state", State)
def test_exactly_one_state_is_set(station: Station, state: State) -> None:
    station.beat = msgspec.structs.replace(BEAT, state=state)
    values = {dict(labels)["state"]: v for (name, labels), v in station.scrape().items() if name == "linegate_state"}
    assert values == {each.value: float(each is state) for each in State}


@given(latencies_us=st.lists(st.integers(0, 60_000_000) | st.sampled_from(BOUNDS_US)))
def test_the_buckets_hold_what_was_noted(latencies_us: list[int]) -> None:
    histogram = LatencyHistogram()
    for latency_us in latencies_us:
        histogram.note(latency_us)
    counts, sum_us = histogram.snapshot()
    assert sum_us == sum(latencies_us)
    up_to = [sum(counts[: index + 1]) for index in range(len(counts))]
    assert up_to == [sum(us <= bound for us in latencies_us) for bound in BOUNDS_US] + [len(latencies_us)]


def test_the_histogram_is_told_in_seconds(station: Station) -> None:
    for latency_us in (900, 1_000, 1_001, 250_000, 11_000_000):
        station.latencies.note(latency_us)
    values = station.scrape()
    name = "linegate_verdict_latency_seconds"
    at = {dict(labels)["le"]: value for (n, labels), value in values.items() if n == f"{name}_bucket"}
    assert (at["0.001"], at["0.002"], at["0.2"], at["0.5"], at["10.0"], at["+Inf"]) == (2, 3, 3, 4, 4, 5)
    assert values[f"{name}_count", ()] == 5
    assert values[f"{name}_sum", ()] == pytest.approx(11.252901)


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    """Threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_switches")
def test_scrapes_meet_no_half_noted_verdict(station: Station) -> None:
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            station.latencies.note(3_000)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    seen = [station.latencies.snapshot() for _ in range(3_000)]
    scraped = station.scrape()
    done.set()
    for thread in threads:
        thread.join()
    assert all(sum_us == 3_000 * sum(counts) for counts, sum_us in seen)
    totals = [sum(counts) for counts, _ in seen]
    assert totals == sorted(totals) and totals[-1] > 0
    name = "linegate_verdict_latency_seconds"
    assert scraped[f"{name}_sum", ()] == pytest.approx(0.003 * scraped[f"{name}_count", ()])


def test_a_port_in_use_is_told_with_the_remedy(station: Station) -> None:
    with pytest.raises(StationError, match=r"127\.0\.0\.1:\d+ \(Address already in use\)\..*metrics\.port"):
        MetricsServer(station.server.port, lambda: BEAT, LatencyHistogram(), lambda: {})


def test_only_this_machine_may_ask(station: Station) -> None:
    stranger = http.client.HTTPConnection("127.0.0.2", station.server.port, timeout=60)
    with pytest.raises(ConnectionRefusedError):
        stranger.request("GET", "/metrics")


def test_a_client_that_says_nothing_holds_up_no_other(station: Station) -> None:
    silent = http.client.HTTPConnection("127.0.0.1", station.server.port, timeout=60)
    silent.connect()
    assert station.scrape()["linegate_head_seq", ()] == 60
    silent.close()


def test_a_scrape_writes_no_log(station: Station, capfd: pytest.CaptureFixture[str]) -> None:
    station.scrape()
    assert capfd.readouterr() == ("", "")


def test_a_closed_server_frees_its_port() -> None:
    first = MetricsServer(0, lambda: BEAT, LatencyHistogram(), lambda: {})
    first.close()
    first.close()
    MetricsServer(first.port, lambda: BEAT, LatencyHistogram(), lambda: {}).close()
