"""How much one client may take, and that it takes nothing from the others."""

from __future__ import annotations

import asyncio
import math
import queue
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import Client, Node, ua
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.ua.uaerrors import BadResponseTooLarge, BadTooManyOperations, BadTooManySessions

from edge.gateways.opcua import subscriptions
from edge.gateways.opcua.limits import (
    EVENT_ITEMS_PER_SESSION,
    LARGEST_CHUNK,
    METHODS_AT_ONCE,
    NODES_AT_ONCE,
    SUBSCRIPTIONS_PER_SESSION,
)
from edge.gateways.opcua.subscriptions import SubscribingSession
from edge.gateways.opcua.user import Users
from edge.gateways.settings import OpcUaSettings
from tests.conftest import free_port
from tests.gateways.opcua_peer import PASSWORD, PATIENCE_S, USER, Gateway, running_gateway
from tests.gateways.station import FakeStation, running_station

SESSIONS = 2
LARGE, MANY = ua.NodeId(7617), ua.NodeId(78)
"""The schema of all types, 200 kB; the node with the most references, some 500."""
DEADBAND = ua.DeadbandType.Absolute


@pytest.fixture(scope="module")
def station() -> Iterator[FakeStation]:
    """One for all tests here."""
    with running_station(f"tcp://127.0.0.1:{free_port()}") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(station: FakeStation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An open gateway with few sessions, for anybody and for one user."""
    folder = tmp_path_factory.mktemp("gateway")
    settings = OpcUaSettings(security="open", anonymous=True, sessions=SESSIONS, users=str(folder / "users"))
    with running_gateway(station, folder, settings) as running:
        yield running


def run(gateway: Gateway, test: Callable[[Client], Awaitable[None]]) -> None:
    """Do it with a client that has a session."""

    async def whole() -> None:
        async with Client(gateway.endpoint, timeout=PATIENCE_S) as client:
            await test(client)

    asyncio.run(whole())


class Heard:
    """What a subscription is told."""

    def __init__(self) -> None:
        self.values: queue.Queue[Any] = queue.Queue()

    def datachange_notification(self, _node: Node, value: object, _data: object) -> None:
        """A value has changed."""
        self.values.put(value)


async def own(client: Client, name: str) -> ua.NodeId:
    """The handshake's node."""
    return ua.NodeId(f"Handshake.{name}", await client.get_namespace_index("urn:linegate:gateway"))


async def monitor(
    client: Client, node: ua.NodeId, wanted: object, *, attribute: ua.AttributeIds = ua.AttributeIds.Value
) -> str:
    """What the server answers to one monitored item."""
    subscription = await client.create_subscription(1_000, Heard())
    item = ua.MonitoredItemCreateRequest(ua.ReadValueId(node, attribute), ua.MonitoringMode.Reporting)
    item.RequestedParameters.Filter = wanted
    params = ua.CreateMonitoredItemsParameters(subscription.subscription_id, ItemsToCreate=[item])
    return str((await client.uaclient.create_monitored_items(params))[0].StatusCode.name)


def event_filter(fields: int) -> ua.EventFilter:
    """One with so many fields."""
    clause = ua.SimpleAttributeOperand(BrowsePath=[ua.QualifiedName("Message")], AttributeId=ua.AttributeIds.Value)
    return ua.EventFilter(SelectClauses=[clause] * fields)


@pytest.mark.parametrize(
    ("name", "kind", "deadband", "expected"),
    [
        ("ResultNumber", DEADBAND, 1.0, "Good"),
        ("ResultNumber", DEADBAND, math.nan, "BadDeadbandFilterInvalid"),
        ("ResultNumber", ua.DeadbandType.Percent, 1.0, "BadMonitoredItemFilterUnsupported"),
        ("Score", DEADBAND, 0.1, "BadFilterNotAllowed"),
        ("Score", ua.DeadbandType.None_, 0.0, "Good"),
        ("PartId", DEADBAND, 0.1, "BadFilterNotAllowed"),
        ("ResultNumber", None, 0.0, "BadMonitoredItemFilterUnsupported"),
    ],
)
def test_a_filter_that_cannot_be_evaluated_is_refused(
    gateway: Gateway, name: str, kind: ua.DeadbandType | None, deadband: float, expected: str
) -> None:
    async def test(client: Client) -> None:
        trigger = ua.DataChangeTrigger.StatusValue
        wanted = event_filter(1) if kind is None else ua.DataChangeFilter(trigger, kind, deadband)
        assert await monitor(client, await own(client, name), wanted) == expected

    run(gateway, test)


def test_one_broken_subscription_does_not_end_the_others(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise TypeError

    async def test(client: Client) -> None:
        wanted = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, DEADBAND, 0)
        node = await own(client, "Heartbeat")
        assert await monitor(client, node, wanted) == "Good"
        heard = Heard()
        subscription = await client.create_subscription(20, heard)
        await subscription.subscribe_data_change(client.get_node(node))
        monkeypatch.setattr(MonitoredItemService, "_is_deadband_exceeded", broken)
        before = await asyncio.to_thread(heard.values.get, timeout=PATIENCE_S)
        for _ in range(5):
            now = await asyncio.to_thread(heard.values.get, timeout=PATIENCE_S)
            assert now != before
            before = now

    run(gateway, test)
    assert not gateway.faults


def test_what_one_request_may_ask_is_bounded(gateway: Gateway) -> None:
    async def test(client: Client) -> None:
        session = client.uaclient
        value = ua.ReadValueId(ua.NodeId(2256), ua.AttributeIds.Value)
        with pytest.raises(BadTooManyOperations):
            await session.read(ua.ReadParameters(NodesToRead=[value] * (NODES_AT_ONCE + 1)))
        large = ua.ReadValueId(LARGE, ua.AttributeIds.Value)
        with pytest.raises(BadResponseTooLarge):
            await session.read(ua.ReadParameters(NodesToRead=[large] * 10))
        browse = ua.BrowseDescription(MANY, ua.BrowseDirection.Both, IncludeSubtypes=True, ResultMask=63)
        with pytest.raises(BadTooManyOperations):
            await session.browse(ua.BrowseParameters(NodesToBrowse=[browse] * (NODES_AT_ONCE + 1)))
        with pytest.raises(BadResponseTooLarge):
            await session.browse(ua.BrowseParameters(NodesToBrowse=[browse] * 100))
        path = ua.BrowsePath(ua.NodeId(ua.ObjectIds.Server), ua.RelativePath())
        with pytest.raises(BadTooManyOperations):
            await session.translate_browsepaths_to_nodeids([path] * (NODES_AT_ONCE + 1))
        with pytest.raises(BadTooManyOperations):
            await session.call([ua.CallMethodRequest()] * (METHODS_AT_ONCE + 1))
        most = client.get_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)
        assert await most.read_value() == NODES_AT_ONCE

    run(gateway, test)


def test_event_items_are_few(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(client: Client) -> None:
        async def asked(fields: int) -> str:
            wanted = event_filter(fields)
            notifier = ua.AttributeIds.EventNotifier
            return await monitor(client, ua.NodeId(ua.ObjectIds.Server), wanted, attribute=notifier)

        assert await asked(65) == "BadEventFilterInvalid"
        assert await asked(64) == "Good"
        monkeypatch.setattr(subscriptions, "FIELDS_OF_ALL", 70)
        assert await asked(7) == "BadTooManyMonitoredItems"
        done = [await asked(1) for _ in range(EVENT_ITEMS_PER_SESSION)]
        assert done == ["Good"] * (EVENT_ITEMS_PER_SESSION - 1) + ["BadTooManyMonitoredItems"]

    run(gateway, test)


def test_subscriptions_end_with_their_session_even_if_the_client_would_leave_them(gateway: Gateway) -> None:
    async def test(client: Client) -> None:
        for _ in range(SUBSCRIPTIONS_PER_SESSION):
            await client.create_subscription(1_000, Heard())
        await client.uaclient.session.close_session(False)

    for _ in range(SESSIONS + 1):
        run(gateway, test)


def test_only_an_own_subscription_is_acknowledged() -> None:
    held = SimpleNamespace(_not_acknowledged_results={1: "message"})
    session: Any = SimpleNamespace(_own=lambda: {5: held})
    acks = [ua.SubscriptionAcknowledgement(*ack) for ack in ((5, 2), (6, 1), (5, 1))]
    count, codes = SubscribingSession.publish(session, acks)
    assert (count, [code.name for code in codes]) == (
        1, ["BadSequenceNumberUnknown", "BadSubscriptionIdInvalid", "Good"],
    )  # fmt: skip
    assert not held._not_acknowledged_results


@asynccontextmanager
async def stranger(gateway: Gateway) -> AsyncIterator[Client]:
    """A client with a channel and no session."""
    client = Client(gateway.endpoint, timeout=PATIENCE_S)
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        yield client
    finally:
        client.disconnect_socket()
        # The transport closes in the loop's next turn.
        await asyncio.sleep(0)


def test_strangers_who_never_log_in_keep_nobody_out(gateway: Gateway) -> None:
    async def whole() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(2 * SESSIONS):
                client = await stack.enter_async_context(stranger(gateway))
                await client.create_session()
            async with Client(gateway.endpoint) as first, Client(gateway.endpoint) as second:
                assert await first.nodes.server_state.read_value() == await second.nodes.server_state.read_value()

    asyncio.run(whole())


def test_a_channel_has_one_session_after_the_other(gateway: Gateway) -> None:
    async def whole() -> None:
        async with stranger(gateway) as client:
            for _ in range(2):
                await client.create_session()
                await client.activate_session()
                await client.nodes.server_state.read_value()
                await client.close_session()
            await client.create_session()
            with pytest.raises(BadTooManySessions):
                await client.create_session()

    asyncio.run(whole())


@pytest.mark.parametrize(
    "begin",
    [
        b"HELF" + struct.pack("<I", 0xFFFFFFF0),
        b"MSGF" + struct.pack("<I", LARGEST_CHUNK + 1),
    ],
)
def test_a_chunk_that_cannot_be_is_not_waited_for(gateway: Gateway, begin: bytes) -> None:
    host, port = gateway.endpoint.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as peer:
        peer.sendall(begin)
        assert peer.recv(100)[:3] == b"ERR"
        assert peer.recv(100) == b""


def test_a_password_in_plaintext_is_refused_before_it_is_checked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    def is_known(_users: Users, name: str, _password: str) -> bool:
        checked.append(name)
        return True

    monkeypatch.setattr(Users, "is_known", is_known)

    async def whole() -> None:
        async with stranger(gateway) as client:
            await client.create_session()
            with pytest.raises(ua.uaerrors.BadIdentityTokenRejected):
                await client.activate_session(username=USER, password=PASSWORD)

    asyncio.run(whole())
    assert not checked
