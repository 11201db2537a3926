"""The unit is one that systemd takes, is confined, loses nothing, and lets a station judge."""

from __future__ import annotations

import configparser
import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S, StartLinegate, WriteStation, command, environment, free_port
from tests.packages import REPOSITORY

UNIT = REPOSITORY / "deploy" / "systemd" / "linegate@.service"
MOST_EXPOSURE = 1.3

CONFINE = """
import ctypes, errno, os, sys

ALLOW, REFUSE, NO_FAMILY = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.EAFNOSUPPORT
MORE, EQUAL, HAS_BITS = 6, 4, 7
WRITE, EXECUTE = 2, 4

class Compare(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

library = ctypes.CDLL(sys.argv[1])
library.seccomp_init.restype = ctypes.c_void_p
library.seccomp_rule_add_array.argtypes = [
    ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)
]
library.seccomp_load.argtypes = [ctypes.c_void_p]

def rule(context, action, name, *compares):
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        array = (Compare * len(compares))(*compares)
        done = library.seccomp_rule_add_array(context, action, number, len(compares), array)
        assert done == 0, (name, done)

first = library.seccomp_init(ALLOW)
rule(first, REFUSE, "mmap", Compare(2, HAS_BITS, WRITE | EXECUTE, WRITE | EXECUTE))
for name in ("mprotect", "pkey_mprotect"):
    rule(first, REFUSE, name, Compare(2, HAS_BITS, EXECUTE, EXECUTE))
AF_NETLINK = 16
rule(first, NO_FAMILY, "socket", Compare(0, MORE, AF_NETLINK, 0))
for policy in (os.SCHED_FIFO, os.SCHED_RR):
    rule(first, REFUSE, "sched_setscheduler", Compare(1, EQUAL, policy, 0))
second = library.seccomp_init(REFUSE)
for name in sys.argv[2].split(","):
    rule(second, ALLOW, name)
assert library.seccomp_load(first) == 0 and library.seccomp_load(second) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Refuses what MemoryDenyWriteExecute=, RestrictAddressFamilies=, RestrictRealtime= and SystemCallFilter= refuse, then
becomes the command.
"""


def settings() -> dict[str, list[str]]:
    """Every setting of `[Service]`, with each of its values."""
    lines = UNIT.read_text(encoding="utf-8").split("[Service]")[1].split("[Install]")[0].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The unit as systemd sees it for one station, with programs that exist on this machine."""
    path = tmp_path / "linegate@press-3.service"
    text = UNIT.read_text(encoding="utf-8")
    assert "/opt/linegate/bin/linegate" in text
    path.write_text(text.replace("/opt/linegate/bin/linegate", sys.executable), encoding="utf-8")
    return path


def systemd_analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )


def test_systemd_has_nothing_against_the_unit(instance: Path) -> None:
    done = systemd_analyze("verify", "--man=no", instance)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_confined(instance: Path) -> None:
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"
    done = systemd_analyze("security", "--offline=true", "--no-pager", threshold, instance)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_what_is_not_on_disk_yet_outlives_the_unit() -> None:
    unit = settings()
    assert unit["RuntimeDirectoryPreserve"] == ["yes"]
    assert unit["RemoveIPC"] == ["no"] and "DynamicUser" not in unit


def test_a_line_is_never_given_up() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(UNIT, encoding="utf-8")
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert settings()["Restart"] == ["always"]


@pytest.mark.parametrize(("status", "waits"), [("2", True), ("1", False), ("0", False), ("KILL", False)])
def test_only_a_wrong_station_file_is_waited_with(status: str, waits: bool, tmp_path: Path) -> None:
    sleep = tmp_path / "sleep"
    sleep.write_text(f"#!/bin/sh\ntouch {tmp_path}/waited\n", encoding="utf-8")
    sleep.chmod(0o700)
    (after,) = settings()["ExecStopPost"]
    script = after.removeprefix("/bin/sh -c '").removesuffix("'").replace("$$", "$")
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": path, "EXIT_STATUS": status}, check=True)
    assert (tmp_path / "waited").exists() is waits


def allowed_system_calls() -> str:
    """What SystemCallFilter leaves, and what systemd itself always allows."""
    allowed: set[str] = set()
    for line in settings()["SystemCallFilter"]:
        named = {call for word in line.lstrip("~").split() for call in _expand(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return ",".join(sorted(allowed | _expand("@default")))


def _expand(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    done = systemd_analyze("syscall-filter", word)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in _expand(line)}


def confined(words: list[str]) -> list[str]:
    """The command that runs `words` as the unit would, as far as system calls go."""
    assert settings()["MemoryDenyWriteExecute"] == settings()["RestrictRealtime"] == ["yes"]
    assert settings()["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]
    seccomp = ctypes.util.find_library("seccomp")
    if seccomp is None:
        pytest.skip("libseccomp is not installed: apt-get install libseccomp2")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: apt-get install util-linux")
    return ["setpriv", "--no-new-privs", sys.executable, "-c", CONFINE, seccomp, allowed_system_calls(), *words]


def run_confined(program: str) -> subprocess.CompletedProcess[str]:
    words = confined([sys.executable, "-c", program])
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize(
    "refused",
    [
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
        "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "import os; os.chroot('/')",
        "import os; os.setpriority(os.PRIO_PROCESS, 0, 10)",
    ],
)
def test_the_confinement_refuses_what_the_unit_refuses(refused: str) -> None:
    assert run_confined("print('runs')").stdout == "runs\n"
    stderr = run_confined(refused).stderr
    assert "Operation not permitted" in stderr or "Address family not supported" in stderr


def test_a_confined_station_judges(
    shots_folder: Path, station_file: WriteStation, start_linegate: StartLinegate
) -> None:
    # TCP: to bind a port asks more of the system than to bind a socket in a folder.
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    watch = start_linegate("watch", endpoint, "--json", "-", "--until-halted", "--timeout", "60")
    words = confined(command("run", station_file(shots_folder, bus={"endpoint": endpoint})))
    done = subprocess.run(
        words, env=environment(), capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    # The words of ONNX Runtime when it cannot pin its threads or does not know the processor.
    assert "setaffinity" not in done.stderr and "cpuinfo" not in done.stderr
    verdicts = [json.loads(line) for line in watch.communicate(timeout=PATIENCE_S)[0].splitlines()]
    assert [verdict["judgement"] in ("OK", "NOT_OK") for verdict in verdicts] == [True] * 8
