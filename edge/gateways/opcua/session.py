"""A client's session: what it may read, write and call, and how much at once."""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from typing import TYPE_CHECKING, Protocol

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge.gateways.opcua.limits import METHODS_AT_ONCE, REFERENCES_AT_ONCE, bound, bound_values
from edge.gateways.opcua.nodesets import Structure
from edge.gateways.opcua.subscriptions import SubscribingSession

if TYPE_CHECKING:
    from edge.gateways.opcua.internal_server import GatewayInternalServer

CALLER: contextvars.ContextVar[ua.NodeId | None] = contextvars.ContextVar("caller", default=None)
"""The session whose method call is being answered."""


class Address(Protocol):
    """What a session asks of the address space that is ours."""

    def refresh(self) -> None:
        """Bring every value up to now."""
        ...

    def write(self, caller: ua.NodeId, wanted: list[ua.WriteValue]) -> list[ua.StatusCode | None]:
        """Take what a client writes at once; None for a node that is none of ours."""
        ...

    def gone(self, caller: ua.NodeId) -> None:
        """A session has ended."""
        ...


class GatewaySession(SubscribingSession):
    """One client's session."""

    iserver: GatewayInternalServer

    def __init__(self, *args: Structure, **options: Structure) -> None:
        super().__init__(*args, **options)
        # asyncua counts these up, and whoever knows one can take the session over from another connection.
        self.iserver.unregister_external_session(self)
        self.auth_token = ua.NodeId(secrets.token_bytes(32), 1)
        self.iserver.register_external_session(self)

    async def close_session(self, delete_subs: bool = True) -> None:
        """See asyncua. Subscriptions go with it, whatever the client asks: nobody else would ever end them."""
        await super().close_session(True)
        if self.iserver.ours is not None:
            self.iserver.ours.gone(self.session_id)

    def refresh(self) -> None:
        """Bring every value up to now."""
        if self.iserver.ours is not None:
            self.iserver.ours.refresh()

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """See asyncua. What one request reads is of one moment, and that is now."""
        bound(params.NodesToRead)
        self.refresh()
        answer = list(self.iserver.attribute_service.read(params))
        bound_values(answer)
        return answer

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """See asyncua. Only command variables can be written."""
        bound(params.NodesToWrite)
        ours = self.iserver.ours
        done = [None] * len(params.NodesToWrite) if ours is None else ours.write(self.session_id, params.NodesToWrite)
        return [code or self._refusal(wanted) for code, wanted in zip(done, params.NodesToWrite, strict=True)]

    def _refusal(self, wanted: ua.WriteValue) -> ua.StatusCode:
        is_known = wanted.NodeId in self.aspace
        return ua.StatusCode(ua.StatusCodes.BadNotWritable if is_known else ua.StatusCodes.BadNodeIdUnknown)

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """See asyncua. Node by node, so that every other PLC has its turn in between."""
        wanted, answer, references = params.NodesToBrowse, [], 0
        bound(wanted)
        for each in wanted:
            params.NodesToBrowse = [each]
            found = await super().browse(params)
            references += sum(len(result.References) for result in found)
            if references > REFERENCES_AT_ONCE:
                raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
            answer += found
            await asyncio.sleep(0)
        return answer

    async def translate_browsepaths_to_nodeids(self, params: list[ua.BrowsePath]) -> list[ua.BrowsePathResult]:
        """See asyncua."""
        bound(params)
        return list(await super().translate_browsepaths_to_nodeids(params))

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """See asyncua. Method by method, so that every other PLC has its turn in between."""
        bound(params, METHODS_AT_ONCE)
        CALLER.set(self.session_id)
        answer: list[ua.CallMethodResult] = []
        for each in params:
            answer += await super().call([each])
            await asyncio.sleep(0)
        return answer

    async def history_read(self, params: ua.HistoryReadParameters) -> list[ua.HistoryReadResult]:
        """There is no history."""
        raise ServiceError(ua.StatusCodes.BadHistoryOperationUnsupported)

    async def history_update(self, params: ua.HistoryUpdateParameters) -> list[ua.HistoryUpdateResult]:
        """There is no history."""
        raise ServiceError(ua.StatusCodes.BadHistoryOperationUnsupported)
