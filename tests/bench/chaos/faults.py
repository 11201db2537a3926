"""What is done to the station and its subscribers. Each fault is something that happens on a shop floor."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.bench.chaos.line import Line

Steps = Iterator[float]
"""Does one thing at each step and says how many seconds to wait for the next."""
LOW, HIGH = 0.4, 1.5
FULL_S = 3.0
CLOCK_STEP_S = 3600.0
BURST = 30


class Process:
    """A program that can be killed and started again with the same words."""

    def __init__(self, words: list[str], log: Path) -> None:
        self._words, self._log = words, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again), unless it runs: of two, the one that comes second would only be told that the other is there."""
        if self.running:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def said(self, length: int) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-length:]

    @property
    def pid(self) -> int:
        """Of the last one started."""
        return 0 if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        return 0 if self._process is None else self._process.wait(timeout_s)


class Faults:
    """Draws faults and carries them out step by step, without ever waiting itself."""

    def __init__(
        self, station: Process, subscriber: Process, line: Line, switches: Path, disk: Path, seed: int, pause_s: float
    ) -> None:
        self._station, self._subscriber, self._line = station, subscriber, line
        self._switches, self._disk, self._pause_s = switches, disk, pause_s
        self._random = np.random.default_rng(seed)
        self._steps: Steps | None = None
        self._next_s = time.monotonic() + pause_s
        self._order: list[str] = []
        self._clock_s = 0.0
        self.done: Counter[str] = Counter()
        self.log: list[tuple[float, str]] = []
        self._kinds: dict[str, Callable[[], Steps]] = {
            "kill -9": self._kill,
            "SIGSTOP and SIGCONT": self._suspend,
            "full disk": self._fill_disk,
            "frozen camera": lambda: self._switch("freeze-camera"),
            "lost camera": lambda: self._switch("lose-camera"),
            "hanging engine": lambda: self._switch("hang-engine"),
            "over-trigger": self._burst,
            "duplicate trigger": self._bounce,
            "slow subscriber": self._slow_subscriber,
            "restarted subscriber": self._restart_subscriber,
            "swapped banks": self._change,
            "stepped clock": self._step_clock,
        }

    def step(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if now < self._next_s:
            return
        if self._steps is None:
            self._steps = self._draw()
        wait_s = next(self._steps, None)
        if wait_s is None:
            self._steps = None
        self._next_s = time.monotonic() + (self._pause_s if wait_s is None else wait_s)

    def finish(self) -> bool:
        """Bring the fault that goes on to its end and begin no other; True when there is none."""
        if self._steps is not None:
            self.step()
        return self._steps is None

    def _draw(self) -> Steps:
        if not self._order:
            self._order = [str(kind) for kind in self._random.permutation(sorted(self._kinds))]
        kind = self._order.pop()
        self.done[kind] += 1
        self.log.append((time.time(), kind))
        return self._kinds[kind]()

    def _some_s(self) -> float:
        return float(self._random.uniform(LOW, HIGH))

    def _kill(self) -> Steps:
        self._station.kill()
        yield 0.05
        self._station.start()

    def _suspend(self) -> Steps:
        self._station.send(signal.SIGSTOP)
        yield self._some_s()
        self._station.send(signal.SIGCONT)

    def _switch(self, name: str) -> Steps:
        switch = self._switches / name
        switch.touch()
        yield self._some_s()
        switch.unlink(missing_ok=True)

    def _fill_disk(self) -> Steps:
        filler = self._disk / "filler"
        if os.path.ismount(self._disk):
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
        else:
            resource.prlimit(self._station.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        yield FULL_S
        filler.unlink(missing_ok=True)
        if self._station.running:
            limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(self._station.pid, resource.RLIMIT_FSIZE, limits)

    def _burst(self) -> Steps:
        if not self._line.changing:
            for _ in range(BURST):
                self._line.pass_part()
        yield 0.0

    def _bounce(self) -> Steps:
        if not self._line.changing:
            number = self._line.pass_part()
            self._line.repeat(number)
            yield 0.01
            self._line.repeat(number)
        yield 0.0

    def _slow_subscriber(self) -> Steps:
        self._subscriber.send(signal.SIGSTOP)
        yield 2 * self._some_s()
        self._subscriber.send(signal.SIGCONT)

    def _restart_subscriber(self) -> Steps:
        self._subscriber.kill()
        yield self._some_s()
        self._subscriber.start()

    def _change(self) -> Steps:
        self._line.change()
        while self._line.changing:
            yield 0.02

    def _step_clock(self) -> Steps:
        self._clock_s += float(self._random.choice([-CLOCK_STEP_S, CLOCK_STEP_S]))
        (self._switches / "clock").write_text(str(self._clock_s))
        yield 0.0
