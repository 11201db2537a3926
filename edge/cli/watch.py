"""`linegate watch`: show a station's verdicts live, and keep them as JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.bus.messages import HeartbeatMessage, JournalState, Mode, State, VerdictMessage
from edge.bus.subscriber import Message, Reception, Subscriber
from edge.cli.keyring import add_key_arguments, client_keys
from edge.cli.wording import printable
from edge.errors import OutputError, UsageError
from edge.types import Judgement

POLL_MS = 200
ROWS = 20
LONGEST_S = 86_400
STYLES = {Judgement.OK: "green", Judgement.NOT_OK: "bold red", Judgement.NOT_DECIDABLE: "bold yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("endpoint", metavar="ENDPOINT", help="where the station publishes, e.g. tcp://127.0.0.1:5556")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write each verdict as a JSON line (- for standard output)"
    )
    parser.add_argument("--until-halted", action="store_true", help="end when the station ends")
    parser.add_argument("--timeout", metavar="S", type=float, default=0.0, help="give up after S seconds of silence")
    add_key_arguments(parser)


class Screen:
    """What the person sees: the last verdicts, the counts, and whether anything is missing."""

    def __init__(self) -> None:
        self.rows: deque[VerdictMessage] = deque(maxlen=ROWS)
        self.judged: Counter[Judgement] = Counter()
        self.state = "no heartbeat yet"
        self.reception = Reception()

    def note(self, message: Message) -> None:
        """Take account of one message."""
        if isinstance(message, VerdictMessage):
            if message.is_replay:
                self.reception.note(message)
                return
            self.rows.append(message)
            self.judged[message.judgement] += 1
            self.reception.note(message)
        elif isinstance(message, HeartbeatMessage):
            self.state = f"{message.state.value}, {message.in_flight} in flight, {message.missed} deadlines missed"
            if message.mode is Mode.OBSERVE:
                self.state += ", observes only"
            if message.journal is JournalState.BEHIND:
                self.state += f", the journal is behind ({message.journal_lost} lost)"
            if message.plaintext_remote:
                self.state += ", OPEN TO THE NETWORK WITHOUT ENCRYPTION"
            self.reception.note(message)

    def __rich__(self) -> Group:
        table = Table(expand=True)
        for name, justify in (("seq", "right"), ("part", "left"), ("judgement", "left"), ("reason", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for name in ("score", "threshold", "regions", "latency ms"):
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*(printable(cell) for cell in cells(row)), style=STYLES[row.judgement])
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        """The counts on one line."""
        counts = ", ".join(f"{self.judged[j]} {j.value}" for j in Judgement)
        return f"{self.reception.received} verdicts: {counts}; {self.reception.missing} missing; station: {self.state}"


def cells(verdict: VerdictMessage) -> tuple[str, ...]:
    """One table row."""
    score = "-" if verdict.score is None else f"{verdict.score:.4f}"
    threshold = "-" if verdict.threshold is None else f"{verdict.threshold:.4f}"
    reason = "" if verdict.reason is None else verdict.reason.value
    latency = f"{verdict.latency_us / 1000:.1f}"
    return (
        str(verdict.seq),
        verdict.part_id,
        verdict.judgement.value,
        reason,
        score,
        threshold,
        str(verdict.region_count),
        latency,
    )


def run(arguments: argparse.Namespace) -> int:
    """Watch until told to stop; 1 if a verdict is missing or the station fell silent."""
    if not 0 <= arguments.timeout <= LONGEST_S:
        raise UsageError(f"--timeout {arguments.timeout:g} is no time to wait", f"Use seconds, {LONGEST_S} at most.")
    subscriber = Subscriber(arguments.endpoint, keys=client_keys(arguments))
    screen = Screen()
    try:
        with contextlib.ExitStack() as stack:
            out = _open(arguments.json, stack)
            silent = _follow(subscriber, screen, out, arguments, stack)
    except KeyboardInterrupt:
        silent = False
    finally:
        subscriber.close()
    print(f"linegate: {screen.summary()}", file=sys.stderr)
    if silent:
        print(f"linegate: nothing came for {arguments.timeout:g} s. Is the station running?", file=sys.stderr)
    return 1 if silent or screen.reception.missing or screen.reception.earlier_missing else 0


def _open(path: Path | None, stack: contextlib.ExitStack) -> IO[bytes] | None:
    if path is None:
        return None
    if str(path) == "-":
        return sys.stdout.buffer
    try:
        return stack.enter_context(path.open("wb", buffering=0))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error


def _keep(message: VerdictMessage, out: IO[bytes]) -> None:
    try:
        rest = memoryview(msgspec.json.encode(message) + b"\n")
        while rest:
            rest = rest[out.write(rest) :]
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"a verdict cannot be written ({error.strerror})", "Free some space, or write elsewhere."
        ) from error


def _follow(
    subscriber: Subscriber,
    screen: Screen,
    out: IO[bytes] | None,
    arguments: argparse.Namespace,
    stack: contextlib.ExitStack,
) -> bool:
    """Read messages until the end; True if it ended because nothing came any more."""
    console = Console()
    live = stack.enter_context(Live(screen, console=console, refresh_per_second=8)) if console.is_terminal else None
    heard = time.monotonic()
    while True:
        received = subscriber.receive(POLL_MS)
        if received is None:
            if arguments.timeout and time.monotonic() - heard > arguments.timeout:
                return True
            continue
        heard = time.monotonic()
        message = received[0]
        screen.note(message)
        if isinstance(message, VerdictMessage) and not message.is_replay:
            if out is not None:
                _keep(message, out)
            if live is None and out is not sys.stdout.buffer:
                console.print(printable("  ".join(cells(message))), highlight=False, soft_wrap=True)
        ended = isinstance(message, HeartbeatMessage) and message.state in (State.HALTED, State.ERROR)
        if ended and arguments.until_halted:
            return False
