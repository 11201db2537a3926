"""Runs MQTT telemetry until it is told to end."""

from __future__ import annotations

import asyncio
import sys

from edge.gateways.mqtt.telemetry import MqttTelemetry
from edge.gateways.service import PROGRESS_S, Ending
from edge.gateways.settings import GatewaySettings
from edge.notify import Notifier


def serve(settings: GatewaySettings) -> int:
    """Run until SIGINT or SIGTERM; 1 if a part of it broke.

    Raises:
        GatewayError, BusError, SecurityError: see `MqttTelemetry.start` and `MqttTelemetry.run`.
    """
    return asyncio.run(_serve(settings))


async def _serve(settings: GatewaySettings) -> int:
    ending = Ending(asyncio.get_running_loop())
    telemetry = MqttTelemetry(settings)
    where = await telemetry.start()
    notifier = Notifier.from_environment()
    running = asyncio.ensure_future(telemetry.run())
    try:
        _say(f"gateway {settings.name} delivers to {where}, for the station at {settings.bus.endpoint}")
        notifier.ready(f"MQTT to {where}")
        while not running.done() and not await ending.within(PROGRESS_S):
            notifier.progress()
        notifier.stopping()
    finally:
        running.cancel()
        results = await asyncio.gather(running, return_exceptions=True)
        await telemetry.close()
        notifier.close()
    broken = results[0]
    if isinstance(broken, Exception):
        raise broken
    if ending.fault:
        _say(f"{ending.fault}. The gateway has ended; start it again: it goes on where it stopped.")
        return 1
    _say(f"ended: {telemetry.delivered} verdicts delivered")
    return 0


def _say(text: str) -> None:
    print(f"linegate: {text}", file=sys.stderr, flush=True)  # noqa: T201
