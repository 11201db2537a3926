"""Station, gateway and PLC as processes, with what the PLC says as events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.chaos.places import free_ports
from tests.bench.gateways.proxy import Cable

START_S = 60.0
SILENCE_MS, PLC_MS, HEARTBEAT_MS, ANSWER_MS = 500.0, 500.0, 100.0, 500.0
"""What a fault's run is configured with: the times within which the PLC side must know."""
UNHURRIED_MS = 30_000.0


@dataclass(frozen=True)
class Event:
    """Something that the PLC has seen: `state`, `result` or `done`, with its values as text."""

    name: str
    told: dict[str, str]

    @property
    def us(self) -> int:
        """Microseconds of the wall clock when it was first seen."""
        return int(self.told["us"])


class Protocol_(Protocol):  # noqa: N801 - `Protocol` is taken
    """One protocol: the section of the gateway's file, and its independent PLC."""

    name: str
    peer: str

    def section(self, port: int, folder: Path) -> str:
        """Of the gateway's file."""
        ...

    def words(self, port: int, folder: Path, options: dict[str, float | bool]) -> list[str]:
        """The PLC's command line."""
        ...

    def event(self, line: str) -> Event | None:
        """A line that the PLC has printed."""
        ...


class Program:
    """A process whose lines are read as they come."""

    def __init__(self, words: list[str], log: Path, *, listen: bool = True) -> None:
        self.lines: list[str] = []
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE if listen else errors, stderr=errors, text=True
            )
        self._log = log
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stdout is not None:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))

    def say(self, line: str) -> None:
        """Write to its standard input."""
        if self.process.stdin is not None:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def send(self, number: signal.Signals) -> int:
        """Send a signal; returns the microsecond."""
        now_us = time.time_ns() // 1000
        os.kill(self.process.pid, number)
        return now_us

    def until(self, true: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        """Wait for something that it says."""
        end_s = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end_s:
                raise SystemExit(f"gateways: never came: {what}; {self._log}: {self.said()}")
            time.sleep(0.02)

    def said(self) -> str:
        """The end of its log, and its last lines."""
        return self._log.read_text(errors="replace")[-1500:] + " ".join(self.lines[-3:])

    def close(self) -> None:
        """kill -9, also of one that is stopped."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Rig:
    """One station, one gateway, one PLC, in a folder of their own. `cable` may stand between two of them."""

    def __init__(self, protocol: Protocol_, folder: Path, plc: dict[str, float], *, cable: str = "") -> None:
        """Start station and gateway.

        Args:
            protocol: which gateway, and which PLC.
            folder: for files and logs; must be new.
            plc: keys of `[plc]`.
            cable: the gateway's connection to the "station" or the "plc" goes through a `Cable`.
        """
        folder.mkdir(parents=True)
        self.protocol, self.folder = protocol, folder
        first = free_ports(8)
        station = first + 4 if cable == "station" else first
        gateway = first + 7 if cable == "plc" else first + 3
        self._gateway_port = first + 3
        self.cable = Cable(
            {first + n: station + n for n in range(3) if station != first}
            | ({first + 3: gateway} if gateway != first + 3 else {})
        )
        self.programs: list[Program] = []
        feed = f"tcp://127.0.0.1:{station}"
        words = [sys.executable, "-m", "tests.bench.gateways.station", feed, str(HEARTBEAT_MS)]
        self.station = self._start(words, "station.log")
        self.station.until(lambda: "ready" in self.station.lines, "a station")
        file = folder / "gateway.toml"
        section = protocol.section(gateway, folder)
        plc_section = "\n".join(f"{key} = {value}" for key, value in plc.items())
        file.write_text(
            f'name = "bench"\n[bus]\nendpoint = "tcp://127.0.0.1:{first}"\nsilence_ms = {SILENCE_MS}\n'
            f"[plc]\n{plc_section}\n{section}"
        )
        words = [sys.executable, "-m", "linegate", "gateway", protocol.name, str(file), "--log", "json"]
        self.gateway = self._start(words, "gateway.log", listen=False)
        self.gateway.until(lambda: "serves" in self.gateway_log(), "a gateway")
        self.plc: Program

    def _start(self, words: list[str], log: str, *, listen: bool = True) -> Program:
        program = Program(words, self.folder / log, listen=listen)
        self.programs.append(program)
        return program

    def play(self, **options: float | bool) -> Program:
        """Start a PLC, and wait until it is told that the gateway is online."""
        words = self.protocol.words(self._gateway_port, self.folder, options)
        program = self.plc = self._start(words, f"plc{len(self.programs)}.log")
        program.until(lambda: any(e.told["online"] == "1" for e in self.events(program, "state")), "online")
        return program

    def events(self, program: Program, name: str, newest: int = 0) -> list[Event]:
        """What a PLC has told of this kind, in its `newest` lines or in all."""
        found = (self.protocol.event(line) for line in program.lines[-newest:])
        return [event for event in found if event is not None and event.name == name]

    def gateway_log(self) -> str:
        """All that it has logged."""
        return (self.folder / "gateway.log").read_text(errors="replace")

    def logged(self, event: str) -> list[dict[str, str]]:
        """What the gateway has logged of this kind."""
        found = []
        for line in self.gateway_log().splitlines():
            if line.startswith("{"):
                record = json.loads(line)
                if record["event"] == event:
                    found.append(record)
        return found

    def judge(self, count: int, rate_hz: float) -> None:
        """Have the station publish, and do not wait."""
        self.station.say(f"{count} {rate_hz}")

    def close(self) -> None:
        """End all."""
        for program in reversed(self.programs):
            program.close()
        self.cable.close()
