"""A station on the bus that does what a test says: real sockets and messages, no pipeline behind them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import zmq

from edge.bus.control import ControlServer
from edge.bus.endpoints import sibling
from edge.bus.messages import ENDED, Mode, State, VerdictMessage, encode
from edge.bus.publisher import Publisher
from edge.bus.requests import ActivateCommand, Command, PrepareCommand, Reply, TriggerCommand
from edge.bus.topics import HEARTBEAT, STATE, VERDICT, Topic
from edge.errors import ControlError
from edge.gateways.settings import (
    BusLinkSettings,
    GatewaySettings,
    ModbusSettings,
    OpcUaSettings,
    PlcSettings,
    RecipeNumber,
)
from edge.types import Judgement, Reason, Region
from tests.edge.feed import heartbeat, state_message, unguarded, verdict

PATIENCE_S = 60.0
BOARD, BRACKET = ("board", 3, "c" * 64), ("bracket", 1, "e" * 64)
RECIPES = (RecipeNumber(1, "board", 3), RecipeNumber(2, "bracket", 1))
REASONS = {Judgement.OK: None, Judgement.NOT_OK: Reason.DEFECT, Judgement.NOT_DECIDABLE: Reason.UNFIT_IMAGE}


class FakeStation:
    """Beats every `heartbeat_ms` until told to hush; publishes a verdict when told to, or for each trigger it is sent."""

    def __init__(self, endpoint: str, heartbeat_ms: float = 50.0) -> None:
        self.endpoint, self.control_endpoint = endpoint, sibling(endpoint, 2)
        self.epoch = time.time_ns() // 1_000_000
        self.triggers: list[TriggerCommand] = []
        self.judges_triggers, self.refuses, self.is_deaf = True, "", False
        self.prepared: list[str] = []
        self._heartbeat_s = heartbeat_ms / 1000
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher = Publisher(self._context, endpoint, unguarded)
        self._control = ControlServer(self._context, self.control_endpoint, self, unguarded)
        self._lock, self._ending = threading.RLock(), threading.Event()
        self._seq = self._seen = 0
        self._judged: Counter[Judgement] = Counter()
        self._state, self._mode, self._recipe = State.CONTINUOUS_EXECUTION, Mode.JUDGE, BOARD
        self._speaks = True
        self._threads = [threading.Thread(target=work) for work in (self._beat, self._control.serve)]
        for thread in self._threads:
            thread.start()

    # What a test has it do.

    def judge(
        self,
        judgement: Judgement = Judgement.OK,
        *,
        part_id: str = "",
        trigger_id: str = "",
        regions: tuple[Region, ...] = (),
        **changes: object,
    ) -> VerdictMessage:
        """Publish a verdict; `changes` are fields of the message."""
        with self._lock:
            self._seq += 1
            self._judged[judgement] += 1
            product, revision, recipe_hash = self._recipe
            fields: dict[str, object] = {
                "part_id": part_id or f"part-{self._seq}",
                "trigger_id": trigger_id,
                "judgement": judgement,
                "accept": judgement is Judgement.OK and self._mode is Mode.JUDGE,
                "is_test": self._mode is Mode.OBSERVE,
                "reason": REASONS[judgement],
                "regions": regions,
                "region_count": len(regions),
                "product": product,
                "recipe_revision": revision,
                "recipe_hash": recipe_hash,
                "is_simulated": False,
                "trigger_wall_us": time.time_ns() // 1000 - 3000,
                **changes,
            }
            message = msgspec.structs.replace(verdict(self._seq, self.epoch), **fields)
            self._send(VERDICT, message)
            return message

    def lose(self, count: int = 1) -> None:
        """Count verdicts that nobody gets."""
        with self._lock:
            self._seq += count
            self._judged[Judgement.OK] += count

    def hush(self) -> None:
        """Send no heartbeats, as a station whose pipeline hangs."""
        self._speaks = False

    def speak(self) -> None:
        """Send heartbeats again."""
        self._speaks = True

    def restart(self) -> None:
        """Begin a new epoch, as a station that was killed and started again."""
        with self._lock:
            self.epoch += 1
            self._seq = 0
            self._judged.clear()
            self._tell()

    def state(self, state: State) -> None:
        """Be in another state."""
        with self._lock:
            self._state = state
            self._tell()

    def observe(self, on: bool = True) -> None:
        """Only look, or judge again."""
        with self._lock:
            self._mode = Mode.OBSERVE if on else Mode.JUDGE
            self._tell()

    def activate(self, product: str, revision: int) -> str:
        """Judge with another recipe; returns its hash."""
        with self._lock:
            self._recipe = next(found for found in (BOARD, BRACKET) if found[:2] == (product, revision))
            self._tell()
            return self._recipe[2]

    def change_silently(self, product: str, revision: int) -> None:
        """Judge with another recipe; the message that says so is lost."""
        with self._lock:
            self._recipe = next(found for found in (BOARD, BRACKET) if found[:2] == (product, revision))
            # Sent, as far as the publisher knows, but everybody's copy was lost.
            self._publisher._last[STATE.name] = [STATE.name, encode(self._state_message())]

    def close(self) -> None:
        """Vanish, as a station that was killed."""
        self._ending.set()
        self._control.stop()
        for thread in self._threads:
            thread.join()
        self._publisher.close()
        self._context.term()

    # What it does by itself.

    def handle(self, command: Command, _since_ns: int) -> Reply:
        """See `edge.bus.control.Handler`."""
        if self.refuses:
            raise ControlError(self.refuses, "Ask again.")
        if isinstance(command, TriggerCommand):
            return self._trigger(command)
        if isinstance(command, PrepareCommand):
            found = next((r for r in (BOARD, BRACKET) if r[0] == command.product), None)
            if found is None or command.revision not in (None, found[1]):
                raise ControlError(f"there is no recipe for {command.product}", "Name another.")
            self.prepared.append(found[0])
            return Reply(product=found[0], recipe_revision=found[1], recipe_hash=found[2])
        if isinstance(command, ActivateCommand):
            found = next(r for r in (BOARD, BRACKET) if r[2] == command.recipe_hash)
            self.activate(*found[:2])
            return Reply(product=found[0], recipe_revision=found[1], recipe_hash=found[2], trigger_seq=self._seq + 1)
        return Reply()

    def _trigger(self, command: TriggerCommand) -> Reply:
        while self.is_deaf and not self._ending.wait(0.01):
            pass
        with self._lock:
            again = any(known.trigger_id == command.trigger_id for known in self.triggers)
            self.triggers.append(command)
            if self.judges_triggers and not again:
                self.judge(part_id=command.part_id, trigger_id=command.trigger_id)
            return Reply(epoch=self.epoch, trigger_seq=self._seq, duplicate=again)

    def _beat(self) -> None:
        with self._lock:
            self._tell()
        while not self._ending.wait(self._heartbeat_s):
            with self._lock:
                if self._speaks:
                    self._send(HEARTBEAT, self._heartbeat())
                self._publisher.answer_subscriptions()

    def _heartbeat(self) -> msgspec.Struct:
        judged = self._judged
        return msgspec.structs.replace(
            heartbeat(self._seq, self.epoch, self._state),
            mode=self._mode,
            triggers_seen=sum(judged.values()),
            ok=judged[Judgement.OK],
            not_ok=judged[Judgement.NOT_OK],
            not_decidable=judged[Judgement.NOT_DECIDABLE],
            wall_us=time.time_ns() // 1000,
        )

    def _state_message(self) -> msgspec.Struct:
        product, revision, recipe_hash = self._recipe if self._state not in ENDED else ("", 0, "")
        return msgspec.structs.replace(
            state_message(self.epoch, self._state),
            mode=self._mode,
            product=product,
            recipe_revision=revision,
            recipe_hash=recipe_hash,
            wall_us=time.time_ns() // 1000,
        )

    def _tell(self) -> None:
        self._send(STATE, self._state_message())
        if self._speaks:
            self._send(HEARTBEAT, self._heartbeat())

    def _send(self, topic: Topic, message: msgspec.Struct) -> None:
        with self._lock:
            self._publisher.send(topic, encode(message))


@contextmanager
def running_station(endpoint: str, heartbeat_ms: float = 50.0) -> Iterator[FakeStation]:
    """A station for the length of a test."""
    station = FakeStation(endpoint, heartbeat_ms)
    try:
        yield station
    finally:
        station.close()


def settings_for(station: FakeStation, **sections: object) -> GatewaySettings:
    """A gateway of this station. Its times are short for what a test waits for, and long for what it does not."""
    own: dict[str, object] = {
        "name": "test",
        "bus": BusLinkSettings(endpoint=station.endpoint, silence_ms=500.0),
        "plc": PlcSettings(heartbeat_ms=60_000.0, ack_ms=60_000.0, answer_ms=5_000.0, trigger_ms=30_000.0),
        "recipes": RECIPES,
        "modbus": ModbusSettings(port=0),
        "opcua": OpcUaSettings(port=0),
    }
    return msgspec.structs.replace(GatewaySettings(), **{**own, **sections})
