"""MQTT telemetry: what a station does, for dashboards and the books. It has no reject path: no gate may hang on it."""

from __future__ import annotations

from edge.gateways.mqtt.service import serve

__all__ = ["serve"]
