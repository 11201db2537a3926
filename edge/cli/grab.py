"""`linegate grab`: keep frames of a station's camera as pictures. Nothing is judged or published."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import Progress

from edge.assembly import open_camera
from edge.cameras.base import Camera, StreamEnded
from edge.errors import CameraError, UsageError
from edge.sealed import require_folder, write_whole
from edge.station import load_station
from edge.types import Frame, Trigger

PATIENCE_S = 10.0
POLL_S = 0.2
MOST_DAMAGED = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("station", metavar="STATION.toml", type=Path, help="station file")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the pictures (PNG)")
    parser.add_argument("--count", metavar="N", type=int, default=8, help="how many (default 8)")


def run(arguments: argparse.Namespace) -> int:
    """Grab and write; damaged frames are left out."""
    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count} asks for nothing", "Ask for at least one frame.")
    station = load_station(arguments.station)
    require_folder(arguments.out)
    camera, software = open_camera(station.camera), station.camera.trigger == "software"
    kept = damaged = 0
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("grabbing", total=arguments.count)
            while kept < arguments.count and damaged <= MOST_DAMAGED and (frame := _next(camera, software)) is not None:
                if frame.pixels is None:
                    damaged += 1
                    continue
                kept += 1
                bgr = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
                write_whole(arguments.out / f"frame-{kept:06d}.png", cv2.imencode(".png", bgr)[1].tobytes())
                progress.advance(task)
    finally:
        camera.close()
    if kept == 0:
        raise CameraError("the camera delivered no usable frame", "Check the camera and the station file.")
    print(f"{kept} frames in {arguments.out}")
    return 0


def _next(camera: Camera, software: bool) -> Frame | None:
    """The next frame, triggered from here if the camera does not do it itself; None at the end of a finite source.

    Raises:
        CameraError: nothing came for ten seconds.
    """
    end = time.monotonic() + PATIENCE_S
    if software:
        camera.fire(Trigger(time.monotonic_ns(), time.time_ns() // 1000))
    while time.monotonic() < end:
        try:
            arrival = camera.grab(POLL_S)
        except StreamEnded:
            return None
        if isinstance(arrival, Frame):
            return arrival
    raise CameraError(f"no frame came for {PATIENCE_S:g} s", "Check the camera and its trigger.")
