"""The figures of the demo, worked out by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from calibration.metrics import auroc
from deploy.demo.results import Results, collect, print_table
from edge.errors import LinegateError
from edge.types import Judgement
from tests.demo.making import received, results

FIELDS = [
    *("triggers", "verdicts", "ok", "not_ok", "not_decidable", "auroc", "accuracy", "false_rejects", "escapes"),
    *("latency_ms_p50", "latency_ms_p99"),
]


def test_the_figures_of_a_small_run() -> None:
    run = results(normal=[0.2, 0.4, 0.9, 1.5], defective=[0.3, 1.2, 2.0, 3.0, 4.0])
    figures = run.summary()
    assert list(figures) == FIELDS
    assert (figures["triggers"], figures["verdicts"]) == (9, 9)
    assert (figures["ok"], figures["not_ok"], figures["not_decidable"]) == (4, 5, 0)
    assert figures["false_rejects"] == 1, "1.5"
    assert figures["escapes"] == 1, "0.3"
    assert figures["accuracy"] == pytest.approx(7 / 9, abs=1e-4)
    assert figures["auroc"] == pytest.approx((1 + 3 + 4 + 4 + 4) / 20, abs=1e-4)
    assert run.complete


def test_a_score_at_the_threshold_passes() -> None:
    figures = results(normal=[1.0], defective=[1.0]).summary()
    assert (figures["ok"], figures["false_rejects"], figures["escapes"]) == (2, 0, 1)
    assert figures["accuracy"] == 0.5


def test_a_part_that_could_not_be_judged_counts_as_rejected() -> None:
    figures = results(normal=[0.5, None, 0.6], defective=[2.0, None]).summary()
    assert (figures["ok"], figures["not_ok"], figures["not_decidable"]) == (2, 1, 2)
    assert figures["false_rejects"] == 1
    assert figures["escapes"] == 0
    assert figures["accuracy"] == pytest.approx(4 / 5), "rejected normal is wrong, rejected defective is right"


def test_a_picture_unlike_the_shots_counts_as_rejected_whatever_it_scores() -> None:
    unlike = (received(1, 0.5, judgement=Judgement.NOT_DECIDABLE), received(2, 0.5, judgement=Judgement.NOT_DECIDABLE))
    run = Results(4, (*unlike, received(3, 0.5), received(4, 2.0)), (False, False, False, True))
    figures = run.summary()
    assert (figures["false_rejects"], figures["escapes"]) == (2, 0)
    assert figures["accuracy"] == pytest.approx(2 / 4)


@pytest.mark.parametrize("undecided", ["normal", "defective", "both"])
def test_a_run_in_which_a_whole_class_could_not_be_judged_is_no_traceback(undecided: str) -> None:
    """Everything too late, say: the person must see the table, or one line that says why there is none."""
    nothing: list[float | None] = [None, None]
    run = results(
        normal=nothing if undecided != "defective" else [0.5, 0.5],
        defective=nothing if undecided != "normal" else [2.0, 2.0],
    )
    with contextlib.suppress(LinegateError):
        assert run.summary()["not_decidable"] == (4 if undecided == "both" else 2)
        json.loads(run.summary_json())
        print_table(Console(file=io.StringIO()), run)


def test_latency_quantiles_are_in_milliseconds() -> None:
    verdicts = tuple(received(i, 0.5 if i % 2 else 2.0, latency_us=1000 * i) for i in range(1, 102))
    figures = Results(101, verdicts, tuple(i % 2 == 0 for i in range(1, 102))).summary()
    assert figures["latency_ms_p50"] == 51.0
    assert figures["latency_ms_p99"] == 100.0


def test_a_lost_or_doubled_verdict_is_no_complete_run() -> None:
    run = results(normal=[0.5, 0.6], defective=[2.0])
    assert run.complete
    assert not Results(4, run.verdicts, run.defective).complete, "one trigger without a verdict"
    doubled = (*run.verdicts[:2], run.verdicts[1])
    assert not Results(3, doubled, run.defective).complete, "one verdict twice, another lost"


def test_the_summary_file_is_json_with_the_agreed_names() -> None:
    run = results(normal=[0.5, 0.6], defective=[2.0, 0.4])
    written = json.loads(run.summary_json())
    assert written == run.summary()
    assert set(written) == set(FIELDS)
    assert written["auroc"] == pytest.approx(auroc([0.5, 0.6], [2.0, 0.4]))


def test_what_was_received_is_read_with_its_labels(tmp_path: Path) -> None:
    verdicts = [received(1, 0.5, part="a.png"), received(2, 2.0, part="b.png"), received(3, None, part="c.png")]
    (tmp_path / "verdicts.jsonl").write_bytes(b"".join(msgspec.json.encode(v) + b"\n" for v in verdicts))
    (tmp_path / "run.log").write_text("linegate: station demo is ready\nlinegate: Halted: 4 triggers, 1 OK\n")
    run = collect(
        tmp_path / "verdicts.jsonl",
        tmp_path / "run.log",
        {"a.png": False, "b.png": True, "c.png": False, "d.png": True},
    )
    assert run.triggers == 4, "the station's own count, not the subscriber's"
    assert run.verdicts == tuple(verdicts)
    assert run.defective == (False, True, False)
    assert not run.complete
    assert run.scores(defective=False) == [0.5]
    assert run.scores(defective=True) == [2.0]


@pytest.mark.parametrize(("lines", "log"), [(b"", "Halted: 4 triggers"), (None, "Traceback: no count")])
def test_a_run_without_verdicts_or_without_an_end_is_an_error(lines: bytes | None, log: str, tmp_path: Path) -> None:
    one = msgspec.json.encode(received(1, 0.5, part="a.png")) + b"\n"
    (tmp_path / "verdicts.jsonl").write_bytes(one if lines is None else lines)
    (tmp_path / "run.log").write_text(log)
    with pytest.raises(LinegateError, match="no verdict arrived"):
        collect(tmp_path / "verdicts.jsonl", tmp_path / "run.log", {"a.png": False})


def test_the_table_shows_the_figures() -> None:
    run = results(normal=[0.2, 0.4, 0.9, 1.5], defective=[0.3, 1.2, 2.0, None, 4.0])
    screen = io.StringIO()
    print_table(Console(file=screen, width=120), run)
    shown = screen.getvalue()
    assert "4 / 4 / 1" in shown
    assert "1 of 4 normal parts" in shown
    assert "1 of 5 defective parts" in shown
    assert f"{run.summary()['auroc']:.3f}" in shown
