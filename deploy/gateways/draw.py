"""Draw the timing diagrams of docs/gateways as SVG: signals as waveforms, arrows from cause to effect.

python -m deploy.gateways.draw
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DOCS = Path(__file__).parents[2] / "docs/gateways"
INK, GRID, PLC, GATEWAY, CAUSE = "#1b1f24", "#d7dce1", "#0b5cad", "#1b1f24", "#b3361b"
HIGH, ROW = 0.55, 1.0
FONT: Any = {"font.family": "DejaVu Sans", "font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "linegate"}


@dataclass(frozen=True)
class Wave:
    """One signal: a level (0 or 1), or a text, from each time on. The PLC's own are drawn in blue."""

    name: str
    changes: tuple[tuple[float, int | str], ...]
    is_plc: bool = False


@dataclass(frozen=True)
class Arrow:
    """From the change of one signal to the change of another that follows from it, with why, if it needs words."""

    start: tuple[float, str]
    end: tuple[float, str]


@dataclass(frozen=True)
class Note:
    """Words at a moment, under the waves."""

    time: float
    text: str


@dataclass(frozen=True)
class Diagram:
    """One picture. Times have no unit: what matters is what comes after what."""

    file: str
    title: str
    length: float
    waves: tuple[Wave, ...]
    arrows: tuple[Arrow, ...]
    notes: tuple[Note, ...]


DIAGRAMS = (
    Diagram(
        "result.svg",
        "Result and acknowledgement",
        12,
        (
            Wave("result_valid", ((0, 0), (1, 1), (9.6, 0))),
            Wave("result_number", ((0, "0"), (1, "41"), (5, "42"), (9.6, "0"))),
            Wave("accept", ((0, 0), (1, 1), (5, 0))),
            Wave("ack_number", ((0, "40"), (4, "41"), (8.6, "42")), is_plc=True),
            Wave("gate", ((0, 0), (4, 1), (8.6, 0)), is_plc=True),
            Wave("queue_depth", ((0, "0"), (1, "1"), (2.6, "2"), (5, "1"), (9.6, "0"))),
        ),
        (
            Arrow((1, "accept"), (4, "ack_number")),
            Arrow((4, "ack_number"), (5, "result_number")),
            Arrow((8.6, "ack_number"), (9.6, "result_number")),
        ),
        (
            Note(1, "result 41:\naccept"),
            Note(2.6, "42 comes\nand is held"),
            Note(5, "42 is shown:\nno accept"),
            Note(8.6, "taken over:\nreject"),
        ),
    ),
    Diagram(
        "trigger.svg",
        "Software trigger",
        12,
        (
            Wave("ready", ((0, 1), (2.4, 0), (6.4, 1))),
            Wave("trigger_part_id", ((0, "bolt-6"), (1.4, "bolt-7")), is_plc=True),
            Wave("trigger_number", ((0, "6"), (1.4, "7")), is_plc=True),
            Wave("busy", ((0, 0), (2.4, 1), (6.4, 0))),
            Wave("trigger_status", ((0, "TAKEN"), (2.4, "PENDING"), (4, "TAKEN"))),
            Wave("trigger_ack", ((0, "6"), (4, "7"))),
            Wave("result_valid", ((0, 0), (6.4, 1), (8.4, 0))),
            Wave("trigger_number_echo", ((0, "0"), (6.4, "7"), (8.4, "0"))),
            Wave("ack_number", ((0, "41"), (7.6, "42")), is_plc=True),
        ),
        (
            Arrow((1.4, "trigger_number"), (2.4, "busy")),
            Arrow((4, "trigger_ack"), (6.4, "result_valid")),
            Arrow((6.4, "trigger_number_echo"), (7.6, "ack_number")),
            Arrow((7.6, "ack_number"), (8.4, "result_valid")),
        ),
        (
            Note(1.4, "one write:\nid and number"),
            Note(4, "the station\ntook it"),
            Note(6.4, "the part's\nresult"),
        ),
    ),
    Diagram(
        "overrun.svg",
        "Overrun and reset (queue = 3)",
        14,
        (
            Wave("verdicts", ((0, ""), (1, "41"), (2, "42"), (3, "43"), (4, "44"), (5, ""), (12, "45"))),
            Wave("result_number", ((0, "0"), (1, "41"), (8, "42"), (9, "43"), (10, "0"), (12, "45"))),
            Wave("queue_depth", ((0, "0"), (1, "1"), (2, "2"), (3, "3"), (8, "2"), (9, "1"), (10, "0"), (12, "1"))),
            Wave("accept", ((0, 0), (1, 1), (4, 0), (12, 1))),
            Wave("overrun", ((0, 0), (4, 1), (11, 0))),
            Wave("online", ((0, 1), (4, 0), (11, 1))),
            Wave("ack_number", ((0, "40"), (7.5, "41"), (8.5, "42"), (9.5, "43"), (13, "45")), is_plc=True),
            Wave("reset (bit 0)", ((0, 0), (10.5, 1), (11.5, 0)), is_plc=True),
        ),
        (
            Arrow((4, "queue_depth"), (4, "overrun")),
            Arrow((10.5, "reset (bit 0)"), (11, "overrun")),
        ),
        (
            Note(4, "44 finds no room:\nall are rejected"),
            Note(7.5, "PLC wakes up,\ntakes 41 to 43"),
            Note(10.5, "reset"),
            Note(12, "45 after 43:\na gap"),
        ),
    ),
    Diagram(
        "station-dies.svg",
        "The station dies",
        14,
        (
            Wave("station", ((0, "runs"), (3, "dead"), (9, "runs"))),
            Wave("heartbeat", ((0, "7"), (1, "8"), (2, "9"), (9.6, "10"), (11.2, "11"), (12.8, "12"))),
            Wave("online", ((0, 1), (6, 0), (11.2, 1))),
            Wave("online_reason", ((0, "ONLINE"), (6, "BUS_SILENT"), (9.6, "WAITING"), (11.2, "ONLINE"))),
            Wave("result_valid", ((0, 0), (2.4, 1))),
            Wave("accept", ((0, 0), (2.4, 1), (6, 0))),
            Wave("gate may open", ((0, 1), (6.6, 0), (11.8, 1)), is_plc=True),
        ),
        (
            Arrow((3, "station"), (6, "online")),
            Arrow((6, "online"), (6.6, "gate may open")),
            Arrow((9, "station"), (9.6, "heartbeat")),
        ),
        (
            Note(3, "kill -9"),
            Note(6, "bus.silence_ms after\nthe last message"),
            Note(11.2, "two regular\nheartbeats"),
        ),
    ),
    Diagram(
        "changeover.svg",
        "Changeover",
        12,
        (
            Wave("recipe_wanted", ((0, "1"), (1.5, "2")), is_plc=True),
            Wave("recipe_status", ((0, "ACTIVE"), (2.5, "CHANGING"), (8, "ACTIVE"))),
            Wave("recipe_number", ((0, "1"), (7.5, "2"))),
            Wave("online", ((0, 1), (2.5, 0), (8, 1))),
            Wave("online_reason", ((0, "ONLINE"), (2.5, "CHANGEOVER"), (8, "ONLINE"))),
            Wave("ready", ((0, 1), (2.5, 0), (8, 1))),
            Wave("busy", ((0, 0), (2.5, 1), (8, 0))),
            Wave("result_recipe", ((0, "0"), (4, "1"), (5, "0"), (9.5, "2"), (10.7, "0"))),
            Wave("accept", ((0, 0), (9.5, 1), (10.7, 0))),
        ),
        (
            Arrow((1.5, "recipe_wanted"), (2.5, "recipe_status")),
            Arrow((2.5, "recipe_status"), (2.5, "online")),
            Arrow((7.5, "recipe_number"), (8, "online")),
        ),
        (
            Note(4, "a part of the last\nrecipe: reject"),
            Note(8, "the station judges\nwith recipe 2"),
        ),
    ),
)


def draw(diagram: Diagram, folder: Path = DOCS) -> Path:
    """Draw one diagram; returns the file."""
    rows = {wave.name: place for place, wave in enumerate(reversed(diagram.waves))}
    with mpl.rc_context(FONT):
        figure, axes = plt.subplots(figsize=(9.6, 0.46 * len(rows) + 1.35))
        for wave in diagram.waves:
            _draw_wave(axes, wave, rows[wave.name], diagram.length)
        for arrow in diagram.arrows:
            _draw_arrow(axes, arrow, rows)
        for note in diagram.notes:
            axes.plot([note.time] * 2, [-0.35, len(rows) - 0.25], color=GRID, linewidth=1, zorder=0)
            axes.text(note.time, -0.45, note.text, ha="center", va="top", fontsize=9, color=CAUSE)
        axes.set_xlim(-0.1, diagram.length + 0.1)
        axes.set_ylim(-1.5, len(rows))
        axes.set_title(diagram.title, loc="left", color=INK, fontsize=12, fontweight="bold")
        axes.set_axis_off()
        # White, whatever the page's colour is: black waves must not lie on black.
        figure.patch.set_facecolor("white")
        figure.subplots_adjust(left=0.19, right=0.985, top=1 - 0.36 / figure.get_figheight(), bottom=0.01)
        path = folder / diagram.file
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
    return path


def _draw_wave(axes: Axes, wave: Wave, row: int, length: float) -> None:
    color = PLC if wave.is_plc else GATEWAY
    base = row * ROW
    axes.text(-0.3, base + HIGH / 2, wave.name, ha="right", va="center", color=color)
    ends = [*(time for time, _ in wave.changes[1:]), length]
    before: int | None = None
    for (start, value), end in zip(wave.changes, ends, strict=True):
        if isinstance(value, str):
            axes.plot(
                [start, end, end, start, start],
                [base, base, base + HIGH, base + HIGH, base],
                color=color,
                linewidth=1.2,
            )
            axes.text(
                (start + end) / 2, base + HIGH / 2 - 0.01, value, ha="center", va="center", color=color, fontsize=9
            )
            continue
        level = base + HIGH * value
        if before is not None:
            axes.plot([start, start], [base + HIGH * before, level], color=color, linewidth=1.6)
        axes.plot([start, end], [level, level], color=color, linewidth=1.6)
        before = value


def _draw_arrow(axes: Axes, arrow: Arrow, rows: dict[str, int]) -> None:
    (start, cause), (end, effect) = arrow.start, arrow.end
    points = (start, rows[cause] + HIGH / 2), (end, rows[effect] + HIGH / 2)
    bend = 0.0 if start == end else 0.12
    axes.annotate(
        "",
        xy=points[1],
        xytext=points[0],
        arrowprops={
            "arrowstyle": "-|>",
            "color": CAUSE,
            "linewidth": 1.2,
            "shrinkA": 1,
            "shrinkB": 1,
            "connectionstyle": f"arc3,rad={bend}",
        },
        zorder=5,
    )


def main() -> None:
    """Draw them all."""
    for diagram in DIAGRAMS:
        draw(diagram)


if __name__ == "__main__":
    main()
