"""A station on fakes that an operator commands: its recipes lie on the disk and are loaded and verified as real ones are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from edge.assembly import Makers
from edge.bus.control import ControlClient
from edge.bus.messages import State, StateMessage, VerdictMessage
from edge.bus.requests import (
    ActivateCommand,
    Command,
    PrepareCommand,
    Reply,
    StatusCommand,
    StatusReply,
    TriggerCommand,
)
from edge.bus.subscriber import Subscriber
from edge.errors import ControlError
from edge.recipe import BANK_FILE, RECIPE_FILE, RecipeInfo
from edge.sealed import seal, sha256_of
from edge.station import RecipeSettings, Station
from edge.supervisor import Supervisor
from tests.edge.fakes import PATIENCE_S, FakeCamera, FakeEngine, fake_package, fake_recipe
from tests.edge.line import LONG_MS, Line, fake_station

GREY = 128 / 255
"""Of a normal part: a bank that is `more` brighter gives it the score `more`."""


def write_recipe(root: Path, product: str = "board", revision: int = 1, *, more: float = 0.0, **info: object) -> Path:
    """A revision that fits the fake executor; a normal part gets the score `more`. `info` replaces what `recipe.json` says."""
    folder = root / product / f"{revision:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.numpy.save({"normal": np.full(3, GREY + more, np.float32)})
    (folder / BANK_FILE).write_bytes(data)
    said = {"product": product, "revision": revision, "bank_sha256": sha256_of(data), **info}
    (folder / RECIPE_FILE).write_bytes(seal(msgspec.structs.replace(fake_recipe().info, **said)))
    return folder


def info_of(folder: Path) -> RecipeInfo:
    """What a revision says of itself."""
    content = msgspec.json.decode((folder / RECIPE_FILE).read_bytes())
    del content["checksum"]
    return msgspec.convert(content, RecipeInfo)


class Operated:
    """A running line and the operator's client."""

    def __init__(self, line: Line, root: Path) -> None:
        self.line, self.root = line, root
        self.client = ControlClient(line.supervisor.control_endpoint)

    def ask(self, command: Command) -> Reply:
        """Give a command that is done."""
        return self.client.ask(command, PATIENCE_S)

    def refused(self, command: Command) -> ControlError:
        """Give a command that is refused."""
        with pytest.raises(ControlError) as caught:
            self.ask(command)
        assert caught.value.what and caught.value.remedy and "\n" not in str(caught.value)
        return caught.value

    def trigger(self, trigger_id: str = "", **more: object) -> Reply:
        """A part is here."""
        return self.ask(msgspec.structs.replace(TriggerCommand(trigger_id=trigger_id), **more))

    def change(self, product: str = "board", revision: int | None = None) -> Reply:
        """Prepare and activate."""
        prepared = self.ask(PrepareCommand(product=product, revision=revision))
        return self.ask(ActivateCommand(recipe_hash=prepared.recipe_hash))

    def status(self) -> StatusReply:
        """How the station is."""
        status = self.ask(StatusCommand()).status
        assert status is not None
        return status

    def verdict_of(self, reply: Reply) -> VerdictMessage:
        """The verdict of a trigger that was acknowledged."""
        found: list[VerdictMessage] = []

        def came() -> bool:
            found[:] = [v for v in self.line.verdicts if (v.epoch, v.trigger_seq) == (reply.epoch, reply.trigger_seq)]
            return bool(found)

        self.line.read_until(came)
        return found[0]

    @property
    def states(self) -> list[StateMessage]:
        """All state messages so far."""
        return [m for m in self.line.messages if isinstance(m, StateMessage)]

    def beats(self, count: int) -> None:
        """Read so many more heartbeats."""
        have = len(self.line.heartbeats)
        self.line.read_until(lambda: len(self.line.heartbeats) >= have + count)


@contextmanager
def operated(
    endpoint: str,
    folder: Path,
    *,
    path: str = "board/0001",
    deadline_ms: float = LONG_MS,
    root: bool = True,
    **sections: msgspec.Struct,
) -> Iterator[Operated]:
    """A running station whose recipes lie in `folder`/recipes; `path` names its recipe there, empty for none."""
    camera, engine = FakeCamera(), FakeEngine()
    recipes = folder / "recipes"
    supervisor = Supervisor(
        operated_station(endpoint, folder, path, deadline_ms, root=root, **sections), operated_makers(camera, engine)
    )
    engine.calls = 0
    engine.entered.clear()
    subscriber = Subscriber(supervisor.endpoint.replace("0.0.0.0", "127.0.0.1"), masks=True)  # noqa: S104 - replaced
    line = Line(supervisor, camera, engine, subscriber)
    station = Operated(line, recipes)
    try:
        line.read_until(lambda: bool(station.states) and station.states[-1].state is not State.PREOPERATIONAL)
        yield station
    finally:
        engine.gate.set()
        supervisor.pipeline.stop()
        line.join()
        station.client.close()
        subscriber.close()


def operated_makers(camera: FakeCamera, engine: FakeEngine) -> Makers:
    """Fakes, but for the recipe."""
    return Makers(
        package=lambda _trust, _folder: fake_package(),
        engine=lambda _package, _threads: engine,
        camera=lambda _settings: camera,
    )


def operated_station(
    endpoint: str,
    folder: Path,
    path: str,
    deadline_ms: float = LONG_MS,
    *,
    root: bool = True,
    **sections: msgspec.Struct,
) -> Station:
    """Its station file."""
    recipes = folder / "recipes"
    station = fake_station(endpoint, folder / "journal", deadline_ms, 64, 20.0)
    recipe = RecipeSettings(str(recipes / path) if path else "", str(recipes) if root else "")
    return msgspec.structs.replace(station, recipe=recipe, **sections)
