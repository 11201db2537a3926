"""All topics of the bus. Read this table to learn what the runtime tells the world.

A message is a ZeroMQ multipart: the topic's name, one JSON object, and for masks the picture as a third part.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.bus.messages import HeartbeatMessage, MaskMessage, StateMessage, VerdictMessage


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table."""

    name: bytes
    message: type[msgspec.Struct]
    parts: int
    rate: str
    owner: str
    purpose: str


VERDICT = Topic(b"verdict", VerdictMessage, 2, "one a trigger", "edge.pipeline", "the judgement that moves the gate")
MASK = Topic(b"mask", MaskMessage, 3, "one a NOT_OK, after its verdict", "edge.pipeline", "where the defect is (PNG)")
HEARTBEAT = Topic(
    b"heartbeat", HeartbeatMessage, 2, "bus.heartbeat_ms", "edge.pipeline", "counters, head sequence, state"
)
STATE = Topic(b"state", StateMessage, 2, "at every change", "edge.pipeline", "state, mode and the active recipe")

TOPICS = (VERDICT, MASK, HEARTBEAT, STATE)
