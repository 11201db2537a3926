"""A subscriber that we did not write: Node.js with npm's `zeromq` receives every verdict, mask, heartbeat and state."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from deploy.demo import elpv
from edge.bus.messages import encode
from edge.bus.publisher import Publisher
from edge.bus.topics import HEARTBEAT, STATE, TOPICS, VERDICT
from edge.engines.base import Engine
from edge.judge import judge_picture
from edge.pictures import read_picture
from edge.recipe import RECIPE_FILE, Recipe, load_recipe
from edge.sealed import seal
from edge.types import Judgement, Match
from tests.conftest import PATIENCE_S, StartLinegate, WriteStation, free_port, lenient
from tests.edge.feed import state_message, unguarded
from tests.edge.messages import halted, heartbeat
from tests.edge.messages import verdict as numbered
from tests.packages import REPOSITORY

PEER = Path(__file__).resolve().parent / "node"
INSTALL = f"npm install --prefix {PEER.relative_to(REPOSITORY)}"
NORMAL, DEFECTIVE = 7, 6
SILENCE_S = 60
LARGEST_SAFE = 2**53 - 1


@dataclass(frozen=True)
class Heard:
    """One message as the peer understood it; `raw` is the JSON text that came."""

    topic: str
    parts: int
    raw: str
    body: dict[str, Any]
    unsafe: list[str]


@dataclass(frozen=True)
class Reception:
    """All that the peer heard, and what it should have heard."""

    heard: list[Heard]
    masks: Path
    expected: dict[str, Match]
    recipe: Recipe
    said: str

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The bodies on one topic, in order."""
        return [h.body for h in self.heard if h.topic == topic]


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the peer's package installed."""
    program = shutil.which("node")
    if program is None:
        pytest.skip(f"Node.js is not installed: apt-get install nodejs npm && {INSTALL}")
    if not (PEER / "node_modules" / "zeromq" / "package.json").is_file():
        pytest.skip(f"the peer's ZeroMQ binding is not installed: {INSTALL}")
    return program


@pytest.fixture
def line(elpv_pictures: elpv.Elpv, tmp_path: Path) -> Path:
    """Thirteen real parts in a mixed order."""
    folder = tmp_path / "line"
    folder.mkdir()
    parts = [*elpv_pictures.test_normal[:NORMAL], *elpv_pictures.test_anomalous[:DEFECTIVE]]
    for place, index in enumerate(np.random.default_rng(3).permutation(len(parts))):
        shutil.copyfile(parts[index], folder / f"{place:02d}-{parts[index].name}")
    return folder


@pytest.fixture
def expected(line: Path, engine: Engine, recipe: Recipe) -> dict[str, Match]:
    """What each part scores offline."""
    found: dict[str, Match] = {}
    for path in sorted(line.iterdir()):
        verdict, match = judge_picture(read_picture(path), engine, lenient(recipe))
        assert match is not None, f"{path.name}: {verdict.detail}"
        found[path.name] = match
    return found


@pytest.fixture
def dividing_recipe(recipe_folder: Path, recipe: Recipe, expected: dict[str, Match], tmp_path: Path) -> Recipe:
    """The recipe with a threshold that rejects some of the parts and passes others, whatever is made of them."""
    folder = Path(shutil.copytree(recipe_folder, tmp_path / "recipe"))
    scores = sorted(m.score for m in expected.values())
    threshold = msgspec.structs.replace(
        recipe.info.threshold,
        value=(scores[len(scores) // 2] + scores[len(scores) // 2 - 1]) / 2,
        pixel_value=float(np.quantile(np.stack([m.anomaly_map for m in expected.values()]), 0.98)),
        unlikeness_most=2.0 * max(m.unlikeness for m in expected.values()),
    )
    info = msgspec.structs.replace(lenient(recipe).info, threshold=threshold)
    (folder / RECIPE_FILE).write_bytes(seal(info))
    return Recipe(folder, info, recipe.bank, recipe.view, "")


@pytest.fixture(params=["tcp", "ipc"])
def reception(
    request: pytest.FixtureRequest,
    node: str,
    line: Path,
    endpoint: str,
    expected: dict[str, Match],
    dividing_recipe: Recipe,
    engine: Engine,
    station_file: WriteStation,
    start_linegate: StartLinegate,
    tmp_path: Path,
) -> Reception:
    """A station runs once past the parts while the peer listens."""
    where = endpoint if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    masks = tmp_path / "masks"
    masks.mkdir()
    station = station_file(line, recipe={"path": str(dividing_recipe.folder)}, bus={"endpoint": where})
    with start_peer(node, where, masks) as peer:
        try:
            runner = start_linegate("run", station)
            out, err = peer.communicate(timeout=PATIENCE_S)
            _, said = runner.communicate(timeout=PATIENCE_S)
        finally:
            peer.kill()
    assert runner.returncode == 0, said
    assert peer.returncode == 0, err
    heard = understood(out)
    recipe = load_recipe(dividing_recipe.folder, engine.package.info)
    return Reception(heard, masks, expected, recipe, said)


def start_peer(node: str, endpoint: str, masks: Path) -> subprocess.Popen[str]:
    """The peer, listening until the station has ended."""
    return subprocess.Popen(
        [node, str(PEER / "subscriber.mjs"), endpoint, str(masks), str(SILENCE_S)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def understood(out: str) -> list[Heard]:
    """What the peer says it heard."""
    return [Heard(**json.loads(text)) for text in out.splitlines()]


def test_the_peer_receives_every_verdict_exactly_once_and_reads_it_right(reception: Reception) -> None:
    check_order_and_counts(reception)
    check_fields(reception)
    check_verdicts(reception)
    check_masks(reception)
    check_states(reception)


def check_order_and_counts(reception: Reception) -> None:
    """Every part has one verdict, in order; the heartbeats add up to them."""
    verdicts, heartbeats = reception.of("verdict"), reception.of("heartbeat")
    count = len(reception.expected)
    assert [v["seq"] for v in verdicts] == list(range(1, count + 1))
    assert [v["trigger_seq"] for v in verdicts] == list(range(1, count + 1))
    assert [v["part_id"] for v in verdicts] == sorted(reception.expected)
    assert len({(v["station_id"], v["epoch"]) for v in [*verdicts, *heartbeats]}) == 1
    last = heartbeats[-1]
    assert last["state"] == "Halted"
    assert (last["head_seq"], last["triggers_seen"], last["in_flight"]) == (count, count, 0)
    judged = Counter(v["judgement"] for v in verdicts)
    assert (last["ok"], last["not_ok"], last["not_decidable"]) == (judged["OK"], judged["NOT_OK"], 0)
    for beat in heartbeats:
        assert beat["triggers_seen"] == beat["ok"] + beat["not_ok"] + beat["not_decidable"] + beat["in_flight"]
    assert f"{count} triggers" in reception.said


def check_fields(reception: Reception) -> None:
    """JavaScript reads what was sent: all fields, whole numbers exact, nothing beside JSON."""
    kinds = {topic.name.decode(): topic.message for topic in TOPICS}
    parts = {topic.name.decode(): topic.parts for topic in TOPICS}
    for heard in reception.heard:
        assert heard.parts == parts[heard.topic]
        assert heard.unsafe == []
        assert heard.body == json.loads(heard.raw), "the peer's numbers are ours"
        kind = kinds[heard.topic]
        assert set(heard.body) == set(kind.__struct_fields__)
        msgspec.convert(heard.body, kind)
        for name, value in heard.body.items():
            if isinstance(value, int):
                assert abs(value) <= LARGEST_SAFE, name


def check_verdicts(reception: Reception) -> None:
    """Each part is judged as it is offline, and only OK opens the gate."""
    threshold = reception.recipe.info.threshold.value
    for verdict in reception.of("verdict"):
        score = reception.expected[verdict["part_id"]].score
        assert verdict["score"] == pytest.approx(score, abs=1e-5)
        assert verdict["threshold"] == threshold
        good = score <= threshold
        assert verdict["judgement"] == (Judgement.OK if good else Judgement.NOT_OK)
        assert verdict["accept"] is good
        assert verdict["reason"] == (None if good else "defect")
        assert verdict["region_count"] == len(verdict["regions"])
        assert verdict["latency_us"] > 0
        assert verdict["package_hash"] == reception.recipe.info.package_hash
        assert verdict["recipe_hash"] == reception.recipe.recipe_hash
        assert verdict["is_simulated"] is True
        assert verdict["is_test"] is verdict["is_replay"] is False


def check_masks(reception: Reception) -> None:
    """Every rejected part has one mask, whose picture is what the verdict names by its hash."""
    rejected = {v["seq"]: v for v in reception.of("verdict") if v["judgement"] == "NOT_OK"}
    announced = reception.of("mask")
    assert len(rejected) >= 2, "a run without masks would show nothing"
    assert [m["seq"] for m in announced] == list(rejected)
    assert {path.name for path in reception.masks.iterdir()} == {f"{seq}.png" for seq in rejected}
    for announcement in announced:
        verdict = rejected[announcement["seq"]]
        assert (announcement["trigger_seq"], announcement["part_id"]) == (verdict["trigger_seq"], verdict["part_id"])
        named = {key: announcement[key] for key in ("sha256", "width", "height")}
        assert named == verdict["mask"]
        png = cv2.imread(str(reception.masks / f"{announcement['seq']}.png"), cv2.IMREAD_UNCHANGED)
        assert png is not None
        assert png.dtype == np.uint8
        assert png.shape == (named["height"], named["width"]) == (300, 300)
        assert set(np.unique(png)) == {0, 255}
        bits = np.packbits(np.asarray(png) == 255)
        assert hashlib.sha256(bits.tobytes()).hexdigest() == named["sha256"]
        for region in verdict["regions"]:
            x, y, width, height = (region[key] for key in ("x", "y", "width", "height"))
            assert png[y : y + height, x : x + width].any(), "a region shows part of the mask"


def check_states(reception: Reception) -> None:
    """What the station does is told at every change, with the recipe and where to ask for more."""
    states = reception.of("state")
    assert [s["state"] for s in states] == ["Preoperational", "ContinuousExecution", "Halted"]
    (feed,) = {(s["station_id"], s["epoch"]) for s in states}
    assert {(v["station_id"], v["epoch"]) for v in reception.of("verdict")} == {feed}
    for state in states:
        assert (state["mode"], state["detail"], state["first_trigger_seq"]) == ("judge", "", 1)
        assert state["recipe_hash"] == reception.recipe.recipe_hash
        assert state["package_hash"] == reception.recipe.info.package_hash
        assert (state["product"], state["recipe_revision"]) == (
            reception.recipe.info.product,
            reception.recipe.info.revision,
        )
        for name in ("replay_endpoint", "control_endpoint"):
            assert state[name] in reception.said


def test_a_peer_that_joins_late_learns_the_last_of_each_topic_and_that_the_verdict_opens_no_gate(
    node: str, endpoint: str, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    last = numbered(2)
    assert last.accept and not last.is_replay
    with zmq.Context() as context:
        publisher = Publisher(context, endpoint, unguarded)
        for topic, message in (
            (STATE, state_message()),
            (VERDICT, numbered(1)),
            (VERDICT, last),
            (HEARTBEAT, heartbeat(2)),
        ):
            publisher.send(topic, encode(message))
        with start_peer(node, endpoint, masks) as peer:
            try:
                assert publisher.wait_for_subscriber(SILENCE_S), "the peer did not subscribe"
                publisher.send(VERDICT, encode(numbered(3)))
                publisher.send(HEARTBEAT, encode(halted(3)))
                out, err = peer.communicate(timeout=PATIENCE_S)
            finally:
                peer.kill()
                publisher.close()
    assert peer.returncode == 0, err
    heard = understood(out)
    verdicts = [h.body for h in heard if h.topic == "verdict"]
    assert [(v["seq"], v["is_replay"], v["accept"]) for v in verdicts] == [(2, True, False), (3, False, True)]
    assert [h.body["state"] for h in heard if h.topic == "state"] == [state_message().state.value]
    assert [h.body["head_seq"] for h in heard if h.topic == "heartbeat"] == [2, 3]


def test_the_order_of_arrival_is_verdict_then_mask(reception: Reception) -> None:
    judged: set[int] = set()
    for heard in reception.heard:
        if heard.topic == "verdict":
            judged.add(heard.body["seq"])
        elif heard.topic == "mask":
            assert heard.body["seq"] in judged
        elif heard.topic == "heartbeat":
            assert heard.body["head_seq"] == len(judged), "a heartbeat's head is the last verdict before it"
