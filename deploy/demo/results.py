"""What the subscriber received, against what the parts truly are."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.metrics import auroc
from edge.bus.messages import VerdictMessage
from edge.errors import LinegateError
from edge.types import Judgement


@dataclass(frozen=True)
class Results:
    """All verdicts of one run; `defective` says of each whether the part truly is."""

    triggers: int
    verdicts: tuple[VerdictMessage, ...]
    defective: tuple[bool, ...]

    @property
    def complete(self) -> bool:
        """Every trigger has exactly one verdict here."""
        return self.triggers == len(self.verdicts) == len({v.trigger_seq for v in self.verdicts})

    def scores(self, defective: bool) -> list[float]:
        """Scores of the judged parts of one class."""
        pairs = zip(self.verdicts, self.defective, strict=True)
        return [v.score for v, bad in pairs if bad is defective and v.score is not None]

    def summary(self) -> dict[str, float | int | None]:
        """The figures of the demo. A part that could not be judged counts as rejected, as the gate would do."""
        judged = Counter(v.judgement for v in self.verdicts)
        pairs = list(zip(self.verdicts, self.defective, strict=True))
        latency_ms = np.array([v.latency_us for v in self.verdicts]) / 1000
        normal, anomalous = self.scores(defective=False), self.scores(defective=True)
        right = sum(v.accept is not bad for v, bad in pairs)
        return {
            "triggers": self.triggers,
            "verdicts": len(self.verdicts),
            "ok": judged[Judgement.OK],
            "not_ok": judged[Judgement.NOT_OK],
            "not_decidable": judged[Judgement.NOT_DECIDABLE],
            "auroc": round(auroc(normal, anomalous), 4) if normal and anomalous else None,
            "accuracy": round(right / len(pairs), 4),
            "false_rejects": sum(not v.accept and not bad for v, bad in pairs),
            "escapes": sum(v.accept and bad for v, bad in pairs),
            "latency_ms_p50": round(float(np.quantile(latency_ms, 0.5)), 2),
            "latency_ms_p99": round(float(np.quantile(latency_ms, 0.99)), 2),
        }

    def summary_json(self) -> bytes:
        """`summary.json`."""
        return msgspec.json.format(msgspec.json.encode(self.summary()), indent=2) + b"\n"


def collect(verdicts: Path, run_log: Path, labels: dict[str, bool]) -> Results:
    """Read the subscriber's file and the station's own count of triggers.

    Raises:
        LinegateError: no verdict arrived.
    """
    said = re.search(r"(\d+) triggers", run_log.read_text())
    decoder = msgspec.json.Decoder(VerdictMessage)
    received = tuple(decoder.decode(line) for line in verdicts.read_bytes().splitlines())
    if not received or said is None:
        raise LinegateError("no verdict arrived", f"Read {run_log}.")
    return Results(int(said[1]), received, tuple(labels[v.part_id] for v in received))


def print_table(console: Console, results: Results) -> None:
    """The figures, with their names for people."""
    figures = results.summary()
    good, bad = len(results.defective) - sum(results.defective), sum(results.defective)
    table = Table(title="Solar cells, judged from 8 normal shots", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("triggers", str(figures["triggers"]))
    table.add_row("verdicts received", str(figures["verdicts"]))
    table.add_row("OK / NOT_OK / NOT_DECIDABLE", f"{figures['ok']} / {figures['not_ok']} / {figures['not_decidable']}")
    quality = figures["auroc"]
    table.add_row("AUROC", "-" if quality is None else f"{quality:.3f}")
    table.add_row("accuracy at the automatic threshold", f"{figures['accuracy']:.3f}")
    table.add_row("false rejects", f"{figures['false_rejects']} of {good} normal parts")
    table.add_row("escapes", f"{figures['escapes']} of {bad} defective parts")
    table.add_row("trigger to verdict, p50 / p99", f"{figures['latency_ms_p50']} / {figures['latency_ms_p99']} ms")
    console.print(table)
