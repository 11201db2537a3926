"""What the control endpoint does for each command."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.bus.messages import HeartbeatMessage
from edge.bus.requests import (
    ActivateCommand,
    Command,
    ModeCommand,
    PrepareCommand,
    Reply,
    StatusReply,
    StopCommand,
    TriggerCommand,
)
from edge.changeover import Changeover
from edge.errors import ControlError
from edge.job import Job
from edge.pipeline import Pipeline
from edge.types import Trigger


class Commands:
    """Carries out commands; see `edge.bus.control.Handler`."""

    def __init__(
        self,
        pipeline: Pipeline,
        changeover: Changeover,
        heartbeat: Callable[[], HeartbeatMessage],
        restarts_left: Callable[[], dict[str, int]],
        knows_triggers: Callable[[], bool],
        *,
        software_trigger: bool,
    ) -> None:
        self._software_trigger, self._knows_triggers = software_trigger, knows_triggers
        self._pipeline, self._changeover = pipeline, changeover
        self._heartbeat, self._restarts_left = heartbeat, restarts_left

    def handle(self, command: Command, since_ns: int) -> Reply:
        """See `Handler.handle`."""
        if isinstance(command, TriggerCommand):
            return self._trigger(command, since_ns)
        if isinstance(command, PrepareCommand):
            info = self._changeover.prepare(command.product, command.revision)
            return Reply(product=info.info.product, recipe_revision=info.info.revision, recipe_hash=info.recipe_hash)
        if isinstance(command, ActivateCommand):
            recipe, first = self._changeover.activate(command.recipe_hash)
            return Reply(
                product=recipe.info.product,
                recipe_revision=recipe.info.revision,
                recipe_hash=recipe.recipe_hash,
                epoch=self._job.provenance.epoch,
                trigger_seq=first,
            )
        if isinstance(command, ModeCommand):
            first = self._changeover.set_mode(command.mode)
            return Reply(epoch=self._job.provenance.epoch, trigger_seq=first)
        if isinstance(command, StopCommand):
            self._pipeline.stop()
            return Reply(epoch=self._job.provenance.epoch)
        return Reply(status=self._status())

    @property
    def _job(self) -> Job:
        return self._pipeline.intake.job

    def _trigger(self, command: TriggerCommand, since_ns: int) -> Reply:
        if not self._software_trigger:
            raise ControlError(
                "this station's camera triggers itself", 'Set camera.trigger = "software" in its station file.'
            )
        if command.trigger_id and not self._knows_triggers():
            raise ControlError(
                "nobody knows whether this trigger came before: the journal cannot be read now",
                "Free some space in its folder; or send no trigger_id, if it is new for certain.",
            )
        wall_us = (time.time_ns() - (time.monotonic_ns() - since_ns)) // 1000
        trigger = Trigger(since_ns, wall_us, command.part_id, command.encoder_count, command.trigger_id)
        opened = self._pipeline.trigger(trigger)
        return Reply(epoch=opened.epoch, trigger_seq=opened.seq, duplicate=opened.entry is None)

    def _status(self) -> StatusReply:
        beat, provenance = self._heartbeat(), self._job.provenance
        return StatusReply(
            station_id=beat.station_id,
            epoch=beat.epoch,
            head_seq=beat.head_seq,
            state=beat.state,
            mode=beat.mode,
            triggers_seen=beat.triggers_seen,
            ok=beat.ok,
            not_ok=beat.not_ok,
            not_decidable=beat.not_decidable,
            in_flight=beat.in_flight,
            product=provenance.product,
            recipe_revision=provenance.recipe_revision,
            recipe_hash=provenance.recipe_hash,
            prepared_hash=self._changeover.prepared_hash,
            journal=beat.journal,
            journal_lost=beat.journal_lost,
            pictures_lost=beat.pictures_lost,
            restarts_left=self._restarts_left(),
            software_version=provenance.software_version,
        )
