"""Running stations on fakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.edge.line import Line, running_line

SHORT_MS = 40.0


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[Line]:
    """A station whose deadline never comes."""
    with running_line(monkeypatch, endpoint) as running:
        yield running


@pytest.fixture
def hasty_line(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[Line]:
    """A station with a short deadline."""
    with running_line(monkeypatch, endpoint, deadline_ms=SHORT_MS, heartbeat_ms=10.0) as running:
        yield running


@pytest.fixture
def narrow_line(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Iterator[Line]:
    """A station where one frame may wait."""
    with running_line(monkeypatch, endpoint, queue_frames=1) as running:
        yield running
