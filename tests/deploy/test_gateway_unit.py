"""The gateways' unit is one that systemd takes, is confined, and runs the protocol that it is named after."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S
from tests.packages import REPOSITORY

UNIT = REPOSITORY / "deploy" / "systemd" / "linegate-gateway@.service"
MOST_EXPOSURE = 1.7
PROTOCOLS = ("modbus", "opcua", "mqtt")


@pytest.fixture(params=PROTOCOLS)
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit as it is installed for one protocol, with a program that exists on this machine."""
    path = tmp_path / f"linegate-{request.param}@press-3.service"
    text = UNIT.read_text(encoding="utf-8")
    assert "/opt/linegate/bin/linegate gateway %j /etc/linegate/%i-gateway.toml" in text
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


def test_a_gateway_is_never_given_up_and_does_not_hang_on_the_station() -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert "StartLimitIntervalSec=0\n" in text and "Restart=always\n" in text
    assert not any(word in text for word in ("Requires=", "BindsTo=", "PartOf="))
