"""Results and their names as the structures of OPC 40100-1."""

from __future__ import annotations

import datetime
from typing import Any

from asyncua import ua

from edge.bus.messages import VerdictMessage
from edge.gateways.codes import JudgementCode
from edge.gateways.opcua.nodesets import Namespaces, Structure
from edge.gateways.results import Result
from edge.gateways.settings import RecipeNumber

COMPLETED, ABORTED = 1, 3
"""Of ResultState: how far the processing came. Whether the part is good is the ResultEvaluation."""
SYNTHETIC_JOB = "line"
CONTENT: tuple[tuple[str, ua.VariantType], ...] = (
    ("ResultNumber", ua.VariantType.UInt16),
    ("ResultEvaluation", ua.VariantType.Int32),
    ("Accept", ua.VariantType.Boolean),
    ("Reason", ua.VariantType.UInt16),
    ("Score", ua.VariantType.Double),
    ("Threshold", ua.VariantType.Double),
    ("RegionCount", ua.VariantType.UInt32),
    ("Box", ua.VariantType.UInt32),
    ("BoxArea", ua.VariantType.UInt32),
    ("StationEpoch", ua.VariantType.UInt64),
    ("StationSequence", ua.VariantType.UInt32),
    ("TriggerNumber", ua.VariantType.UInt16),
    ("RecipeNumber", ua.VariantType.UInt16),
    ("LatencyMicroseconds", ua.VariantType.UInt32),
    ("PartIdText", ua.VariantType.String),
)
"""What a result says beyond the standard: fields of the event, and in this order the result's ResultContent.

Box is x, y, width, height. PartIdText is PartId for a client that does not decode structures.
"""
EVALUATIONS = {
    JudgementCode.NONE: 0,
    JudgementCode.OK: 1,
    JudgementCode.NOT_OK: 2,
    JudgementCode.NOT_DECIDABLE: 3,
}
"""Machinery/Result's ResultEvaluationEnum."""


def content(result: Result) -> dict[str, Any]:
    """The values of CONTENT."""
    return {
        "ResultNumber": result.number,
        "ResultEvaluation": EVALUATIONS[result.judgement],
        "Accept": result.accept,
        "Reason": int(result.reason),
        "Score": result.score,
        "Threshold": result.threshold,
        "RegionCount": result.region_count,
        "Box": list(result.box),
        "BoxArea": result.area_px,
        "StationEpoch": result.epoch,
        "StationSequence": result.seq,
        "TriggerNumber": result.trigger_number,
        "RecipeNumber": result.recipe_number,
        "LatencyMicroseconds": result.latency_us,
        "PartIdText": result.part_id,
    }


def result_id(result: Result, session: int) -> str:
    """Never the same for two results: a verdict's epoch and number; a stand-in's session and number, and when it was made."""
    if result.message is not None:
        return f"{result.epoch}-{result.seq}"
    return f"gateway-{session}-{result.number}-{result.arrived_ns}"


def job_id(result: Result) -> str:
    """The job that it belongs to: that of its trigger, or the continuous one."""
    trigger = "" if result.message is None else result.message.trigger_id
    return trigger or SYNTHETIC_JOB


class Typed:
    """Makes the structures."""

    def __init__(self, names: Namespaces, session: int) -> None:
        """Make it.

        Args:
            names: the classes of the structures.
            session: of the gateway's run.
        """
        self.types, self._session = names.types, session

    def fields(self, result: Result) -> dict[str, Any]:
        """The fields that the event and ResultDataType have in common, by their standard names."""
        types, message = self.types, result.message
        came = _when(message)
        began = came - datetime.timedelta(microseconds=result.latency_us)
        return {
            "ResultId": types.ResultIdDataType(Id=result_id(result, self._session)),
            "IsPartial": False,
            "IsSimulated": result.is_simulated,
            "ResultState": COMPLETED if message is not None else ABORTED,
            "MeasId": types.MeasIdDataType(Id=str(result.trigger_seq)),
            "PartId": types.PartIdDataType(Id=result.part_id),
            "ExternalRecipeId": self._external(message),
            "InternalRecipeId": self._internal(result),
            "ProductId": types.ProductIdDataType(Id="" if message is None else message.product),
            "ExternalConfigurationId": None,
            "InternalConfigurationId": types.ConfigurationIdDataType(Id="" if message is None else message.config_hash),
            "JobId": types.JobIdDataType(Id=job_id(result)),
            "CreationTime": came,
            "ProcessingTimes": types.ProcessingTimesDataType(
                StartTime=began, EndTime=came, ProcessingDuration=result.latency_us / 1000
            ),
        }

    def content(self, result: Result) -> list[ua.Variant]:
        """The ResultContent."""
        values = content(result)
        return [
            ua.Variant(values[name], kind) if values[name] is not None else ua.Variant(None, ua.VariantType.Null)
            for name, kind in CONTENT
        ]

    def result(self, result: Result) -> Structure:
        """The whole ResultDataType."""
        return self.types.ResultDataType(
            HasTransferableDataOnFile=False, ResultContent=self.content(result), **self.fields(result)
        )

    def recipe(self, recipe: RecipeNumber) -> tuple[Any, Any]:
        """A PLC's recipe: its external and its internal id."""
        version = None if recipe.revision is None else str(recipe.revision)
        return (
            self.types.RecipeIdExternalDataType(Id=recipe.product, Version=version),
            self.types.RecipeIdInternalDataType(Id=str(recipe.number), Version=version),
        )

    def _external(self, message: VerdictMessage | None) -> Structure:
        if message is None or not message.product:
            return None
        return self.types.RecipeIdExternalDataType(
            Id=message.product,
            Version=str(message.recipe_revision),
            Hash=_unhex(message.recipe_hash),
            HashAlgorithm="SHA-256",
        )

    def _internal(self, result: Result) -> Structure:
        return self.types.RecipeIdInternalDataType(Id=str(result.recipe_number) if result.recipe_number else "")


def _when(message: VerdictMessage | None) -> datetime.datetime:
    if message is None:
        return datetime.datetime.now(datetime.timezone.utc)
    micros = message.trigger_wall_us + message.latency_us
    try:
        return datetime.datetime.fromtimestamp(micros / 1e6, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return datetime.datetime.now(datetime.timezone.utc)


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
