"""Joins the bus and the handshake: what the station sends is taken as it comes, what the PLC asks is asked of the station."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edge.bus.aio import AsyncControlClient, AsyncFeed, AsyncReplayClient
from edge.bus.keys import ClientKeys, load_client_keys
from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.bus.requests import ActivateCommand, PrepareCommand, TriggerCommand
from edge.bus.topics import STATE
from edge.errors import BusError, ControlError
from edge.gateways.codes import TriggerStatus
from edge.gateways.handshake import Handshake
from edge.gateways.image import Image
from edge.gateways.results import LARGEST_NUMBER, Result
from edge.gateways.settings import GatewaySettings
from edge.gateways.wishes import RecipeWish, TriggerWish
from edge.logs import log_event

LOOK_S = 0.02
AT_ONCE = 20
"""Messages that are read before the PLC gets its turn: a backlog must not keep it waiting."""
ASK_AGAIN_S = 0.15
RENEW_S = 1.0
REPLAY_S = 10.0
COMMAND, METHOD = "command", "method"
"""Who says stop."""
FATAL = "linegate_fatal"
"""Marks, in what the loop's exception handler is told, a fault that the gateway cannot go on with."""
_LOG = logging.getLogger("linegate.gateway")
T = TypeVar("T")


class Link:
    """The handshake as a protocol's server uses it. Everything happens in one event loop; nothing here waits for the PLC.

    The methods that take what a PLC writes return at once; what they start at the station shows in a later image.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        """Connect to the station, which need not be there yet.

        Raises:
            BusError: not an endpoint.
            SecurityError: a key is missing or malformed, or others can read the secret one.
        """
        self.settings = settings
        keys = client_keys(settings)
        boot_id = f"{time.time_ns():x}{secrets.token_hex(2)}"
        self._handshake = Handshake(settings, boot_id, 1 + secrets.randbelow(LARGEST_NUMBER), self._announce)
        self._feed = AsyncFeed(settings.bus.endpoint, keys)
        try:
            self._control = AsyncControlClient(settings.control_endpoint, keys)
            self._replay = AsyncReplayClient(settings.replay_endpoint, keys)
        except BaseException:
            self._feed.close()
            raise
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changed: list[Callable[[], None]] = []
        self._results: list[Callable[[Result], None]] = []
        self._changeover = asyncio.Lock()

    async def __aenter__(self) -> Link:
        """Begin to listen."""
        self._spawn(self._listen())
        self._spawn(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._feed.close()
        await self._control.close()
        await self._replay.close()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this whenever the image may have changed: after each message, write, and look at the time (every 20 ms)."""
        self._changed.append(changed)

    def on_result(self, came: Callable[[Result], None]) -> None:
        """Call this with every result when it comes, also one that finds no room or is a stand-in for a lost one."""
        self._results.append(came)

    # What a PLC reads and writes.

    def image(self) -> Image:
        """All that the PLC may see now; what time alone changes is in it, however late the loop is."""
        return self._handshake.image(time.monotonic_ns())

    @property
    def heartbeat_ms(self) -> float:
        """How far apart the station sent its last two heartbeats."""
        return self._handshake.apart_ms

    def plc_heartbeat(self, value: int) -> None:
        """The PLC's heartbeat."""
        self._handshake.plc_heartbeat(value, time.monotonic_ns())
        self._tell()

    def new_plc(self) -> None:
        """Another client writes from now on: what it writes first may be from long ago."""
        self._handshake.new_plc(time.monotonic_ns())
        self._tell()

    def acknowledge(self, number: int) -> None:
        """The number of the result that the PLC has taken over."""
        self._handshake.acknowledge(number, time.monotonic_ns())
        self._tell()

    def trigger(self, number: int, part_id: str, encoder_count: int | None = None) -> TriggerWish | None:
        """The PLC's trigger number; None if it is no trigger or is refused at once."""
        wish = self._handshake.trigger(number, part_id, encoder_count, time.monotonic_ns())
        if wish is not None:
            self._spawn(self._ask_trigger(wish))
        self._tell()
        return wish

    async def start_job(self, part_id: str, encoder_count: int | None = None) -> tuple[str, TriggerStatus]:
        """Trigger beside the PLC's numbers; returns the station's id of it and what became of it."""
        wish = self._handshake.start_job(part_id, encoder_count, time.monotonic_ns())
        if wish is None:
            return "", TriggerStatus.NOT_READY
        # It goes on if whoever asked is gone: the station may have taken it.
        return wish.trigger_id, await asyncio.shield(self._spawn(self._ask_trigger(wish)))

    def want_recipe(self, number: int) -> RecipeWish | None:
        """The PLC's recipe number; None if it is not another one, or is not known."""
        wish = self._handshake.want_recipe(number, time.monotonic_ns())
        if wish is not None:
            self._spawn(self._ask_recipe(wish))
        self._tell()
        return wish

    def command(self, *, reset: bool, stop: bool) -> None:
        """The PLC's command bits; reset counts when it rises."""
        self._handshake.reset_bit(reset, time.monotonic_ns())
        if stop:
            self._handshake.stop(COMMAND, time.monotonic_ns())
        else:
            self._handshake.start(COMMAND, time.monotonic_ns())
        self._tell()

    def reset(self) -> None:
        """Clear what is latched."""
        self._handshake.reset(time.monotonic_ns())
        self._tell()

    def stop(self) -> None:
        """Accept nothing until `start`. The stop bit of the PLC's command is another one: both must be off."""
        self._handshake.stop(METHOD, time.monotonic_ns())
        self._tell()

    def start(self) -> None:
        """End `stop`."""
        self._handshake.start(METHOD, time.monotonic_ns())
        self._tell()

    def abort(self) -> None:
        """Give up every trigger of the PLC that has no result yet."""
        self._handshake.abort(time.monotonic_ns())
        self._tell()

    # What happens meanwhile.

    async def _listen(self) -> None:
        for count in itertools.count(1):
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                message = await self._feed.receive()
            except BusError as error:
                log_event(_LOG, "unreadable", level="warning", error=error)
                self._handshake.unreadable(time.monotonic_ns())
                self._tell()
                continue
            now, epoch = time.monotonic_ns(), self._handshake.epoch
            if isinstance(message, VerdictMessage):
                self._handshake.verdict(message, now)
            elif isinstance(message, HeartbeatMessage):
                self._handshake.heartbeat(message, now)
            elif isinstance(message, StateMessage):
                self._handshake.state(message, now)
            if epoch not in (0, self._handshake.epoch):
                self._spawn(self._count_tail(epoch))
            self._tell()

    async def _count_tail(self, epoch: int) -> None:
        """Ask how many verdicts the station's last run had: the last ones may have been lost with the connection."""
        end, known = time.monotonic() + REPLAY_S, None
        while known is None:
            try:
                known = await self._replay.epochs(epoch - 1, REPLAY_S)
            except (BusError, ControlError) as error:
                if time.monotonic() > end:
                    log_event(_LOG, "tail_unknown", level="warning", error=error, epoch=epoch)
                    return
                await asyncio.sleep(RENEW_S / 10)
        for run in known:
            if run.epoch == epoch:
                self._handshake.epoch_had(epoch, run.head_seq, time.monotonic_ns())
        self._tell()

    async def _look(self) -> None:
        asked_s = 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            self._handshake.look(time.monotonic_ns())
            if self._handshake.lacks_state and time.monotonic() - asked_s > RENEW_S:
                asked_s = time.monotonic()
                self._feed.renew(STATE)
            self._tell()

    async def _ask_trigger(self, wish: TriggerWish) -> TriggerStatus:
        """Ask until there is an answer: the same id is the same trigger, however often it comes."""
        command = TriggerCommand(part_id=wish.part_id, encoder_count=wish.encoder_count, trigger_id=wish.trigger_id)
        end = time.monotonic() + self.settings.plc.answer_ms / 1000
        status = TriggerStatus.NO_ANSWER
        while (left_s := end - time.monotonic()) > 0 and self._handshake.awaits(wish):
            try:
                await self._control.ask(command, min(left_s, ASK_AGAIN_S))
            except ControlError as error:
                log_event(_LOG, "trigger_refused", level="warning", error=error, number=wish.number)
                status = TriggerStatus.REFUSED
            except BusError:
                await asyncio.sleep(LOOK_S)
                continue
            else:
                status = TriggerStatus.TAKEN
            break
        if status is TriggerStatus.TAKEN:
            self._handshake.triggered(wish, time.monotonic_ns())
        else:
            self._handshake.not_triggered(wish, status, time.monotonic_ns())
        self._tell()
        return status

    async def _ask_recipe(self, wish: RecipeWish) -> None:
        """Change over as soon as there is a station, unless the PLC thinks better of it meanwhile."""
        while self._handshake.wants(wish):
            try:
                # The station does one changeover at a time.
                async with self._changeover:
                    if self._handshake.wants(wish):
                        await self._change_recipe(wish)
                break
            except BusError as error:
                log_event(_LOG, "recipe_unanswered", level="warning", error=error, number=wish.number)
                await asyncio.sleep(RENEW_S)
            except ControlError as error:
                log_event(_LOG, "recipe_failed", level="error", error=error, number=wish.number, product=wish.product)
                self._handshake.recipe_failed(wish, time.monotonic_ns())
        self._tell()

    async def _change_recipe(self, wish: RecipeWish) -> None:
        timeout_s = self.settings.plc.recipe_ms / 1000
        prepared = await self._control.ask(PrepareCommand(product=wish.product, revision=wish.revision), timeout_s)
        if self._handshake.wants(wish):
            active = await self._control.ask(ActivateCommand(recipe_hash=prepared.recipe_hash), timeout_s)
            self._handshake.recipe_changed(wish, active.recipe_hash, time.monotonic_ns())

    def _announce(self, result: Result) -> None:
        for came in self._results:
            came(result)

    def _tell(self) -> None:
        for changed in self._changed:
            changed()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is not None:
                # A gateway that has lost one of its parts is worth less than none: the PLC sees the connection go.
                context = {"message": "a task broke", "exception": error, FATAL: True}
                asyncio.get_running_loop().call_exception_handler(context)


def client_keys(settings: GatewaySettings) -> ClientKeys | None:
    """The keys for a station with CURVE; None without."""
    if not settings.bus.key:
        return None
    return load_client_keys(Path(settings.bus.key), Path(settings.bus.server_key))
