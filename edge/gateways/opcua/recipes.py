"""Recipe management: which recipes a PLC may ask for, and asking for one."""

from __future__ import annotations

import asyncio
import time

from asyncua import Node, Server, ua

from edge.gateways.codes import RecipeStatus
from edge.gateways.image import Image
from edge.gateways.link import Link
from edge.gateways.opcua.events import RECIPE_PREPARED, Events
from edge.gateways.opcua.handshake_nodes import HandshakeNodes
from edge.gateways.opcua.machine import MachineNodes
from edge.gateways.opcua.methods import MethodError, MethodRefused, bind, error, null_structure, refuse, structure
from edge.gateways.opcua.nodesets import Namespaces, Structure, children_by_name
from edge.gateways.opcua.states import Method
from edge.gateways.opcua.typed import Typed
from edge.gateways.settings import RecipeNumber

LOOK_AGAIN_S = 0.01
LONGEST_WAIT_S = 1.0
"""A connection's next message waits for the answer: the PLC's heartbeat too."""
DONT_CARE = 2
_types = ua.VariantType
OUTCOMES = {
    RecipeStatus.ACTIVE: MethodError.NONE,
    RecipeStatus.UNKNOWN_NUMBER: MethodError.UNKNOWN_RECIPE,
    RecipeStatus.FAILED: MethodError.RECIPE_FAILED,
}


class RecipeNodes:
    """The recipes of the gateway's file."""

    def __init__(
        self,
        server: Server,
        names: Namespaces,
        link: Link,
        handshake: HandshakeNodes,
        machine: MachineNodes,
        events: Events,
        typed: Typed,
    ) -> None:
        self._server, self._names, self._link, self._machine = server, names, link, machine
        self._handshake, self._events, self._typed = handshake, events, typed
        self._recipes = link.settings.recipes
        heartbeat_s = link.settings.plc.heartbeat_ms / 1000
        self._wait_s = min(LONGEST_WAIT_S, heartbeat_s / 4 or LONGEST_WAIT_S)
        self._announced: RecipeNumber | None = None

    async def build(self, vision: Node) -> None:
        """Make an entry for each recipe, and bind the methods."""
        management = self._server.get_node((await children_by_name(vision))["RecipeManagement"])
        methods, types = await children_by_name(management), self._names.types
        ids = [types.RecipeIdExternalDataType, types.RecipeIdInternalDataType]
        bind(self._server, methods["PrepareRecipe"], self._prepare, ids)
        bind(self._server, methods["PrepareProduct"], self._prepare_product, [types.ProductIdDataType])
        bind(self._server, methods["ReleaseRecipeHandle"], self._release, [_types.UInt32])
        filters = [
            types.RecipeIdExternalDataType, types.ProductIdDataType, _types.Int32, _types.UInt32, _types.UInt32, _types.Int32,
        ]  # fmt: skip
        bind(self._server, methods["GetRecipeListFiltered"], self._filtered, filters)
        for name in ("AddRecipe", "RemoveRecipe", "UnlinkProduct", "UnprepareProduct", "UnprepareRecipe"):
            await refuse(self._server, methods[name])
        folder = self._server.get_node(methods["Recipes"])
        for recipe in self._recipes:
            await self._add(folder, recipe)

    async def _add(self, folder: Node, recipe: RecipeNumber) -> None:
        names, key = self._names, f"Recipes.{recipe.number}"
        external, internal = self._typed.recipe(recipe)
        made = await folder.add_object(names.own_id(key), names.own_name(f"{recipe.number} {recipe.product}"))
        for name, value in (("ExternalId", external), ("InternalId", internal)):
            await made.add_property(
                names.own_id(f"{key}.{name}"), names.vision_name(name), structure(value), datatype=value.data_type
            )
        await made.add_property(names.own_id(f"{key}.Number"), names.own_name("Number"), recipe.number, _types.UInt16)

    async def update(self) -> None:
        """Announce a recipe that has become active."""
        active = self._active(self._link.image())
        if active is self._announced:
            return
        self._announced = active
        if active is not None:
            external, internal = self._typed.recipe(active)
            product = self._names.types.ProductIdDataType(Id=active.product)
            fields = {"ExternalId": external, "InternalId": internal, "ProductId": product}
            await self._events.send(RECIPE_PREPARED, f"recipe {active.number}: {active.product}", fields)

    def _active(self, image: Image) -> RecipeNumber | None:
        return next((recipe for recipe in self._recipes if recipe.number == image.recipe_number), None)

    def _find(self, external: Structure, internal: Structure) -> RecipeNumber | None:
        """The one recipe that is asked for, by product and revision, or by number; None if it is none, or several."""
        found = list(self._recipes)
        if external is not None and external.Id:
            found = [r for r in found if r.product == external.Id and external.Version in (None, "", str(r.revision))]
        if internal is not None and internal.Id:
            found = [r for r in found if str(r.number) == internal.Id]
        is_named = any(given is not None and given.Id for given in (external, internal))
        return found[0] if is_named and len(found) == 1 else None

    async def _prepare(self, external: Structure, internal: Structure) -> list[ua.Variant]:
        self._machine.demand(Method.PREPARE)
        recipe = self._find(external, internal)
        self._handshake.claim()
        no = ua.Variant(False, _types.Boolean)
        if recipe is None:
            return [null_structure(), no, error(MethodError.UNKNOWN_RECIPE)]
        status = await self._change(recipe)
        outcome = OUTCOMES.get(status, MethodError.NONE)
        is_done = ua.Variant(status is RecipeStatus.ACTIVE, _types.Boolean)
        shown = structure(self._typed.recipe(recipe)[1]) if outcome is MethodError.NONE else null_structure()
        return [shown, is_done, error(outcome)]

    async def _prepare_product(self, product: Structure) -> list[ua.Variant]:
        if product is None or not product.Id:
            raise MethodRefused(ua.StatusCodes.BadInvalidArgument)
        external = self._names.types.RecipeIdExternalDataType(Id=product.Id)
        internal, _, code = await self._prepare(external, None)
        return [internal, code]

    async def _change(self, recipe: RecipeNumber) -> RecipeStatus:
        """Ask for it, and wait a little for what becomes of it."""
        if (
            self._link.image().recipe_wanted == recipe.number
            and self._link.image().recipe_status is RecipeStatus.FAILED
        ):
            # The same number is no new wish.
            self._link.want_recipe(0)
        self._link.want_recipe(recipe.number)
        end = time.monotonic() + self._wait_s
        while self._link.image().recipe_status is RecipeStatus.CHANGING and time.monotonic() < end:
            await asyncio.sleep(LOOK_AGAIN_S)
        return self._link.image().recipe_status

    async def _filtered(
        self,
        external: Structure,
        product: Structure,
        prepared: int,
        most: int,
        start: int,
        _timeout: int,
    ) -> list[ua.Variant]:
        image = self._link.image()
        active = self._active(image)
        found = [
            recipe
            for recipe in self._recipes
            if (external is None or not external.Id or external.Id == recipe.product)
            and (product is None or not product.Id or product.Id == recipe.product)
            and (prepared == DONT_CARE or bool(prepared) == (recipe is active))
        ]
        shown = found[start : start + most] if most else found[start:]
        return [
            ua.Variant(start + len(shown) >= len(found), _types.Boolean),
            ua.Variant(len(shown), _types.UInt32),
            ua.Variant(0, _types.UInt32),
            ua.Variant([self._typed.recipe(r)[1] for r in shown], _types.ExtensionObject, is_array=True),
            error(MethodError.NONE),
        ]

    async def _release(self, _wanted: int) -> list[ua.Variant]:
        return [error(MethodError.NONE)]
