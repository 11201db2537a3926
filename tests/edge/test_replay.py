"""A folder or a video stands in for a camera, and stays honest about what it could not read."""

from __future__ import annotations

import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.assembly import open_camera
from edge.cameras.base import SourceBroken, StreamEnded
from edge.cameras.replay import ReplayCamera
from edge.errors import CameraError
from edge.station import CameraSettings
from edge.types import Frame, FrameStatus, Trigger
from tests.edge.png import GREY, RGB, png
from tests.edge.videos import FRAMES, write_video

FAST_HZ = 10_000.0
COLOURS = {"b.png": (200, 10, 20), "a.png": (10, 200, 20), "c.png": (10, 20, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of one colour each; a hidden file and a note beside them."""
    made = tmp_path / "parts"
    made.mkdir()
    for name, colour in COLOURS.items():
        (made / name).write_bytes(png(np.full((40, 50, 3), colour, np.uint8), RGB))
    (made / ".hidden.png").touch()
    (made / "notes.txt").touch()
    return made


def replay(source: Path, loop: bool = False, bit_depth: int | None = None) -> ReplayCamera:
    return ReplayCamera(CameraSettings("replay", str(source), FAST_HZ, loop=loop, bit_depth=bit_depth))


def fired(source: Path, loop: bool = False) -> ReplayCamera:
    return ReplayCamera(CameraSettings("replay", str(source), FAST_HZ, loop=loop, trigger="software"))


def arrival(camera: ReplayCamera) -> Trigger | Frame:
    while (arrived := camera.grab(1.0)) is None:
        pass
    return arrived


def grab_next(camera: ReplayCamera) -> Frame:
    """The frame of the next trigger, which comes right after it."""
    trigger = arrival(camera)
    assert isinstance(trigger, Trigger), "a frame without its trigger"
    frame = arrival(camera)
    assert isinstance(frame, Frame) and frame.trigger is trigger
    return frame


def trigger_now(part_id: str = "") -> Trigger:
    return Trigger(time.monotonic_ns(), time.time_ns() // 1000, part_id)


def grab_all(camera: ReplayCamera) -> list[Frame]:
    frames: list[Frame] = []
    while True:
        try:
            frames.append(grab_next(camera))
        except StreamEnded:
            return frames


def test_pictures_come_once_in_the_order_of_their_names(folder: Path) -> None:
    frames = grab_all(replay(folder))
    assert [frame.trigger.part_id for frame in frames] == ["a.png", "b.png", "c.png"]
    for frame in frames:
        assert frame.status is FrameStatus.COMPLETE and frame.fault == "" and frame.pixels is not None
        assert tuple(frame.pixels[0, 0]) == COLOURS[frame.trigger.part_id]


def test_frames_are_numbered_without_gaps_and_time_never_runs_back(folder: Path) -> None:
    frames = grab_all(replay(folder))
    assert [frame.frame_id for frame in frames] == [1, 2, 3]
    for frame in frames:
        assert frame.trigger.time_ns <= frame.captured_ns and frame.trigger.wall_us > 0
    for before, after in pairwise(frames):
        assert before.captured_ns <= after.trigger.time_ns


def test_the_end_of_the_stream_stays_the_end(folder: Path) -> None:
    camera = replay(folder)
    grab_all(camera)
    for _ in range(3):
        with pytest.raises(StreamEnded):
            camera.grab(0.0)


def test_a_loop_goes_on_and_keeps_counting(folder: Path) -> None:
    camera = replay(folder, loop=True)
    frames = [grab_next(camera) for _ in range(8)]
    assert [frame.trigger.part_id for frame in frames] == [f"{c}.png" for c in "abcabcab"]
    assert [frame.frame_id for frame in frames] == list(range(1, 9))


def test_a_file_that_cannot_be_decoded_is_an_incomplete_frame(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:-20])
    frames = grab_all(replay(folder))
    assert [frame.status for frame in frames] == [FrameStatus.COMPLETE, FrameStatus.INCOMPLETE, FrameStatus.COMPLETE]
    assert frames[1].pixels is None and "b.png" in frames[1].fault and frames[1].trigger.part_id == "b.png"


def test_a_file_that_vanishes_while_replaying_is_an_incomplete_frame(folder: Path) -> None:
    camera = replay(folder, loop=True)
    for _ in range(3):
        assert grab_next(camera).pixels is not None
    shutil.rmtree(folder)
    frames = [grab_next(camera) for _ in range(4)]
    assert [frame.status for frame in frames[1:]] == [FrameStatus.INCOMPLETE] * 3


def test_deep_pictures_need_the_depth_of_the_station_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "deep.png").write_bytes(png(np.full((40, 40), 0x0810, np.uint16), GREY))
    assert grab_next(replay(folder)).status is FrameStatus.INCOMPLETE
    pixels = grab_next(replay(folder, bit_depth=12)).pixels
    assert pixels is not None and int(pixels[0, 0, 0]) == 0x81


def test_nothing_comes_before_it_is_due_and_closing_ends_the_wait(folder: Path) -> None:
    camera = ReplayCamera(CameraSettings("replay", str(folder), 0.001, loop=True))
    assert isinstance(camera.grab(0.0), Trigger) and isinstance(camera.grab(0.0), Frame)
    assert camera.grab(0.0) is None
    threading.Timer(0.05, camera.close).start()
    with pytest.raises(StreamEnded):
        camera.grab(600.0)
    camera.close()


@pytest.mark.parametrize("loop", [False, True])
def test_a_source_without_pictures_is_a_camera_error(tmp_path: Path, loop: bool) -> None:
    (tmp_path / "notes.txt").touch()
    for source in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(CameraError):
            replay(source, loop)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    source = tmp_path / "missing"
    with pytest.raises(CameraError, match=r"camera\.source .*missing does not exist"):
        open_camera(CameraSettings("replay", str(source), 1.0))


def test_the_station_settings_reach_the_camera(folder: Path) -> None:
    camera = open_camera(CameraSettings("replay", str(folder), FAST_HZ, id="top", loop=False))
    assert isinstance(camera, ReplayCamera)
    assert camera.camera_id == "top" and camera.is_simulated
    assert len(grab_all(camera)) == 3


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """See `write_video`."""
    return write_video(tmp_path / "line.avi")


def test_a_video_gives_its_frames_in_order_and_in_rgb(video: Path) -> None:
    frames = grab_all(replay(video))
    assert [frame.trigger.part_id for frame in frames] == [f"line.avi#{n:06d}" for n in range(1, FRAMES + 1)]
    for number, frame in enumerate(frames):
        assert frame.pixels is not None and frame.pixels.shape == (48, 64, 3)
        assert np.abs(frame.pixels.mean(axis=(0, 1)) - (50 * number + 20, 90, 30)).max() < 8


def test_a_video_loops(video: Path) -> None:
    camera = replay(video, loop=True)
    frames = [grab_next(camera) for _ in range(7)]
    assert frames[5].trigger.part_id == "line.avi#000001" and frames[6].frame_id == 7


def test_a_video_that_breaks_off_is_a_camera_error_after_its_last_frame(video: Path) -> None:
    camera = replay(video, loop=True)
    video.write_bytes(b"junk")
    frames = [grab_next(camera) for _ in range(FRAMES)]
    assert frames[-1].pixels is not None and frames[-1].frame_id == FRAMES
    for _ in range(2):
        with pytest.raises(SourceBroken, match="cannot be decoded"):
            camera.grab(1.0)


def test_a_file_that_is_no_video_is_a_camera_error(tmp_path: Path) -> None:
    path = tmp_path / "junk.avi"
    path.write_bytes(b"junk")
    with pytest.raises(CameraError, match="cannot be decoded as a video"):
        replay(path, loop=True)


def test_with_a_software_trigger_nothing_comes_unasked(folder: Path) -> None:
    camera = fired(folder)
    assert camera.grab(0.0) is None and camera.grab(0.02) is None


def test_each_software_trigger_gets_the_next_picture_in_a_frame_that_names_it(folder: Path) -> None:
    camera = fired(folder)
    triggers = [trigger_now(f"part-{number}") for number in range(3)]
    for trigger in triggers:
        camera.fire(trigger)
    for trigger, name in zip(triggers, ("a.png", "b.png", "c.png"), strict=True):
        frame = camera.grab(1.0)
        assert isinstance(frame, Frame) and frame.trigger is trigger and frame.pixels is not None
        assert tuple(frame.pixels[0, 0]) == COLOURS[name]
    with pytest.raises(StreamEnded):
        camera.grab(0.0)


def test_closing_ends_the_wait_for_a_software_trigger(folder: Path) -> None:
    camera = fired(folder)
    threading.Timer(0.05, camera.close).start()
    with pytest.raises(StreamEnded):
        camera.grab(600.0)


def test_a_camera_with_a_timer_takes_no_software_trigger(folder: Path) -> None:
    camera = replay(folder)
    with pytest.raises(CameraError, match=r"camera\.trigger"):
        camera.fire(trigger_now())
    assert len(grab_all(camera)) == 3
