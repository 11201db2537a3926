"""`linegate doctor`: what this machine can run, and what is missing for more."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass

import cv2
import msgspec
import onnxruntime
from rich.console import Console
from rich.table import Table

from edge import SOFTWARE_VERSION

LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime", "pyzmq", "msgspec", "safetensors")


@dataclass(frozen=True)
class Finding:
    """One line: what, whether it works here, and what it is or what is missing."""

    group: str
    name: str
    works: bool
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print findings as one JSON array")


def run(arguments: argparse.Namespace) -> int:
    """Print all findings; 1 if the runtime cannot judge on this machine."""
    findings = [*_machine(), *_executors(), *_cameras(), *_gateways(), *_exporter()]
    if arguments.json:
        print(msgspec.json.encode([asdict(f) for f in findings]).decode())
    else:
        table = Table(title=f"Linegate {SOFTWARE_VERSION} on this machine")
        for column in ("what", "name", "works", "detail"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            table.add_row(finding.group, finding.name, "yes" if finding.works else "no", finding.detail)
        Console().print(table)
    return 0 if all(f.works for f in findings if f.group == "executor" and "cpu" in f.name) else 1


def _machine() -> list[Finding]:
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    found = [
        Finding("machine", "system", True, f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("machine", "python", sys.version_info >= (3, 10), platform.python_version()),
        Finding("machine", "cores", True, str(cores)),
    ]
    found += [Finding("library", name, True, importlib.metadata.version(name)) for name in LIBRARIES]
    return found


def _executors() -> list[Finding]:
    providers = onnxruntime.get_available_providers()
    gpu = shutil.which("nvidia-smi") is not None or os.path.exists("/etc/nv_tegra_release")  # noqa: PTH110
    device = "a GPU is here" if gpu else "no NVIDIA GPU was found"
    found = [Finding("executor", "onnxruntime cpu", "CPUExecutionProvider" in providers, onnxruntime.__version__)]
    for name, provider in (
        ("onnxruntime cuda", "CUDAExecutionProvider"),
        ("onnxruntime tensorrt", "TensorrtExecutionProvider"),
    ):
        there = (
            "in this onnxruntime" if provider in providers else "not in this onnxruntime (pip install onnxruntime-gpu)"
        )
        found.append(Finding("executor", name, False, f"{there}; {device}; this release runs on the CPU"))
    for module in ("tensorrt", "tensorrt_rtx"):
        there = (
            "installed"
            if importlib.util.find_spec(module)
            else f"not installed (pip install {module.replace('_', '-')})"
        )
        found.append(Finding("executor", module, False, f"{there}; {device}; this release runs on the CPU"))
    return found


def _cameras() -> list[Finding]:
    backends = [cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getStreamBackends()]
    video = "FFMPEG" in backends
    return [
        Finding("camera", "replay of pictures", True, "a folder of PNG, JPEG, BMP, TIFF or WebP files"),
        Finding("camera", "replay of video", video, f"OpenCV backends: {', '.join(backends) or 'none'}"),
        Finding(
            "camera", "GigE Vision, USB3 Vision, RTSP, USB", False, "not in this release; record a folder and replay it"
        ),
    ]


def _gateways() -> list[Finding]:
    found = []
    for extra, module in (("modbus", "pymodbus"), ("opcua", "asyncua"), ("mqtt", "paho-mqtt")):
        try:
            detail, works = f"{module} {importlib.metadata.version(module)}", True
        except importlib.metadata.PackageNotFoundError:
            detail, works = f"{module} is not installed (pip install 'linegate[{extra}]')", False
        found.append(Finding("gateway", extra, works, detail))
    return found


def _exporter() -> list[Finding]:
    missing = [m for m in ("torch", "onnx", "onnxscript") if importlib.util.find_spec(m) is None]
    detail = f"{', '.join(missing)} missing (pip install 'linegate[export]')" if missing else "PyTorch to ONNX"
    return [Finding("exporter", "linegate export", not missing, detail)]
