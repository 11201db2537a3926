"""What a station is made of, from its file. Every failure here is a LinegateError and leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge import SOFTWARE_VERSION
from edge.bus.messages import Mode, Provenance
from edge.cameras.base import Camera
from edge.cameras.replay import ReplayCamera
from edge.changeover import ACTIVE, ActiveRecipe
from edge.engines.base import Engine
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import Package
from edge.errors import CameraError, RecipeError
from edge.job import Job
from edge.journal.journal import Journal
from edge.journal.off import NoJournal
from edge.logs import log_event
from edge.recipe import Recipe
from edge.station import CameraSettings, JournalSettings, Station, config_hash
from edge.trust import Trust

_LOG = logging.getLogger("linegate.station")
AnyJournal = Journal | NoJournal


def open_camera(settings: CameraSettings) -> Camera:
    """The camera that the station file asks for.

    Raises:
        CameraError: it cannot be opened.
    """
    return ReplayCamera(settings)


def open_journal(settings: JournalSettings) -> AnyJournal:
    """The journal that the station file asks for; says so if a damaged one was put aside.

    Raises:
        JournalError: it cannot be opened.
    """
    if not settings.enabled:
        return NoJournal()
    journal = Journal(settings)
    for path in journal.set_aside:
        log_event(_LOG, "journal_damaged", level="error", set_aside=str(path))
    return journal


@dataclass(frozen=True)
class Makers:
    """How the parts that touch the outside world are made; a test makes others."""

    package: Callable[[Trust, Path], Package] = Trust.package
    recipe: Callable[[Trust, Path, Package], Recipe] = field(
        default=lambda trust, path, package: trust.recipe(path, package.info)
    )
    engine: Callable[[Package, int], Engine] = OnnxCpuEngine
    camera: Callable[[CameraSettings], Camera] = open_camera


def first_recipe(station: Station, memory: AnyJournal) -> tuple[Path | None, str, Mode]:
    """What to judge with at the start: path, expected hash (empty: any) and mode.

    A station that was stopped, or died, comes up again with what was active last, unless its file names another recipe
    than it did then.

    Raises:
        RecipeError: what was active last is no longer there.
    """
    configured = station.recipe.path
    known = memory.fact(ACTIVE)
    try:
        active = None if known is None else msgspec.json.decode(known, type=ActiveRecipe)
    except msgspec.DecodeError as error:
        raise RecipeError(
            f"what the journal remembers of the active recipe is damaged ({error})",
            "Restore the journal's folder from a backup, or name an empty one.",
        ) from error
    if active is None or active.configured != configured:
        return (Path(configured) if configured else None), "", Mode.JUDGE
    if not active.folder:
        return None, "", active.mode
    if not Path(active.folder).is_dir():
        raise RecipeError(
            f"{active.folder}, which was active when the station ended, is gone",
            "Restore it, or name another recipe.path in the station file.",
        )
    return Path(active.folder), active.recipe_hash, active.mode


def recipe_root(station: Station) -> Path | None:
    """The folder that holds one folder a product; None if the station file gives no hint of it."""
    if station.recipe.root:
        return Path(station.recipe.root)
    if not station.recipe.path:
        return None
    path = Path(station.recipe.path)
    return path.parent.parent if path.name.isdecimal() else path.parent


def check_depth(settings: CameraSettings, recipe: Recipe) -> None:
    """Refuse a recipe whose shots had another bit depth than the camera delivers.

    Raises:
        CameraError: they differ.
    """
    camera, shots = settings.bit_depth, recipe.info.bit_depth
    if camera != shots:
        raise CameraError(
            f"the camera's bit_depth is {camera or 8}, the recipe's shots had {shots or 8}",
            "Set camera.bit_depth to what the product was calibrated with, or calibrate again.",
        )


def make_job(station: Station, camera: Camera, engine: Engine, epoch: int, recipe: Recipe | None, mode: Mode) -> Job:
    """What triggers are judged with, and what their verdicts say about it."""
    info = None if recipe is None else recipe.info
    provenance = Provenance(
        station_id=station.station_id,
        camera_id=camera.camera_id,
        epoch=epoch,
        product="" if info is None else info.product,
        recipe_revision=0 if info is None else info.revision,
        recipe_hash="" if recipe is None else recipe.recipe_hash,
        package_hash=engine.package.info.package_hash,
        bank_hash="" if info is None else info.bank_sha256,
        config_hash=config_hash(station),
        software_version=SOFTWARE_VERSION,
        engine=engine.description,
        is_simulated=camera.is_simulated,
        is_test=mode is Mode.OBSERVE,
    )
    return Job(recipe, provenance)
