"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.demo.elpv import Elpv
from edge import SOFTWARE_VERSION
from edge.bus.messages import HeartbeatMessage, State, VerdictMessage
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Subscriber
from edge.bus.topics import HEARTBEAT, VERDICT
from edge.engines.package import PACKAGE_FILE, Package, identity
from edge.sealed import seal
from tests.conftest import (
    Process,
    RunLinegate,
    StartLinegate,
    WriteStation,
    command,
    environment,
    free_port,
    one_line,
)
from tests.edge.bits import flipped_bit
from tests.edge.messages import halted, heartbeat, verdict
from tests.edge.png import RGB, png
from tests.edge.videos import write_video

KEYS = ("image", "judgement", "accept", "reason", "score", "threshold", "regions", "mask", "latency_ms")
COMMANDS = ("export", "calibrate", "run", "watch", "judge", "doctor")
Words = list[str | Path]


@pytest.fixture
def judge_words(recipe_folder: Path, package_folder: Path) -> Words:
    """`judge` with everything but the pictures; the recipe is named by its product."""
    return ["judge", recipe_folder.parent, "--model", package_folder]


@pytest.fixture
def shot(shots_folder: Path) -> Path:
    """One real normal part."""
    return sorted(shots_folder.iterdir())[0]


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_without_a_command_help_tells_them_all(linegate: RunLinegate) -> None:
    done = linegate()
    assert done.returncode == 2 and done.stderr == ""
    assert all(name in done.stdout for name in COMMANDS)


def test_version_and_help_end_well(linegate: RunLinegate) -> None:
    assert linegate("--version").stdout == f"linegate {SOFTWARE_VERSION}\n"
    assert linegate("--help").returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(linegate: RunLinegate, name: str) -> None:
    if name == "export" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install -e '.[export]'")
    done = linegate(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"linegate {name}" in done.stdout


USAGE_ERRORS: tuple[tuple[str, ...], ...] = (
    ("nope",),
    ("--nope",),
    ("judge",),
    ("judge", "--nope"),
    ("judge", "r", "p", "--model", "m", "--nope"),
    ("judge", "r", "p", "--mod", "m"),
    ("judge", "r", "p", "--model", "m", "--threads", "many"),
    ("run",),
    ("run", "a", "b"),
    ("watch",),
    ("watch", "tcp://127.0.0.1:1", "--timeout", "soon"),
    ("watch", "nonsense"),
    ("doctor", "--nope"),
    ("run", "missing.toml"),
    ("judge", "r", "missing.png", "--model", "m"),
    ("judge", "missing", "/", "--model", "m"),
)


@pytest.mark.parametrize("words", USAGE_ERRORS, ids=" ".join)
def test_a_usage_error_is_one_line_and_code_2(linegate: RunLinegate, words: tuple[str, ...]) -> None:
    done = linegate(*words)
    assert done.returncode == 2 and done.stdout == ""
    one_line(done)


def test_judge_prints_one_json_line_a_picture_and_ends_with_0(
    linegate: RunLinegate, judge_words: Words, shots_folder: Path
) -> None:
    done = linegate(*judge_words, shots_folder)
    assert done.returncode == 0 and done.stderr == ""
    lines = lines_of(done.stdout)
    assert [line["image"] for line in lines] == [str(path) for path in sorted(shots_folder.iterdir())]
    for line in lines:
        assert set(KEYS) <= set(line)
        assert line["judgement"] in ("OK", "NOT_OK") and line["accept"] is (line["judgement"] == "OK")
        assert math.isfinite(line["score"]) and math.isfinite(line["threshold"]) and line["latency_ms"] > 0
        assert line["mask"] is None


def test_judge_ends_with_1_when_a_picture_could_not_be_judged(
    linegate: RunLinegate, judge_words: Words, shot: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.png").write_text("no picture")
    (tmp_path / "blank.png").write_bytes(png(np.full((300, 300, 3), 90, np.uint8), RGB))
    done = linegate(*judge_words, tmp_path / "letter.png", shot, tmp_path / "blank.png")
    assert done.returncode == 1
    lines = lines_of(done.stdout)
    assert [line["reason"] for line in lines] == ["frame_incomplete", None, "unfit_image"]
    for line in (lines[0], lines[2]):
        assert (line["judgement"], line["accept"], line["score"]) == ("NOT_DECIDABLE", False, None)
        assert line["regions"] == [] and line["mask"] is None and line["detail"]


def test_judge_writes_lines_and_masks_where_it_is_told(
    linegate: RunLinegate, judge_words: Words, elpv_pictures: Elpv, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    bad = elpv_pictures.test_anomalous[:6]
    for path in bad:
        shutil.copyfile(path, twin / path.name)
    out, masks = tmp_path / "new" / "out.jsonl", tmp_path / "masks"
    done = linegate(*judge_words, *bad, twin, "--json", out, "--masks", masks)
    assert done.stdout == ""
    lines = lines_of(out.read_text())
    assert len(lines) == 12
    named = [line["mask"] for line in lines if line["judgement"] == "NOT_OK"]
    assert named and len(set(named)) == len(named), "two pictures of one name share a mask"
    assert {str(path) for path in masks.iterdir()} == set(named)
    assert all(line["regions"] for line in lines if line["judgement"] == "NOT_OK")


@pytest.mark.parametrize("option", ["--json", "--masks"])
def test_judge_refuses_an_unwritable_place_before_it_works(
    linegate: RunLinegate, judge_words: Words, shot: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("kept")
    done = linegate(*judge_words, shot, option, tmp_path / "file" / "below")
    assert done.returncode == 2 and done.stdout == ""
    assert "cannot be written" in one_line(done)
    assert tree(tmp_path) == {"file"} and (tmp_path / "file").read_text() == "kept"


def test_judge_refuses_a_folder_as_its_json_file_and_writes_no_mask(
    linegate: RunLinegate, judge_words: Words, elpv_pictures: Elpv, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    bad = elpv_pictures.test_anomalous[:6]
    done = linegate(*judge_words, *bad, "--json", tmp_path / "out", "--masks", tmp_path / "masks")
    assert done.returncode == 2
    assert "cannot be written" in one_line(done)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_judge_refuses_a_recipe_made_with_another_package(
    linegate: RunLinegate, recipe_folder: Path, package: Package, shot: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(package.folder, tmp_path / "other"))
    decoder = msgspec.structs.replace(package.info.decoder, parameters={"another": 1.0})
    info = msgspec.structs.replace(package.info, decoder=decoder)
    info = msgspec.structs.replace(info, package_hash=identity(info))
    (other / PACKAGE_FILE).write_bytes(seal(info))
    done = linegate("judge", recipe_folder, shot, "--model", other)
    assert done.returncode == 2
    line = one_line(done)
    assert package.info.package_hash[:12] in line and info.package_hash[:12] in line


@pytest.mark.parametrize("name", ["encoder.onnx", "bank.safetensors"])
def test_judge_and_run_refuse_one_flipped_bit(
    linegate: RunLinegate,
    recipe_folder: Path,
    package_folder: Path,
    shot: Path,
    tmp_path: Path,
    station_file: WriteStation,
    name: str,
) -> None:
    folders = {"package": package_folder, "recipe": recipe_folder}
    copies = {key: Path(shutil.copytree(folder, tmp_path / key)) for key, folder in folders.items()}
    damaged = next(path for folder in copies.values() for path in folder.iterdir() if path.name == name)
    station = station_file(
        shot.parent, model={"package": str(copies["package"])}, recipe={"path": str(copies["recipe"])}
    )
    with flipped_bit(damaged, 0.5, 3):
        for done in (linegate("judge", copies["recipe"], shot, "--model", copies["package"]), linegate("run", station)):
            assert done.returncode == 2 and done.stdout == ""
            assert name in one_line(done)


def test_run_and_watch_agree_on_every_verdict(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate, tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    watch = start_linegate("watch", endpoint, "--json", out, "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    run_out, run_err = run.communicate(timeout=120)
    watch_out, watch_err = watch.communicate(timeout=120)
    assert (run.returncode, watch.returncode, run_out) == (0, 0, ""), run_err + watch_err
    assert "is ready after" in run_err.splitlines()[0] and endpoint in run_err.splitlines()[0]
    assert "Halted: 8 triggers" in run_err.splitlines()[-1]
    verdicts = [msgspec.json.decode(line, type=VerdictMessage) for line in out.read_bytes().splitlines()]
    assert [verdict.part_id for verdict in verdicts] == sorted(path.name for path in shots_folder.iterdir())
    assert [verdict.seq for verdict in verdicts] == list(range(1, 9))
    assert len(watch_out.splitlines()) == 8
    assert "8 verdicts" in watch_err and "0 missing" in watch_err


def test_watch_writes_nothing_but_json_to_standard_output(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    watch = start_linegate("watch", endpoint, "--json", "-", "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    out, _ = watch.communicate(timeout=120)
    assert run.wait(60) == 0
    assert [line["seq"] for line in lines_of(out)] == list(range(1, 9))


def test_watch_gives_up_on_a_silent_endpoint_with_1(linegate: RunLinegate, endpoint: str) -> None:
    done = linegate("watch", endpoint, "--timeout", "0.2")
    assert done.returncode == 1
    assert "Is the station running?" in done.stderr.splitlines()[-1]


def test_watch_refuses_an_unwritable_file(linegate: RunLinegate, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = linegate("watch", endpoint, "--json", tmp_path / "file" / "below")
    assert done.returncode == 2 and "cannot be written" in one_line(done)


def test_watch_tells_a_full_disk_on_one_line(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    watch = start_linegate("watch", endpoint, "--json", "/dev/full", "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    _, err = watch.communicate(timeout=120)
    assert run.wait(60) == 0
    assert watch.returncode == 2 and "Traceback" not in err
    assert "cannot be written" in err.splitlines()[-1]


def watched(publisher: Publisher, watch: Process, *messages: VerdictMessage | HeartbeatMessage) -> str:
    """What `watch` says of these messages."""
    assert publisher.wait_for_subscriber(60)
    for message in messages:
        publisher.send(VERDICT if isinstance(message, VerdictMessage) else HEARTBEAT, message)
    return watch.communicate(timeout=60)[1]


def test_watch_ends_with_1_when_a_verdict_is_missing(endpoint: str, start_linegate: StartLinegate) -> None:
    publisher = Publisher(endpoint)
    watch = start_linegate("watch", endpoint, "--until-halted", "--timeout", "60")
    said = watched(publisher, watch, heartbeat(0), verdict(1), verdict(3), halted(3))
    publisher.close()
    assert watch.returncode == 1
    assert "2 verdicts" in said and "1 missing" in said and "Halted" in said


def test_watch_tells_a_message_that_is_none_on_one_line(endpoint: str, start_linegate: StartLinegate) -> None:
    publisher = Publisher(endpoint)
    watch = start_linegate("watch", endpoint, "--timeout", "60")
    assert publisher.wait_for_subscriber(60)
    publisher.send(HEARTBEAT, verdict(1))
    _, err = watch.communicate(timeout=60)
    publisher.close()
    assert watch.returncode == 2
    assert len(err.splitlines()) == 1 and "malformed" in err


def test_an_interrupted_watch_still_tells_what_it_saw(endpoint: str, start_linegate: StartLinegate) -> None:
    publisher = Publisher(endpoint)
    watch = start_linegate("watch", endpoint)
    assert publisher.wait_for_subscriber(60)
    publisher.send(VERDICT, verdict(1))
    assert watch.stdout is not None
    assert "OK" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=60)
    publisher.close()
    assert watch.returncode == 0 and "1 verdicts" in err and "Traceback" not in err


def test_judge_into_a_closed_pipe_ends_without_a_traceback(judge_words: Words, shots_folder: Path) -> None:
    with subprocess.Popen(
        command(*judge_words, shots_folder),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as judge:
        assert judge.stdout is not None and judge.stderr is not None
        assert judge.stdout.readline().startswith("{")
        judge.stdout.close()
        assert judge.stderr.read() == ""
        assert judge.wait(60) == 1


def test_run_refuses_a_port_in_use(linegate: RunLinegate, shots_folder: Path, station_file: WriteStation) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    holder = Publisher(endpoint)
    done = linegate("run", station_file(shots_folder, bus={"endpoint": endpoint}))
    holder.close()
    assert done.returncode == 2 and done.stdout == ""
    assert endpoint in one_line(done)


def test_run_says_where_it_publishes_when_the_system_chose_the_port(
    shots_folder: Path, station_file: WriteStation, start_linegate: StartLinegate
) -> None:
    station = station_file(shots_folder, bus={"endpoint": "tcp://127.0.0.1:*", "wait_for_subscriber_s": 0.0})
    run = start_linegate("run", station)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0
    assert "tcp://127.0.0.1:*" not in err and "tcp://127.0.0.1:" in err


def test_run_refuses_an_unknown_key(linegate: RunLinegate, shots_folder: Path, station_file: WriteStation) -> None:
    done = linegate("run", station_file(shots_folder, pipeline={"deadlin_ms": 5}))
    assert done.returncode == 2
    assert one_line(done).endswith("Did you mean `deadline_ms`?")


BAD_STATIONS: dict[str, tuple[dict[str, dict[str, object]], str]] = {
    "missing source": ({"camera": {"source": "missing"}}, "missing"),
    "missing package": ({"model": {"package": "missing"}}, "linegate export"),
    "missing recipe": ({"recipe": {"path": "missing"}}, "linegate calibrate"),
    "open endpoint": ({"bus": {"endpoint": "tcp://0.0.0.0:5556"}}, "allow_remote_plaintext"),
    "other bit depth": ({"camera": {"bit_depth": 12}}, "bit_depth"),
    "nobody listens": ({"bus": {"wait_for_subscriber_s": 0.05}}, "wait_for_subscriber_s"),
}


@pytest.mark.parametrize(("changes", "hint"), BAD_STATIONS.values(), ids=BAD_STATIONS.keys())
def test_run_refuses_what_cannot_run(
    linegate: RunLinegate,
    shots_folder: Path,
    station_file: WriteStation,
    changes: dict[str, dict[str, object]],
    hint: str,
) -> None:
    done = linegate("run", station_file(shots_folder, **changes))
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert hint in done.stderr.splitlines()[-1]


def test_a_station_that_loses_its_camera_ends_with_1_and_tells_why(
    tmp_path: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    video = write_video(tmp_path / "line.avi")
    subscriber = Subscriber(endpoint)
    run = start_linegate("run", station_file(video, camera={"loop": True}))
    assert subscriber.receive(60_000) is not None
    video.write_bytes(b"junk")
    _, err = run.communicate(timeout=60)
    subscriber.close()
    lines = err.splitlines()
    assert run.returncode == 1 and "Traceback" not in err
    assert "Error: " in lines[-2] and "cannot be decoded as a video" in lines[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_station_with_every_trigger_judged(
    shots_folder: Path,
    station_file: WriteStation,
    endpoint: str,
    start_linegate: StartLinegate,
    number: signal.Signals,
) -> None:
    subscriber = Subscriber(endpoint)
    run = start_linegate("run", station_file(shots_folder, camera={"loop": True}))
    verdicts = 0
    while True:
        received = subscriber.receive(60_000)
        assert received is not None, "the station fell silent"
        message = received[0]
        if isinstance(message, VerdictMessage):
            verdicts += 1
            if verdicts == 3:
                run.send_signal(number)
        elif getattr(message, "state", None) is State.HALTED:
            break
    subscriber.close()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "Traceback" not in err
    assert f"Halted: {verdicts} triggers" in err.splitlines()[-1]


def test_doctor_says_what_runs_and_what_is_missing(linegate: RunLinegate) -> None:
    done = linegate("doctor")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("onnxruntime cpu", "numpy", "pyzmq", "replay of pictures", "tensorrt", SOFTWARE_VERSION):
        assert word in done.stdout


def test_doctor_json_can_be_read(linegate: RunLinegate) -> None:
    done = linegate("doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0 and {"machine", "library", "executor", "camera", "exporter"} <= {
        finding["group"] for finding in findings
    }
    for finding in findings:
        assert set(finding) == {"group", "name", "works", "detail"} and isinstance(finding["works"], bool)
