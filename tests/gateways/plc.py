"""A handshake with a station and a PLC that a test moves by hand, in made-up time."""

from __future__ import annotations

import msgspec

from edge.bus.messages import Mode, State
from edge.gateways.codes import OnlineReason
from edge.gateways.handshake import Handshake
from edge.gateways.image import Image
from edge.gateways.results import Result
from edge.gateways.settings import BusLinkSettings, GatewaySettings, PlcSettings
from edge.types import Judgement, Reason, Region
from tests.edge import feed
from tests.gateways.station import BOARD, BRACKET, RECIPES

MS = 1_000_000
BEAT_MS = 100
SILENCE_MS = 500
PLC_MS = 1_000
ACK_MS = 2_000
TRIGGER_MS = 5_000
QUEUE = 8
SETTINGS = GatewaySettings(
    bus=BusLinkSettings(silence_ms=SILENCE_MS),
    plc=PlcSettings(heartbeat_ms=PLC_MS, ack_ms=ACK_MS, trigger_ms=TRIGGER_MS, queue=QUEUE),
    recipes=RECIPES,
)
REASONS = {Judgement.OK: None, Judgement.NOT_OK: Reason.DEFECT, Judgement.NOT_DECIDABLE: Reason.UNFIT_IMAGE}


class Bench:
    """Both sides of a handshake. `wait` passes time in which station and PLC beat, unless they are silent."""

    def __init__(self, settings: GatewaySettings = SETTINGS, session: int = 100) -> None:
        self.announced: list[Result] = []
        self.handshake = Handshake(settings, "boot", session, self.announced.append)
        self.now_ns = 1_000 * MS
        self.epoch, self.seq, self.state, self.mode, self.recipe = 7, 0, State.CONTINUOUS_EXECUTION, Mode.JUDGE, BOARD
        self.station_beats = self.plc_beats = True
        self._plc_count = 0

    @property
    def image(self) -> Image:
        return self.handshake.image(self.now_ns)

    def go_online(self) -> Bench:
        """Station and PLC are heard for the first time."""
        self.tell()
        self.wait(3 * BEAT_MS)
        assert self.image.online_reason is OnlineReason.ONLINE
        return self

    def wait(self, ms: int) -> None:
        """Let time pass, beat by beat."""
        for _ in range(ms // BEAT_MS):
            self.now_ns += BEAT_MS * MS
            if self.station_beats:
                self.beat()
            if self.plc_beats:
                self._plc_count += 1
                self.handshake.plc_heartbeat(self._plc_count % 65_536, self.now_ns)
        self.handshake.look(self.now_ns)

    # The station.

    def beat(self) -> None:
        message = feed.heartbeat(self.seq, self.epoch, self.state)
        self.handshake.heartbeat(
            msgspec.structs.replace(message, wall_us=self.now_ns // 1000, mode=self.mode), self.now_ns
        )

    def tell(self) -> None:
        product, revision, recipe_hash = self.recipe
        message = msgspec.structs.replace(
            feed.state_message(self.epoch, self.state),
            product=product,
            recipe_revision=revision,
            recipe_hash=recipe_hash,
            mode=self.mode,
        )
        self.handshake.state(message, self.now_ns)

    def judge(
        self,
        judgement: Judgement = Judgement.OK,
        *,
        recipe: tuple[str, int, str] | None = None,
        regions: tuple[Region, ...] = (),
        **changes: object,
    ) -> None:
        """A verdict arrives."""
        self.seq += 1
        product, revision, recipe_hash = recipe or self.recipe
        fields: dict[str, object] = {
            "judgement": judgement,
            "accept": judgement is Judgement.OK and self.mode is Mode.JUDGE,
            "is_test": self.mode is Mode.OBSERVE,
            "reason": REASONS[judgement],
            "product": product,
            "recipe_revision": revision,
            "recipe_hash": recipe_hash,
            "regions": regions,
            "region_count": len(regions),
            "is_simulated": False,
            "trigger_wall_us": self.now_ns // 1000 - 3_000,
            **changes,
        }
        message = msgspec.structs.replace(feed.verdict(self.seq, self.epoch), **fields)
        self.handshake.verdict(message, self.now_ns)

    def restart(self) -> None:
        """The station begins a new epoch."""
        self.epoch, self.seq = self.epoch + 1, 0
        self.tell()

    def activate(self, recipe: tuple[str, int, str] = BRACKET) -> None:
        """The station judges with another recipe."""
        self.recipe = recipe
        self.tell()

    # The PLC.

    def ack(self) -> Result:
        """Take over the result that waits."""
        result = self.image.result
        assert result is not None, "there is no result to acknowledge"
        self.handshake.acknowledge(result.number, self.now_ns)
        return result
