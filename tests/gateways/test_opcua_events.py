"""Results as events, to a PLC that we did not write, over an encrypted connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.gateways.settings import PlcSettings
from edge.types import Judgement
from tests.gateways.opcua_peer import Gateway, NodePlc, make_identity, node_plc, running_gateway
from tests.gateways.station import FakeStation

PLC = PlcSettings(heartbeat_ms=60_000.0, ack_ms=60_000.0, answer_ms=5_000.0, trigger_ms=30_000.0, queue=3)


@pytest.fixture
def gateway(station: FakeStation, tmp_path: Path) -> Iterator[Gateway]:
    """An encrypted gateway that holds three results."""
    with running_gateway(station, tmp_path, plc=PLC) as running:
        yield running


@pytest.fixture
def plc(gateway: Gateway, tmp_path: Path) -> Iterator[NodePlc]:
    """A trusted PLC that listens to both sources and acknowledges by writing."""
    identity = make_identity(tmp_path / "client", "plc")
    gateway.trust(identity)
    with node_plc(gateway, identity, events=["server", "vision"], ack="write", queue=1) as running:
        running.ready().wait_for("Online", True)
        yield running


def test_every_result_is_an_event_at_the_server_and_at_the_vision_system_once_and_in_order(
    station: FakeStation, plc: NodePlc
) -> None:
    sent = []
    for part in range(12):
        judgement = Judgement.OK if part % 3 else Judgement.NOT_OK
        sent.append(station.judge(judgement, part_id=f"p{part}"))
        plc.collect(part + 1)
    for source in ("server", "vision"):
        events = plc.collect(12, source)
        assert [event["PartId"]["id"] for event in events] == [f"p{part}" for part in range(12)]
        assert [event["Accept"] for event in events] == [bool(part % 3) for part in range(12)]
        assert [event["ResultEvaluation"] for event in events] == [1 if part % 3 else 2 for part in range(12)]
        assert [event["ResultId"]["id"] for event in events] == [f"{v.epoch}-{v.seq}" for v in sent]
        assert [event["PartIdText"] for event in events] == [f"p{part}" for part in range(12)]
        assert {event["PartId"]["type"] for event in events} == {"PartIdDataType"}
        assert {event["ResultState"] for event in events} == {1}
        assert {event["StationEpoch"] for event in events} == {station.epoch}
    assert len(plc.events("server")) == len(plc.events("vision")) == 12
