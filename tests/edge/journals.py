"""Verdicts for a journal, and disks that are small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge.bus.messages import VerdictMessage
from edge.journal.store import Row, Store, row_of
from edge.types import Judgement, Reason
from tests.conftest import PATIENCE_S, environment

NOON_US = 1_774_958_400_000_000
_MESSAGE = VerdictMessage(
    station_id="press-3",
    camera_id="cam0",
    epoch=1,
    seq=1,
    trigger_seq=1,
    trigger_id="",
    part_id="part-1",
    encoder_count=None,
    frame_id=7,
    judgement=Judgement.OK,
    accept=True,
    reason=None,
    detail="",
    score=0.25,
    threshold=1.0,
    region_count=0,
    regions=(),
    mask=None,
    product="bracket",
    recipe_revision=3,
    recipe_hash="a" * 64,
    package_hash="b" * 64,
    bank_hash="c" * 64,
    config_hash="d" * 64,
    software_version="0.1.0",
    engine="onnx",
    trigger_wall_us=NOON_US,
    capture_after_us=2_000,
    done_after_us=9_000,
    publish_after_us=9_500,
    clock_synchronised=None,
    latency_us=9_500,
    deadline_us=500_000,
    deadline_met=True,
    is_simulated=True,
)


def message(seq: int, epoch: int = 1, **changes: object) -> VerdictMessage:
    """The verdict with this number, triggered `seq` seconds after noon, with some fields of its own."""
    own = {"trigger_wall_us": NOON_US + seq * 1_000_000, "part_id": f"part-{seq}", "trigger_seq": seq, **changes}
    return msgspec.structs.replace(_MESSAGE, epoch=epoch, seq=seq, **own)


def rejected(seq: int, epoch: int = 1, **changes: object) -> VerdictMessage:
    """The same, NOT_OK."""
    return message(seq, epoch, judgement=Judgement.NOT_OK, accept=False, reason=Reason.DEFECT, score=3.0, **changes)


def data_of(verdict: VerdictMessage) -> bytes:
    """As it is published."""
    return msgspec.json.encode(verdict)


def row(verdict: VerdictMessage) -> Row:
    """As it is stored."""
    return row_of(verdict, data_of(verdict))


def journal_of(folder: Path, *verdicts: VerdictMessage) -> Path:
    """A journal that holds these, and that no station holds."""
    store = Store.open(folder, 10_000)
    for epoch in sorted({verdict.epoch for verdict in verdicts}):
        store.begin_epoch(epoch, NOON_US)
    store.append([row(verdict) for verdict in verdicts])
    store.close()
    return folder


def python(script: str, *words: str | Path) -> subprocess.Popen[str]:
    """A Python of its own with these sources; the caller ends it."""
    command = [sys.executable, "-c", script, *(str(word) for word in words)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )


def on_a_small_disk(script: str, megabytes: int, folder: Path) -> str:
    """What a script prints that is told of a folder on a disk of its own, of this size."""
    if shutil.which("unshare") is None or not hasattr(os, "geteuid"):
        pytest.skip("unshare is missing: apt-get install util-linux")
    mount = f'mount -t tmpfs -o size={megabytes}m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder), sys.executable, script]
    done = subprocess.run(
        command, env=environment(), capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("this user may not mount a disk of its own: sysctl -w kernel.unprivileged_userns_clone=1")
    assert done.returncode == 0, done.stderr
    return done.stdout
