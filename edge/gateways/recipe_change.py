"""The recipe that a PLC wants, and what became of that."""

from __future__ import annotations

from collections.abc import Sequence

from edge.bus.messages import StateMessage
from edge.gateways.codes import RecipeStatus
from edge.gateways.settings import RecipeNumber
from edge.gateways.wishes import RecipeWish


class RecipeChange:
    """One wish at a time; a new one replaces the last. 0 is no wish: whatever is active will do."""

    def __init__(self, recipes: Sequence[RecipeNumber], patience_ns: int) -> None:
        """No wish; one that has not come true after `patience_ns` has failed."""
        self._recipes, self._patience_ns = recipes, patience_ns
        self._wish: RecipeWish | None = None
        self._hash, self._since_ns, self._is_first = "", 0, True
        self.wanted = 0
        self.status = RecipeStatus.NONE

    def number_of(self, product: str, revision: int) -> int:
        """The PLC's number of a recipe; 0 if it has none."""
        for known in self._recipes:
            if known.product == product and known.revision in (None, revision):
                return known.number
        return 0

    def want(self, number: int, active: StateMessage | None, now_ns: int) -> RecipeWish | None:
        """The PLC has written this number; returns what to ask of the station, if anything."""
        if number == self.wanted:
            return None
        is_first, self._is_first = self._is_first, False
        known = next((recipe for recipe in self._recipes if recipe.number == number), None)
        self.wanted, self._wish, self._hash = number, None, ""
        if number == 0:
            self.status = RecipeStatus.NONE
        elif known is None:
            self.status = RecipeStatus.UNKNOWN_NUMBER
        elif self._is_active(number, active) and (is_first or known.revision is not None):
            # A PLC that writes in cycles must not stop the line, nor get another revision, when its gateway was restarted.
            self.status = RecipeStatus.ACTIVE
        else:
            self.status = RecipeStatus.CHANGING
            self._wish, self._since_ns = RecipeWish(number, known.product, known.revision, now_ns), now_ns
        return self._wish

    def waits_for(self, wish: RecipeWish) -> bool:
        """Whether this is what the PLC wants and has not got yet."""
        return wish is self._wish

    def changed(self, wish: RecipeWish, recipe_hash: str) -> None:
        """The station has answered that it judges with this recipe from now on."""
        if wish is self._wish:
            self._hash = recipe_hash

    def failed(self, wish: RecipeWish) -> None:
        """The station has refused."""
        if wish is self._wish:
            self.status, self._wish = RecipeStatus.FAILED, None

    def settle(self, active: StateMessage | None, now_ns: int, *, is_there: bool) -> None:
        """A wish has come true when the feed says so: until then verdicts of the last recipe may come.

        Args:
            active: what the station judges with.
            now_ns: the time.
            is_there: whether the station can do anything: its time counts only then.
        """
        if not is_there:
            self._since_ns = now_ns
        if self._wish is None:
            return
        if self._hash and active is not None and active.recipe_hash == self._hash:
            self.status, self._wish = RecipeStatus.ACTIVE, None
        elif now_ns - self._since_ns > self._patience_ns:
            # No answer is none: whether it was done is what the feed says.
            self.status = RecipeStatus.ACTIVE if self._is_active(self.wanted, active) else RecipeStatus.FAILED
            self._wish = None

    def differs(self, active: StateMessage) -> bool:
        """Whether another recipe is active than the PLC wants."""
        is_other = self.wanted != 0 and not self._is_active(self.wanted, active)
        return is_other or self.status is RecipeStatus.FAILED

    def _is_active(self, number: int, active: StateMessage | None) -> bool:
        return active is not None and number == self.number_of(active.product, active.recipe_revision)
