"""A day in small: a million verdicts through the gateway's state and its registers, with no clock and no network."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import Progress

from edge.bus.messages import HeartbeatMessage, VerdictMessage
from edge.gateways.codes import OnlineReason
from edge.gateways.handshake import Handshake
from edge.gateways.modbus.layout import Order, decode_status, encode_status
from edge.gateways.settings import GatewaySettings
from tests.edge.feed import heartbeat, state_message, verdict

WRAP_16, WRAP_32 = 1 << 16, 1 << 32
LARGEST_NUMBER = 65_535
BEAT_EVERY = 5
LOOK_EVERY = 16
STEP_NS = 20_000_000
SAMPLES = 20
ALLOWED_GROWTH = 0.05
EPOCH = 7


def million(verdicts: int, progress: Progress) -> dict[str, Any]:
    """Counters start half the run before 2**32, so that they wrap in the middle; the result number wraps every 65,535."""
    handshake = Handshake(GatewaySettings(), "bench", 1)
    order = Order()
    base = WRAP_32 - verdicts // 2
    found = {"verdicts": verdicts, "wrong_numbers": 0, "wrong_words": 0, "not_accepted": 0, "number_wraps": 0}
    memory: list[int] = []
    task = progress.add_task(f"{verdicts} verdicts simulated", total=verdicts)
    _begin(handshake, base)
    number, beats = 1, itertools.count(2)
    for count, message in enumerate(_verdicts(base, verdicts), 1):
        now_ns = count * STEP_NS + 10 * STEP_NS
        if count % BEAT_EVERY == 0:
            handshake.heartbeat(_beat(message.seq - 1, now_ns), now_ns)
            handshake.plc_heartbeat(next(beats) % WRAP_16, now_ns)
        handshake.verdict(message, now_ns)
        number = number % LARGEST_NUMBER + 1
        found["number_wraps"] += number == 1
        image = handshake.image(now_ns)
        result = image.result
        found["wrong_numbers"] += result is None or result.number != number or result.seq != message.seq
        found["not_accepted"] += not image.accept
        if count % LOOK_EVERY == 0 or abs(message.seq - WRAP_32) < 20:
            words = decode_status(encode_status(image, order), order)
            right = (number, number, message.seq % WRAP_32, (message.seq - count % BEAT_EVERY - 1) % WRAP_32)
            shown = tuple(words[n] for n in ("result_number", "result_number_end", "station_seq", "triggers_seen"))
            found["wrong_words"] += shown[:3] != right[:3] or not _near(shown[3], right[3])
        handshake.acknowledge(number, now_ns)
        if count % (verdicts // SAMPLES) == 0:
            memory.append(_resident_kb())
            progress.update(task, completed=count)
    return found | _memory(memory) | {"lost": image.counts.lost, "wrong_acks": image.counts.wrong_acks}


def _near(shown: object, right: int) -> bool:
    """Whether a count that only heartbeats bring is at most one heartbeat old, wrapped or not."""
    return isinstance(shown, int) and (right - shown) % WRAP_32 <= BEAT_EVERY


def _begin(handshake: Handshake, base: int) -> None:
    """Online: a state, two regular heartbeats, a PLC whose heartbeat changes."""
    handshake.state(state_message(EPOCH), 0)
    for step in (1, 2, 3):
        now_ns = step * BEAT_EVERY * STEP_NS // 2
        handshake.heartbeat(_beat(base, now_ns), now_ns)
        handshake.plc_heartbeat(step, now_ns)
    reason = handshake.image(now_ns).online_reason
    if reason is not OnlineReason.ONLINE:
        raise SystemExit(f"gateways: the simulated gateway is not online ({reason.name})")


def _verdicts(base: int, count: int) -> Iterator[VerdictMessage]:
    pattern = verdict(1, EPOCH)
    for seq in range(base + 1, base + count + 1):
        given_us = (seq - base + 10) * STEP_NS // 1000
        yield msgspec.structs.replace(
            pattern, seq=seq, trigger_seq=seq, is_simulated=False, trigger_wall_us=given_us - pattern.publish_after_us
        )


def _beat(head_seq: int, now_ns: int) -> HeartbeatMessage:
    return msgspec.structs.replace(heartbeat(head_seq, EPOCH), wall_us=now_ns // 1000 + 1)


def _resident_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def _memory(samples: list[int]) -> dict[str, Any]:
    middle, end = samples[len(samples) // 2], samples[-1]
    return {
        "memory_mb": [round(sample / 1024, 1) for sample in samples],
        "memory_flat": end <= middle * (1 + ALLOWED_GROWTH),
        "measured": time.strftime("%Y-%m-%d"),
    }
