"""Runs one gateway until it is told to end: the link to the station, the protocol's server, signals, systemd, the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from typing import Protocol

from edge.gateways.codes import FaultCode, OnlineReason
from edge.gateways.image import Image
from edge.gateways.link import FATAL, Link
from edge.gateways.settings import GatewaySettings
from edge.logs import log_event
from edge.notify import Notifier

PROGRESS_S = 0.5
_LOG = logging.getLogger("linegate.gateway")


class Server(Protocol):
    """One protocol's side of a gateway."""

    async def start(self) -> str:
        """Listen; returns where.

        Raises:
            GatewayError: it cannot.
        """
        ...

    async def close(self) -> None:
        """Let every connection go."""
        ...


MakeServer = Callable[[Link, GatewaySettings], Server]


def serve(settings: GatewaySettings, make_server: MakeServer, protocol: str) -> int:
    """Run a gateway until SIGINT or SIGTERM; 1 if a part of it broke.

    Raises:
        GatewayError: the server cannot be started.
        BusError: the station's endpoint is none.
        SecurityError: a key is missing or malformed.
    """
    return asyncio.run(_serve(settings, make_server, protocol))


async def _serve(settings: GatewaySettings, make_server: MakeServer, protocol: str) -> int:
    ending = Ending(asyncio.get_running_loop())
    async with Link(settings) as link:
        server = make_server(link, settings)
        where = await server.start()
        notifier = Notifier.from_environment()
        try:
            _say(f"gateway {settings.name} serves {protocol} at {where}, for the station at {settings.bus.endpoint}")
            notifier.ready(f"{protocol} at {where}")
            link.on_change(Diary(link, notifier).look)
            while not await ending.within(PROGRESS_S):
                # From the loop that answers the PLC: if it stands still, so does systemd's watchdog.
                notifier.progress()
            notifier.stopping()
        finally:
            await server.close()
            notifier.close()
    if ending.fault:
        _say(f"{ending.fault}. The gateway has ended, so that the PLC sees it go; start it again.")
        return 1
    counts = link.image().counts
    _say(
        f"ended: {counts.results} results, {counts.overruns} overruns, {counts.lost} lost, {counts.withdrawn} withdrawn"
    )
    return 0


class Ending:
    """Knows when it is time to end: a signal, or a task that broke."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.fault = ""
        self._asked = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked.set)
        loop.set_exception_handler(self._broken)

    def _broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error, fatal = context.get("exception"), bool(context.get(FATAL))
        log_event(
            _LOG,
            "gateway_broke" if fatal else "unhandled",
            level="error",
            error=error if isinstance(error, BaseException) else None,
            what=context.get("message"),
        )
        if not fatal:
            # What one client broke in a library's task of its own is no reason to leave the others.
            return
        self.fault = self.fault or f"a part of the gateway broke ({error or context.get('message')})"
        self._asked.set()

    async def within(self, seconds: float) -> bool:
        """Whether it is time, waiting so long for it."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)
        return self._asked.is_set()


class Diary:
    """Logs what the PLC's people will ask about afterwards: every change of online, and every fault that comes."""

    def __init__(self, link: Link, notifier: Notifier) -> None:
        self._link, self._notifier = link, notifier
        self._reason, self._faults, self._warned = OnlineReason.NOT_STARTED, 0, False

    def look(self) -> None:
        """Compare with the last look."""
        image = self._link.image()
        self._warn_of_silence()
        if image.online_reason is not self._reason:
            self._reason = image.online_reason
            self._note_reason(image)
        for fault in FaultCode:
            bit = 1 << (fault - 1) if fault else 0
            if image.faults & bit and not self._faults & bit:
                log_event(_LOG, "fault", level="warning", fault=fault.name, means=fault.meaning)
        self._faults = image.faults

    def _warn_of_silence(self) -> None:
        """The gateway would go offline between two heartbeats, or after one that is late."""
        apart_ms, silence_ms = self._link.heartbeat_ms, self._link.settings.bus.silence_ms
        if not self._warned and 2 * apart_ms > silence_ms:
            self._warned = True
            what = f"bus.silence_ms is {silence_ms:g}, and the station's heartbeats are {apart_ms:.0f} ms apart"
            log_event(_LOG, "silence_too_short", level="warning", what=what, remedy="Set it to twice that, at least.")

    def _note_reason(self, image: Image) -> None:
        log_event(
            _LOG,
            "online" if image.online else "offline",
            level="info" if image.online else "warning",
            reason=image.online_reason.name,
            means=image.online_reason.meaning,
            epoch=image.epoch,
            recipe=image.recipe_number,
        )
        self._notifier.status(f"{image.online_reason.name.lower()}: {image.online_reason.meaning}")


def _say(text: str) -> None:
    print(f"linegate: {text}", file=sys.stderr, flush=True)  # noqa: T201
