"""A station in a process of its own that publishes verdicts when it is told to, through the publisher of the real one.

usage: python -m tests.bench.gateways.station ENDPOINT HEARTBEAT_MS, and on standard input lines of `COUNT RATE_HZ`

No camera and no encoder stand behind it: the bench measures from the publication on, and what is before that has bars of its
own. Each part id is `p<seq>-<microsecond of its publication>`, so that what arrives at the PLC says when it left.
"""

from __future__ import annotations

import sys
import time

from edge.types import Judgement, Region
from tests.gateways.station import running_station

LATE_S = 0.03
REJECTED = 10
"""Every so many-th part is NOT_OK."""
REGION = Region(3, 4, 50, 60, 700, 2.5)


def main() -> int:
    """Publish until standard input ends."""
    endpoint, heartbeat_ms = sys.argv[1], float(sys.argv[2])
    seq = 0
    with running_station(endpoint, heartbeat_ms) as station:
        print("ready", flush=True)
        for line in sys.stdin:
            count, rate_hz = line.split()
            due_s = time.monotonic()
            for _ in range(int(count)):
                time.sleep(max(0.0, due_s - time.monotonic()))
                # A line that stood still goes on; it does not make up for it.
                due_s = max(due_s, time.monotonic() - LATE_S) + 1 / float(rate_hz)
                seq += 1
                rejected = seq % REJECTED == 0
                station.judge(
                    Judgement.NOT_OK if rejected else Judgement.OK,
                    part_id=f"p{seq}-{time.time_ns() // 1000}",
                    regions=(REGION,) if rejected else (),
                )
            print(f"judged {seq}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
