"""The companion specifications' nodes and types, as they are loaded into a server."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from asyncua import Node, Server, ua

MACHINE_VISION_URI = "http://opcfoundation.org/UA/MachineVision"
RESULT_URI = "http://opcfoundation.org/UA/Machinery/Result/"
OWN_URI = "urn:linegate:gateway"
FOLDER = Path(__file__).parent / "nodesets"
# The default values of the abstract results nest structures that asyncua's importer cannot resolve; they hold nothing.
BINARY_ID_BASE = 3019
HEIRS = (3002, 3013, 3008)
"""RecipeIdExternalDataType, RecipeIdInternalDataType, ConfigurationIdDataType."""
UNREADABLE_VALUE = re.compile(r"<Value>(?:(?!</Value>).)*<ResultMetaData>.*?</Value>", re.DOTALL)


Structure: TypeAlias = Any
"""An object of a class that asyncua makes at run time, or one of asyncua's own without a usable type."""


class Types:
    """Classes of the structures, by name: `types.ResultDataType(...)`.

    asyncua also binds the classes to names in its module `ua`, where two specifications that use the same name collide.
    """

    def __init__(self, classes: dict[str, Any]) -> None:
        self._classes = classes

    def __getattr__(self, name: str) -> Structure:
        return self._classes[name]


@dataclass(frozen=True)
class Namespaces:
    """Where things are: namespace indices, and the node ids of Machine Vision's types."""

    vision: int
    result: int
    own: int
    types: Types

    def vision_type(self, identifier: int) -> ua.NodeId:
        """A node of the Machine Vision specification."""
        return ua.NodeId(identifier, self.vision)

    def own_id(self, name: str) -> ua.NodeId:
        """A node of ours: `ns=X;s=name`."""
        return ua.NodeId(name, self.own)

    def own_name(self, name: str) -> ua.QualifiedName:
        """A browse name of ours."""
        return ua.QualifiedName(name, self.own)

    def vision_name(self, name: str) -> ua.QualifiedName:
        """A browse name of the Machine Vision specification."""
        return ua.QualifiedName(name, self.vision)


async def load_nodesets(server: Server) -> Namespaces:
    """Load both specifications, and our own namespace after them."""
    logger = logging.getLogger("asyncua")
    level = logger.level
    # It warns of each name that both specifications use; `Types` is there because of them.
    logger.setLevel(logging.ERROR)
    try:
        return await _load(server)
    finally:
        logger.setLevel(level)


async def _load(server: Server) -> Namespaces:
    # Machine Vision first: the importer reads its values with the classes bound to plain names, and first come is bound.
    await server.import_xml(FOLDER / "Opc.Ua.MachineVision.NodeSet2.xml")
    text = (FOLDER / "Opc.Ua.Machinery_Result.NodeSet2.xml").read_text(encoding="utf-8")
    await server.import_xml(xmlstring=UNREADABLE_VALUE.sub("", text))
    own = await server.register_namespace(OWN_URI)
    vision = await server.get_namespace_index(MACHINE_VISION_URI)
    for number in HEIRS:
        await _register_heir(server, ua.NodeId(number, vision), ua.NodeId(BINARY_ID_BASE, vision))
    classes = {
        found.__name__: found
        for node_id, found in ua.extension_objects_by_datatype.items()
        if node_id.NamespaceIndex == vision
    }
    return Namespaces(vision, await server.get_namespace_index(RESULT_URI), own, Types(classes))


async def _register_heir(server: Server, data_type: ua.NodeId, base: ua.NodeId) -> None:
    """Make a structure of one that adds nothing to its supertype.

    asyncua's importer takes it for a simple type, which could only be sent inside of another structure, and shows clients a
    definition without the inherited fields.
    """
    node = server.get_node(data_type)
    name = (await node.read_browse_name()).Name
    inherited = await server.get_node(base).read_data_type_definition()
    encodings = await node.get_referenced_nodes(ua.ObjectIds.HasEncoding, ua.BrowseDirection.Forward)
    names = {(await encoding.read_browse_name()).Name: encoding.nodeid for encoding in encodings}
    encoding = names["Default Binary"]
    await node.write_data_type_definition(
        ua.StructureDefinition(encoding, base, inherited.StructureType, inherited.Fields)
    )
    if data_type not in ua.extension_objects_by_datatype:
        made = type(name, (ua.extension_objects_by_datatype[base],), {"__slots__": (), "data_type": data_type})
        ua.register_extension_object(name, encoding, made, data_type)


async def children_by_name(node: Node) -> dict[str, ua.NodeId]:
    """The ids of a node's children, by their browse names."""
    descriptions = await node.get_children_descriptions()
    return {description.BrowseName.Name: description.NodeId for description in descriptions}
