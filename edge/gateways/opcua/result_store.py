"""The results that can still be asked for, and the methods that ask."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from asyncua import Node, Server, ua

from edge.gateways.opcua.methods import MethodError, bind, error, null_structure, structure
from edge.gateways.opcua.nodesets import Namespaces, Structure, children_by_name
from edge.gateways.opcua.typed import Typed, result_id
from edge.gateways.results import Result

MOST_LISTED = 100
"""A list is an answer of one message."""
_types = ua.VariantType
COMPONENTS: tuple[tuple[str, ua.VariantType], ...] = (
    ("IsPartial", _types.Boolean),
    ("IsSimulated", _types.Boolean),
    ("ResultState", _types.Int32),
    ("MeasId", _types.ExtensionObject),
    ("PartId", _types.ExtensionObject),
    ("ExternalRecipeId", _types.ExtensionObject),
    ("InternalRecipeId", _types.ExtensionObject),
    ("ProductId", _types.ExtensionObject),
    ("ExternalConfigurationId", _types.ExtensionObject),
    ("InternalConfigurationId", _types.ExtensionObject),
    ("JobId", _types.ExtensionObject),
    ("CreationTime", _types.DateTime),
    ("ProcessingTimes", _types.ExtensionObject),
)


class ResultStore:
    """The last results, as they were when they came: `Accept` may have been withdrawn since. The gate asks the handshake."""

    def __init__(self, server: Server, names: Namespaces, typed: Typed, session: int, room: int) -> None:
        self._server, self._names, self._typed, self._session, self._room = server, names, typed, session, room
        self._kept: OrderedDict[str, Result] = OrderedDict()
        self._handle = 0

    def put(self, result: Result) -> None:
        """Keep it, and forget the oldest if there is no room."""
        self._kept[result_id(result, self._session)] = result
        if len(self._kept) > self._room:
            self._kept.popitem(last=False)

    async def build(self, vision: Node) -> None:
        """Bind the methods."""
        management = self._server.get_node((await children_by_name(vision))["ResultManagement"])
        methods, types = await children_by_name(management), self._names.types
        by_id = [types.ResultIdDataType, _types.Int32]
        bind(self._server, methods["GetResultById"], self._by_id, by_id)
        bind(self._server, methods["GetResultComponentsById"], self._components, by_id)
        bind(self._server, methods["ReleaseResultHandle"], self._release, [_types.UInt32])
        filters = [
            _types.Int32,
            types.MeasIdDataType,
            types.PartIdDataType,
            types.RecipeIdExternalDataType,
            types.RecipeIdInternalDataType,
            types.ConfigurationIdDataType,
            types.ConfigurationIdDataType,
            types.ProductIdDataType,
            types.JobIdDataType,
            _types.UInt32,
            _types.UInt32,
            _types.Int32,
        ]
        bind(self._server, methods["GetResultListFiltered"], self._filtered, filters)

    async def _by_id(self, wanted: Structure, _timeout: int) -> list[ua.Variant]:
        result = self._kept.get(wanted.Id if wanted is not None else "")
        if result is None:
            return [_handle(0), null_structure(), error(MethodError.UNKNOWN_RESULT)]
        return [self._next_handle(), structure(self._typed.result(result)), error(MethodError.NONE)]

    async def _components(self, wanted: Structure, _timeout: int) -> list[ua.Variant]:
        result = self._kept.get(wanted.Id if wanted is not None else "")
        no_file = ua.Variant(False, _types.Boolean)
        if result is None:
            blank = [ua.Variant(None, _types.Null) for _ in COMPONENTS]
            return [no_file, _handle(0), *blank, _content([]), error(MethodError.UNKNOWN_RESULT)]
        fields = self._typed.fields(result)
        values = [ua.Variant(fields[name], kind) for name, kind in COMPONENTS]
        content = _content(self._typed.content(result))
        return [no_file, self._next_handle(), *values, content, error(MethodError.NONE)]

    async def _filtered(  # the specification's
        self,
        state: int,
        meas: Structure,
        part: Structure,
        external: Structure,
        internal: Structure,
        external_configuration: Structure,
        configuration: Structure,
        product: Structure,
        job: Structure,
        most: int,
        start: int,
        _timeout: int,
    ) -> list[ua.Variant]:
        wanted = {
            "MeasId": meas,
            "PartId": part,
            "ExternalRecipeId": external,
            "InternalRecipeId": internal,
            "ExternalConfigurationId": external_configuration,
            "InternalConfigurationId": configuration,
            "ProductId": product,
            "JobId": job,
        }
        wanted = {name: value for name, value in wanted.items() if value is not None and value.Id}
        found = [result for result in reversed(self._kept.values()) if self._suits(result, state, wanted)]
        shown = found[start : start + min(most or MOST_LISTED, MOST_LISTED)]
        complete = start + len(shown) >= len(found)
        return [
            ua.Variant(complete, _types.Boolean),
            ua.Variant(len(shown), _types.UInt32),
            self._next_handle(),
            ua.Variant([self._typed.result(result) for result in shown], _types.ExtensionObject, is_array=True),
            error(MethodError.NONE),
        ]

    def _suits(self, result: Result, state: int, wanted: dict[str, Any]) -> bool:
        """Whether a result is asked for; a state of 0 and a filter without an id take any."""
        if not state and not wanted:
            return True
        fields = self._typed.fields(result)
        if state and fields["ResultState"] != state:
            return False
        for name, value in wanted.items():
            found = fields[name]
            version = getattr(value, "Version", None)
            if found is None or found.Id != value.Id or (version and getattr(found, "Version", None) != version):
                return False
        return True

    async def _release(self, _wanted: int) -> list[ua.Variant]:
        """A handle holds nothing here: results are copies."""
        return [error(MethodError.NONE)]

    def _next_handle(self) -> ua.Variant:
        self._handle = self._handle % 0xFFFF_FFFF + 1
        return _handle(self._handle)


def _handle(number: int) -> ua.Variant:
    return ua.Variant(number, _types.UInt32)


def _content(values: list[ua.Variant]) -> ua.Variant:
    return ua.Variant(values, _types.Variant, is_array=True)
