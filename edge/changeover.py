"""From one recipe to another while the line runs: prepare beside the running one, activate between two triggers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edge.bus.messages import Mode
from edge.engines.base import Engine
from edge.errors import ControlError, RecipeError
from edge.intake import Intake
from edge.job import Job
from edge.logs import log_event
from edge.recipe import Recipe, revisions
from edge.trust import Memory, Trust

ACTIVE = "active recipe"
_LOG = logging.getLogger("linegate.changeover")


class ActiveRecipe(msgspec.Struct, frozen=True):
    """What was active last (`folder` empty: no recipe), and what the station file named then."""

    folder: str
    recipe_hash: str
    configured: str
    mode: Mode


def warm_up(engine: Engine, recipe: Recipe) -> None:
    """Run once, so that the first part does not pay for what is prepared lazily.

    Raises:
        EngineError: the engine fails, or does not take this bank.
    """
    height, width = engine.package.info.encoder.input_size
    engine.match(engine.encode(np.zeros((1, height, width, 3), np.uint8)), recipe.bank)


class Changeover:
    """The only one that changes what the next trigger is judged with."""

    def __init__(
        self,
        intake: Intake,
        trust: Trust,
        memory: Memory,
        *,
        load: Callable[[Path], Recipe],
        engine: Callable[[], Engine],
        job: Callable[[Recipe | None, Mode], Job],
        check: Callable[[Recipe], None],
        on_change: Callable[[Job], None],
        root: Path | None,
        configured: str,
    ) -> None:
        self._intake, self._trust, self._memory, self._load = intake, trust, memory, load
        self._engine, self._job, self._check, self._on_change = engine, job, check, on_change
        self._root, self._configured = root, configured
        self._prepared: Recipe | None = None
        self._lock = threading.Lock()

    @property
    def prepared_hash(self) -> str:
        """Of the recipe that waits to be activated; empty if none does."""
        prepared = self._prepared
        return "" if prepared is None else prepared.recipe_hash

    def prepare(self, product: str, revision: int | None) -> Recipe:
        """Load, verify and warm a recipe; the running one goes on.

        Raises:
            ControlError: there is no folder of recipes.
            RecipeError, SecurityError, CameraError, EngineError: this recipe can't be used here.
        """
        if self._root is None:
            raise ControlError("this station has no folder of recipes", "Set recipe.root in the station file.")
        recipe = self._load(self._folder(self._root / product, revision))
        if recipe.info.product != product:
            raise RecipeError(
                f"{recipe.folder} holds a recipe for {recipe.info.product}, not {product}", "Restore the folder's name."
            )
        if revision is not None and recipe.info.revision != revision:
            raise RecipeError(
                f"{recipe.folder} holds revision {recipe.info.revision}, not {revision}", "Restore the folder's name."
            )
        self._check(recipe)
        warm_up(self._engine(), recipe)
        with self._lock:
            self._prepared = recipe
        log_event(_LOG, "recipe_prepared", product=product, revision=recipe.info.revision, recipe=recipe.recipe_hash)
        return recipe

    @staticmethod
    def _folder(product: Path, revision: int | None) -> Path:
        if revision is None:
            return product
        found = next((folder for folder in revisions(product) if int(folder.name) == revision), None)
        if found is None:
            raise RecipeError(f"{product} has no revision {revision}", "Name one that is there.")
        return found

    def activate(self, recipe_hash: str) -> tuple[Recipe, int]:
        """Judge with the prepared recipe; returns it and the first trigger that is judged so.

        Raises:
            ControlError: no recipe with this hash is prepared, or the disk does not take that it is active.
            SecurityError: likewise.
        """
        with self._lock:
            recipe = self._prepared
            if recipe is None or recipe.recipe_hash != recipe_hash:
                raise ControlError(f"no recipe {recipe_hash[:12]} is prepared", "Prepare it first.")
            self._trust.note_active(f"recipe {recipe.info.product}", recipe.recipe_hash)
            first = self._change(recipe, self._intake.job.mode)
            self._prepared = None
        return recipe, first

    def set_mode(self, mode: Mode) -> int:
        """Judge, or only observe; returns the first trigger that is judged so."""
        with self._lock:
            return self._change(self._intake.job.recipe, mode)

    def _change(self, recipe: Recipe | None, mode: Mode) -> int:
        job = self._job(recipe, mode)
        # Remembered first: if the process dies in between, the next one comes up with what was asked for.
        folder, recipe_hash = ("", "") if recipe is None else (str(recipe.folder), recipe.recipe_hash)
        active = ActiveRecipe(folder, recipe_hash, self._configured, mode)
        if not self._memory.remember(ACTIVE, msgspec.json.encode(active).decode()) and mode is Mode.JUDGE:
            # A station that came up again with what was active before would judge with the wrong recipe. To observe is safe.
            raise ControlError(
                "what is to be active cannot be kept over a restart", "Free some space in the journal's folder."
            )
        self._on_change(job)
        first = self._intake.change(job)
        fields = job.provenance
        log_event(
            _LOG,
            "job_changed",
            product=fields.product,
            revision=fields.recipe_revision,
            recipe=fields.recipe_hash,
            mode=mode.value,
            first_trigger_seq=first,
        )
        return first
