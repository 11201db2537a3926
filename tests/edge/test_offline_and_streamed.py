"""The same picture gets the same judgement from `linegate judge` and from a running station."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.demo.elpv import Elpv
from edge.bus.messages import HeartbeatMessage, MaskMessage, State, VerdictMessage
from edge.bus.subscriber import Subscriber
from tests.conftest import Process, RunLinegate, StartLinegate, WriteStation

SCORE_TOLERANCE = 1e-5
SILENCE_MS = 60_000


def decoded(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


@dataclass
class Received:
    """What came over the bus, by the name of the picture."""

    verdicts: dict[str, VerdictMessage] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    last: HeartbeatMessage | None = None


def receive_all(subscriber: Subscriber, station: Process) -> Received:
    found = Received()
    while found.last is None or found.last.state not in (State.HALTED, State.ERROR):
        received = subscriber.receive(SILENCE_MS)
        if received is None:
            station.kill()
            pytest.fail(f"the station fell silent: {station.communicate()[1]}")
        message, png = received
        if isinstance(message, VerdictMessage):
            assert message.part_id not in found.verdicts
            found.verdicts[message.part_id] = message
        elif isinstance(message, HeartbeatMessage):
            found.last = message
        elif isinstance(message, MaskMessage):
            found.masks[message.part_id] = png
    return found


@pytest.fixture
def line_folder(elpv_pictures: Elpv, tmp_path: Path) -> Path:
    """Four normal and seven defective cells, and one file that is no picture."""
    folder = tmp_path / "line"
    folder.mkdir()
    for path in (*elpv_pictures.test_normal[:4], *elpv_pictures.test_anomalous[:7]):
        shutil.copyfile(path, folder / path.name)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def judge_offline(linegate: RunLinegate, words: list[str | Path], folder: Path) -> dict[str, dict[str, Any]]:
    done = linegate("judge", *words, "--json", folder / "out.jsonl", "--masks", folder / "masks")
    assert done.returncode == 1, done.stderr
    lines = [msgspec.json.decode(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]
    return {Path(line["image"]).name: line for line in lines}


def test_offline_and_streamed_agree(
    line_folder: Path,
    recipe_folder: Path,
    package_folder: Path,
    tmp_path: Path,
    station_file: WriteStation,
    endpoint: str,
    linegate: RunLinegate,
    start_linegate: StartLinegate,
) -> None:
    offline = judge_offline(linegate, [recipe_folder, line_folder, "--model", package_folder], tmp_path)
    subscriber = Subscriber(endpoint, masks=True)
    station = start_linegate("run", station_file(line_folder))
    streamed = receive_all(subscriber, station)
    subscriber.close()
    assert station.wait(60) == 0
    assert offline.keys() == streamed.verdicts.keys()
    assert len(offline) == 12
    for name, verdict in streamed.verdicts.items():
        line = offline[name]
        assert (line["judgement"], line["accept"]) == (verdict.judgement.value, verdict.accept)
        assert line["reason"] == (verdict.reason and verdict.reason.value) and line["threshold"] == verdict.threshold
        assert msgspec.json.decode(msgspec.json.encode(verdict.regions)) == approximately(line["regions"])
        if verdict.score is not None:
            assert abs(line["score"] - verdict.score) <= SCORE_TOLERANCE
        if line["mask"] is not None:
            assert np.array_equal(decoded(Path(line["mask"]).read_bytes()), decoded(streamed.masks[name]))
    rejected = [name for name, line in offline.items() if line["judgement"] == "NOT_OK"]
    assert len(rejected) >= 2, "too few masks were compared"
    assert {name for name, line in offline.items() if line["mask"]} == set(rejected) == set(streamed.masks)
    assert streamed.last is not None and streamed.last.triggers_seen == 12


def approximately(regions: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Regions with peaks that may differ as scores may."""
    return [{**region, "peak": pytest.approx(region["peak"], abs=SCORE_TOLERANCE)} for region in regions]
