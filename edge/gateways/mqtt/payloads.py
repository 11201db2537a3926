"""What is published, and where. Read `TOPICS` to learn what a subscriber gets."""

from __future__ import annotations

from enum import Enum

import msgspec

from edge.bus.collector import Item, Lost
from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.errors import GatewayError
from edge.gateways.settings import GatewaySettings

WILDCARDS = frozenset("+#/\0")


class Presence(str, Enum):
    """What `gateway` says. State and counts are those of now only while it is ONLINE."""

    ONLINE = "online"
    SILENT = "silent"
    OFFLINE = "offline"


TOPICS = {
    "<topic>/<station_id>/verdict": "one verdict; QoS 1, not retained",
    "<topic>/<station_id>/state": "state, mode and active recipe, at every change; QoS 1, retained",
    "<topic>/<station_id>/counts": "the last heartbeat, at most once a second; QoS 1, retained",
    "<topic>/<name>/lost": "verdicts that are gone for good; QoS 1, not retained",
    "<topic>/<name>/gateway": "`online`, `silent` (nothing is heard from the station) or `offline`; QoS 1, retained, last will",
}


def check_topic(topic: str) -> None:
    """Whether topics may begin so.

    Raises:
        GatewayError: a part of it is empty, holds a wildcard, or belongs to the broker.
    """
    if topic.startswith("$") or any(not part or WILDCARDS & set(part) for part in topic.split("/")):
        raise GatewayError(
            f"mqtt.topic {topic!r} is no beginning of a topic", "Use words with a slash between, such as `plant/line3`."
        )


def topic_of(base: str, station_id: str, kind: str) -> str:
    """Where something of a station is published.

    Raises:
        GatewayError: the station's id cannot be a part of a topic.
    """
    if not station_id or WILDCARDS & set(station_id):
        raise GatewayError(
            f"the station calls itself {station_id!r}, which cannot be a part of a topic",
            "Correct station_id in the station file.",
        )
    return f"{base}/{station_id}/{kind}"


def verdict_payload(message: VerdictMessage) -> bytes:
    """A verdict without `accept`: nobody may open a gate with what came through a broker."""
    fields = msgspec.structs.asdict(message)
    del fields["accept"]
    return msgspec.json.encode(fields)


def own_topic(settings: GatewaySettings, kind: str) -> str:
    """Where the gateway speaks of itself: a loss, for one, does not say whose it is."""
    return f"{settings.mqtt.topic}/{settings.name}/{kind}"


def item_message(settings: GatewaySettings, item: Item) -> tuple[str, bytes]:
    """Topic and payload of a verdict or a loss.

    Raises:
        GatewayError: see `topic_of`.
    """
    if isinstance(item, Lost):
        return own_topic(settings, "lost"), msgspec.json.encode(item)
    return topic_of(settings.mqtt.topic, item.station_id, "verdict"), verdict_payload(item)


def status_payload(message: StateMessage | HeartbeatMessage) -> bytes:
    """A state, or the counts of a heartbeat."""
    return msgspec.json.encode(message)
