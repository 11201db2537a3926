"""A session's subscriptions. asyncua lets every session have every other's."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession

from edge.gateways.opcua.filters import SubtypeEvaluator, event_refusal, value_refusal
from edge.gateways.opcua.limits import (
    EVENT_ITEMS_PER_SESSION,
    FASTEST_PUBLISHING_MS,
    FIELDS_OF_ALL,
    ITEMS_PER_SUBSCRIPTION,
    LARGEST_QUEUE,
    SLOWEST_PUBLISHING_MS,
    SMALLEST_EVENT_QUEUE,
    SUBSCRIPTIONS_PER_SESSION,
)
from edge.gateways.opcua.nodesets import Structure
from edge.logs import log_event

_LOG = logging.getLogger("linegate.gateway.opcua")
_codes = ua.StatusCodes


class SubscribingSession(InternalSession):
    """The part of a session that has to do with subscriptions."""

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Structure,
        request_callback: Structure = None,
    ) -> ua.CreateSubscriptionResult:
        """See asyncua, which publishes as fast as it is told to: a fraction of a millisecond would be a busy loop."""
        if len(self._own()) >= SUBSCRIPTIONS_PER_SESSION:
            raise ServiceError(_codes.BadTooManySubscriptions)
        asked = params.RequestedPublishingInterval
        usable = 1_000.0 if math.isnan(asked) else asked
        params.RequestedPublishingInterval = min(max(usable, FASTEST_PUBLISHING_MS), SLOWEST_PUBLISHING_MS)
        result = await super().create_subscription(params, callback, request_callback)
        made = self.subscription_service.subscriptions[result.SubscriptionId]
        made._task.add_done_callback(_say_if_broken)
        return result

    def refresh(self) -> None:
        """Bring every value up to now."""

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """See asyncua, which takes a filter that it cannot evaluate, and fails at the next change.

        An event is a part: no queue that would lose one is taken as asked.
        """
        service = self._service(params.SubscriptionId)
        if len(service._monitored_items) + len(params.ItemsToCreate) > ITEMS_PER_SUBSCRIPTION:
            raise ServiceError(_codes.BadTooManyMonitoredItems)
        self.refresh()
        results = []
        for item in params.ItemsToCreate:
            refusal = self._refusal_of_item(item)
            if refusal:
                results.append(ua.MonitoredItemCreateResult(ua.StatusCode(refusal)))
                continue
            one = ua.CreateMonitoredItemsParameters(params.SubscriptionId, params.TimestampsToReturn, [item])
            results += await super().create_monitored_items(one)
            made = service._monitored_items.get(results[-1].MonitoredItemId)
            if made is not None and made.where_clause_evaluator is not None:
                made.where_clause_evaluator = SubtypeEvaluator(self.logger, self.aspace, made.filter.WhereClause)
        return results

    def _refusal_of_item(self, item: ua.MonitoredItemCreateRequest) -> int:
        """Why an item cannot be had, as a status; 0 if it can."""
        wanted, what = item.RequestedParameters, item.ItemToMonitor
        if isinstance(wanted.Filter, ua.ExtensionObject):
            # asyncua's way to say that there is none.
            wanted.Filter = None
        if what.AttributeId != ua.AttributeIds.EventNotifier:
            return value_refusal(wanted.Filter, what, self.aspace)
        wanted.QueueSize = min(max(wanted.QueueSize, SMALLEST_EVENT_QUEUE), LARGEST_QUEUE)
        refusal = event_refusal(wanted.Filter)
        if refusal:
            return refusal
        everybody = self.subscription_service.subscriptions.values()
        fields = sum(len(found.filter.SelectClauses) for found in _event_items(everybody))
        is_full = fields + len(wanted.Filter.SelectClauses) > FIELDS_OF_ALL
        mine = len(_event_items(self._own().values()))
        return _codes.BadTooManyMonitoredItems if is_full or mine >= EVENT_ITEMS_PER_SESSION else 0

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """See asyncua, which takes 0 for a queue without end."""
        service = self._service(params.SubscriptionId)
        for item in params.ItemsToModify:
            made = service._monitored_items.get(item.MonitoredItemId)
            if made is None:
                raise ServiceError(_codes.BadMonitoredItemIdInvalid)
            smallest = SMALLEST_EVENT_QUEUE if made.where_clause_evaluator is not None else 1
            wanted = item.RequestedParameters
            # asyncua would go on with the old condition and the new fields.
            wanted.Filter = made.filter
            wanted.QueueSize = min(max(wanted.QueueSize, smallest), LARGEST_QUEUE)
        return list(await super().modify_monitored_items(params))

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """See asyncua."""
        self._service(params.SubscriptionId)
        return list(await super().delete_monitored_items(params))

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """See asyncua."""
        self._service(params.SubscriptionId)
        return list(await super().set_monitoring_mode(params))

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """See asyncua."""
        for identifier in params.SubscriptionIds:
            self._service(identifier)
        return list(await super().set_publishing_mode(params))

    def modify_subscription(self, params: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        """See asyncua."""
        self._service(params.SubscriptionId)
        return super().modify_subscription(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """See asyncua."""
        for identifier in ids:
            self._service(identifier)
        return list(await super().delete_subscriptions(ids))

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement] | None = None) -> tuple[int, list[ua.StatusCode]]:
        """See asyncua: what another session has not yet got is not to be acknowledged for it."""
        own, results = self._own(), []
        if not own:
            raise ServiceError(_codes.BadNoSubscription)
        for ack in acks or []:
            found = own.get(ack.SubscriptionId)
            if found is None:
                code = _codes.BadSubscriptionIdInvalid
            elif found._not_acknowledged_results.pop(ack.SequenceNumber, None) is None:
                code = _codes.BadSequenceNumberUnknown
            else:
                code = _codes.Good
            results.append(ua.StatusCode(code))
        return len(own), results

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """See asyncua, which answers with an empty message instead of saying that there is none."""
        found = self._own().get(params.SubscriptionId)
        if found is None:
            raise ServiceError(_codes.BadSubscriptionIdInvalid)
        if params.RetransmitSequenceNumber not in found._not_acknowledged_results:
            raise ServiceError(_codes.BadMessageNotAvailable)
        return found._not_acknowledged_results[params.RetransmitSequenceNumber].NotificationMessage

    async def transfer_subscriptions(
        self,
        params: ua.TransferSubscriptionsParameters,
        callback: Structure,
    ) -> list[ua.TransferResult]:
        """See asyncua. Only from a session of the same user, or from one that has ended."""
        for identifier in params.SubscriptionIds:
            found = self.subscription_service.subscriptions.get(identifier)
            holder = next(
                (s for s in self.iserver._external_sessions.values() if found and s.session_id == found.session_id),
                None,
            )
            if holder is not None and holder.user.name != self.user.name:
                raise ServiceError(_codes.BadUserAccessDenied)
        results = list(await super().transfer_subscriptions(params, callback))
        for identifier in params.SubscriptionIds:
            found = self._own().get(identifier)
            if found is not None:
                # asyncua would go on taking publish requests from the connection that is gone.
                found.pub_request_callback = callback.__self__.get_publish_request
        return results

    def _own(self) -> dict[int, Any]:
        known = self.subscription_service.subscriptions
        return {key: found for key, found in known.items() if found.session_id == self.session_id}

    def _service(self, identifier: int) -> Structure:
        found = self._own().get(identifier)
        if found is None:
            raise ServiceError(_codes.BadSubscriptionIdInvalid)
        return found.monitored_item_srv


def _event_items(subscriptions: Iterable[Structure]) -> list[Structure]:
    return [
        item
        for subscription in subscriptions
        for item in subscription.monitored_item_srv._monitored_items.values()
        if item.where_clause_evaluator is not None
    ]


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """What one client has broken is its own subscription: it gets no keep-alive any more."""
    if not task.cancelled() and task.exception() is not None:
        log_event(_LOG, "subscription_broke", level="error", error=task.exception())
