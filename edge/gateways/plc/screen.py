"""What the commissioning engineer sees: a checklist, the last results, and whether anything is wrong."""

from __future__ import annotations

from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.gateways.codes import JudgementCode, ReasonCode, RecipeStatus
from edge.gateways.plc.blocks import name_of
from edge.gateways.plc.findings import Findings, Taken, percentile

ROWS = 12
WELL, NOT, NOTE = "ok", "NOT", "--"
"""How a line of the checklist begins. A note is no fault, but leaves something to be shown."""
CHECK_STYLES = {WELL: "green", NOT: "bold red", NOTE: "yellow"}
STYLES: dict[int, str] = {
    JudgementCode.OK: "green",
    JudgementCode.NOT_OK: "bold red",
    JudgementCode.NOT_DECIDABLE: "bold yellow",
}


class Screen:
    """A live table on a terminal; a line for each result and each change otherwise; nothing if it is quiet."""

    def __init__(self, where: str, findings: Findings, *, quiet: bool = False) -> None:
        self._where, self._findings, self._quiet = where, findings, quiet
        self._rows: deque[Taken] = deque(maxlen=ROWS)
        self._console = Console(highlight=False)
        self._live = Live(self, console=self._console, refresh_per_second=8) if self._is_live else None
        self._told: tuple[object, ...] = ()

    @property
    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, taken: Taken) -> None:
        """A result was taken over."""
        self._rows.append(taken)
        if self._live is None and not self._quiet:
            self._print("  ".join(cell for cell in cells(taken) if cell))

    def look(self) -> None:
        """Tell of what has changed, where there is no live table."""
        found = self._findings
        now = (found.online, online(found), found.overruns, found.restarts, found.recipe_number, found.gaps, found.torn)
        if self._live is None and not self._quiet and now != self._told:
            self._told = now
            self._print(f"- {online(found)}; recipe {found.recipe_number}; {losses(found)}")

    def end(self) -> None:
        """The checklist, for the record."""
        if self._live is None and not self._quiet:
            for mark, what, detail in checklist(self._where, self._findings):
                self._print(f"{mark:3}  {what:18} {detail}")

    def __rich__(self) -> Group:
        checks = Table(expand=True, show_header=False)
        for mark, what, detail in checklist(self._where, self._findings):
            checks.add_row(mark, what, printable(detail), style=CHECK_STYLES[mark])
        results = Table(expand=True)
        for name in ("number", "gate", "judgement", "reason", "part", "trigger", "score", "round trip"):
            results.add_column(name)
        for row in self._rows:
            style = STYLES.get(row.judgement, "")
            results.add_row(*(printable(cell) for cell in cells(row)), style=style if row.accept else style or "red")
        return Group(results, checks)

    def _print(self, text: str) -> None:
        self._console.print(printable(text), soft_wrap=True)


def printable(value: str) -> Text:
    """Text from outside: nothing in it may command the terminal or be read as markup."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value))


def cells(taken: Taken) -> tuple[str, ...]:
    """One row."""
    return (
        str(taken.number),
        "PASS" if taken.accept else "reject",
        name_of(JudgementCode, taken.judgement),
        why_not(taken),
        taken.part_id,
        f"trigger {taken.trigger_number}" if taken.trigger_number else "",
        "" if taken.score is None else f"{taken.score:.4f}",
        "" if taken.round_trip_s is None else f"{taken.round_trip_s * 1000:.1f} ms",
    )


def why_not(taken: Taken) -> str:
    """Why the part does not pass; nothing if it does."""
    if taken.accept:
        return ""
    return "heartbeat not seen yet" if taken.is_own_reject else name_of(ReasonCode, taken.reason)


def online(found: Findings) -> str:
    """The online bit in words."""
    return f"{'online' if found.online else 'NOT ONLINE'} ({found.online_in_words})"


def losses(found: Findings) -> str:
    """What must be zero."""
    return f"{found.missing} missing, {found.torn} torn, {found.overruns} overruns, {found.restarts} restarts"


def checklist(where: str, found: Findings) -> list[tuple[str, str, str]]:
    """What must be seen before a line may run: whether it is well (WELL, NOT, NOTE), what it is, and what was seen."""
    recipe_well = not found.recipe_wanted or found.recipe_status == RecipeStatus.ACTIVE
    wanted = f", wanted {found.recipe_wanted}: {found.recipe_in_words}" if found.recipe_wanted else ""
    triggers_well = not found.triggers_refused + found.triggers_unanswered
    checksum = f"{found.settings_checksum:08x}: write it down" if found.settings_checksum else "NOT known yet"
    checks = [
        (found.reads > 0 and not found.broken, "connected", found.broken or f"{where}, {found.reads} reads"),
        (found.online, "online", online(found)),
        (found.beats > 0 and not found.silences, "heartbeat", f"moved {found.beats} times, stood {found.silences}"),
        (found.settings_checksum != 0, "settings checksum", checksum),
        (found.recipe_number != 0 and recipe_well, "recipe", f"{found.recipe_number}{wanted}"),
        (found.results >= max(found.wanted_results, 1), "results", f"{found.results}, {found.accepted} accepted"),
        (True, "rejects", found.rejects_in_words),
        (not found.gaps, "no gap", f"{found.missing} missing in {found.gaps} gaps"),
        (not found.torn, "no torn read", f"{found.torn} of {found.reads}"),
        (not found.overruns and (found.resets or not found.overrun_before), "no overrun", overruns(found)),
        (not found.restarts, "no restart", str(found.restarts)),
        (triggers_well, "triggers", f"{found.triggers}, {found.triggers_refused} not taken"),
        (True, "one exchange", spread(found.exchanges_s)),
        (True, "trigger to result", spread(found.round_trips_s)),
    ]
    shown = [(WELL if is_well else NOT, what, detail) for is_well, what, detail in checks]
    if found.defective:
        shown.append((WELL, "a reject was seen", f"{found.defective} defective parts"))
    return shown + [(NOTE, what, note) for what, note in found.notes()]


def overruns(found: Findings) -> str:
    """The overruns of this run, and what was there before."""
    if found.overrun_before and not found.resets:
        return f"{found.overruns}; one was latched before this run: add --reset"
    before = f"; before the reset {found.leftover} results were held, all rejected" if found.leftover else ""
    return f"{found.overruns}{', still latched' if found.overrun_latched else ''}{before}"


def spread(times_s: deque[float]) -> str:
    """Median and 99th percentile."""
    p50, p99 = percentile(times_s, 0.5), percentile(times_s, 0.99)
    if p50 is None or p99 is None:
        return "none measured"
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
