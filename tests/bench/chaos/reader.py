"""A subscriber in a process of its own: writes every verdict that it gets as a JSON line.

usage: python -m tests.bench.chaos.reader FEED OUT [--position FILE] [--key FILE --server-key FILE]

Goes on after the last line of OUT, or where FILE says. Ends when OUT.stop exists and nothing more comes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import msgspec

from edge.bus.client import Item, Lost, Position, VerdictSubscriber
from edge.bus.keys import load_client_keys

QUIET_S = 1.0


def line_of(item: Item) -> dict[str, object]:
    """What the audit needs of an item."""
    if isinstance(item, Lost):
        return {"lost": True, "epoch": item.epoch, "first": item.first_seq, "last": item.last_seq, "why": item.why}
    return {
        "epoch": item.epoch,
        "seq": item.seq,
        "trigger": item.trigger_seq,
        "part": item.part_id,
        "accept": item.accept,
        "judgement": item.judgement,
        "reason": item.reason,
        "product": item.product,
        "frame": item.frame_id,
        "replay": item.is_replay,
        "wall_us": item.trigger_wall_us,
    }


def last_position(out: Path) -> Position | None:
    """Where the file ends; what a kill left of a line is cut off."""
    if not out.exists():
        return None
    data = out.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        os.truncate(out, len(whole))
    lines = [line for line in map(json.loads, whole.splitlines()) if "seq" in line]
    return Position(lines[-1]["epoch"], lines[-1]["seq"]) if lines else None


def main() -> int:
    """Read until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("feed")
    parser.add_argument("out", type=Path)
    parser.add_argument("--position", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--server-key", type=Path)
    arguments = parser.parse_args()
    keys = None if arguments.key is None else load_client_keys(arguments.key, arguments.server_key)
    stop = arguments.out.with_suffix(".stop")
    after = last_position(arguments.out)
    with (
        arguments.out.open("ab", buffering=0) as out,
        VerdictSubscriber(arguments.feed, start=after or "oldest", position_file=arguments.position, keys=keys) as feed,
    ):
        while True:
            item = feed.receive(QUIET_S)
            if item is not None:
                out.write(msgspec.json.encode(line_of(item)) + b"\n")
            elif stop.exists():
                return 0


if __name__ == "__main__":
    sys.exit(main())
