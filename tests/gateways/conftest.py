"""Fixtures of the gateways' tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.gateways.station import FakeStation, running_station


@pytest.fixture
def station(endpoint: str) -> Iterator[FakeStation]:
    """A station that lives and judges."""
    with running_station(endpoint) as running:
        yield running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs MATIEC where it is not: no package has it, so that nothing could install it for these tests."""
    if shutil.which("iec2c") is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("matiec") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
