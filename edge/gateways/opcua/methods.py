"""Methods: arguments checked before anything is done, and a status instead of a stack trace."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TypeAlias

from asyncua import Server, ua

from edge.gateways.opcua.nodesets import Structure
from edge.logs import log_event

_LOG = logging.getLogger("linegate.gateway.opcua")
Handler = Callable[..., Awaitable[list[ua.Variant]]]
Argument: TypeAlias = Structure
"""A built-in type, or the class of a structure."""


class MethodError(IntEnum):
    """The `Error` that OPC 40100-1's methods return: 0 is none; those below 0 are an application's own."""

    NONE = 0
    NOT_READY = -1
    UNKNOWN_RECIPE = -2
    RECIPE_FAILED = -3
    NO_ANSWER = -4
    UNKNOWN_RESULT = -5
    NOT_SUPPORTED = -6
    REFUSED = -7


class MethodRefused(Exception):  # noqa: N818 - what has happened
    """The method may not be called so, or now."""

    def __init__(self, code: int) -> None:
        super().__init__(hex(code))
        self.code = code


def error(code: MethodError) -> ua.Variant:
    """The last output of most methods."""
    return ua.Variant(int(code), ua.VariantType.Int32)


def bind(server: Server, method: ua.NodeId, handler: Handler, arguments: Sequence[Argument]) -> None:
    """Answer a method.

    Args:
        server: whose it is.
        method: its node.
        handler: is given the plain values of the inputs, None for a null structure; returns the outputs.
        arguments: a built-in type, or the class of a structure, for each input.
    """

    async def call(_parent: ua.NodeId, *given: ua.Variant) -> ua.CallMethodResult:
        result = ua.CallMethodResult()
        values = [_plain(variant) for variant in given]
        checks = [_check(*each) for each in zip(given, values, arguments, strict=False)]
        if len(given) != len(arguments):
            few = len(given) < len(arguments)
            code = ua.StatusCodes.BadArgumentsMissing if few else ua.StatusCodes.BadTooManyArguments
            result.StatusCode = ua.StatusCode(code)
        elif not all(check.is_good() for check in checks):
            result.StatusCode, result.InputArgumentResults = ua.StatusCode(ua.StatusCodes.BadInvalidArgument), checks
        else:
            try:
                result.OutputArguments = await handler(*values)
            except MethodRefused as refused:
                result.StatusCode = ua.StatusCode(refused.code)
            except Exception as broken:  # noqa: BLE001 - a fault of ours is said in the log, and to the client as a status
                log_event(_LOG, "method_broke", level="error", error=broken, method=method.to_string())
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadInternalError)
        return result

    server.iserver.isession.add_method_callback(method, call)


async def refuse(server: Server, method: ua.NodeId) -> None:
    """Answer that a method is not supported."""

    async def call(_parent: ua.NodeId, *_given: ua.Variant) -> ua.StatusCode:
        return ua.StatusCode(ua.StatusCodes.BadNotSupported)

    server.iserver.isession.add_method_callback(method, call)


def _plain(variant: ua.Variant) -> Structure:
    """The value; asyncua has a null structure come as an empty wrapper."""
    value = variant.Value
    return None if isinstance(value, ua.ExtensionObject) and value.TypeId.is_null() else value


def _check(variant: ua.Variant, value: object, wanted: Argument) -> ua.StatusCode:
    good = ua.StatusCode(ua.StatusCodes.Good)
    bad = ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
    if not isinstance(wanted, ua.VariantType):
        return good if value is None or isinstance(value, wanted) else bad
    if wanted is ua.VariantType.Variant:
        return good
    if variant.is_array or variant.VariantType != wanted:
        return bad
    nullable = (ua.VariantType.String, ua.VariantType.LocalizedText)
    return good if value is not None or wanted in nullable else bad


def null_structure() -> ua.Variant:
    """An output that there is nothing to say in."""
    return ua.Variant(None, ua.VariantType.ExtensionObject)


def structure(value: Structure) -> ua.Variant:
    """A structure as an output."""
    return ua.Variant(value, ua.VariantType.ExtensionObject)
