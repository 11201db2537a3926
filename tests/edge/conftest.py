"""Running stations on fakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.line import Line, running_line

SHORT_MS = 40.0


@pytest.fixture
def line(endpoint: str, tmp_path: Path) -> Iterator[Line]:
    """A station whose deadline never comes."""
    with running_line(endpoint, tmp_path / "journal") as running:
        yield running


@pytest.fixture
def hasty_line(endpoint: str, tmp_path: Path) -> Iterator[Line]:
    """A station with a short deadline."""
    with running_line(endpoint, tmp_path / "journal", deadline_ms=SHORT_MS, heartbeat_ms=10.0) as running:
        yield running


@pytest.fixture
def narrow_line(endpoint: str, tmp_path: Path) -> Iterator[Line]:
    """A station where one frame may wait."""
    with running_line(endpoint, tmp_path / "journal", queue_frames=1) as running:
        yield running
