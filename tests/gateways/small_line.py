"""A station, a gateway's handshake and a PLC on a clock that a test moves: no sockets, no waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from edge.bus.messages import VerdictMessage
from edge.gateways.codes import TriggerStatus
from edge.gateways.handshake import Handshake
from edge.gateways.modbus.layout import Order, decode_command, decode_status, encode_command, encode_status
from edge.gateways.plc.blocks import status_of
from edge.gateways.plc.findings import Taken
from edge.gateways.plc.modbus import NAMES
from edge.gateways.plc.sequence import Plan
from edge.gateways.plc.sequence import Sequence as PlcSequence
from edge.gateways.settings import BusLinkSettings, GatewaySettings, PlcSettings, RecipeNumber
from edge.types import Judgement, Reason
from tests.edge.feed import heartbeat, state_message, verdict
from tests.gateways.compiled_st import CompiledPlc

ORDER = Order()
MS = 1_000_000
SCAN_MS, BEAT_MS = 10, 50
SETTINGS = GatewaySettings(
    bus=BusLinkSettings(silence_ms=400.0),
    plc=PlcSettings(heartbeat_ms=1_000.0, queue=4, ack_ms=600.0, trigger_ms=2_000.0, allow_simulated=True),
    recipes=(RecipeNumber(1, "board", 3), RecipeNumber(2, "bracket", 1)),
)
REASONS = {Judgement.OK: None, Judgement.NOT_OK: Reason.DEFECT, Judgement.NOT_DECIDABLE: Reason.UNFIT_IMAGE}


@dataclass(frozen=True)
class Decision:
    """A result as a PLC took it over."""

    epoch: int
    seq: int
    number: int
    passes: bool
    session: int


class Brain(Protocol):
    """A PLC's program."""

    def scan(self, now_ns: int, words: Sequence[int]) -> list[int]:
        """One cycle: the status block's registers in, the command block's out."""
        ...

    @property
    def taken(self) -> tuple[int, bool] | None:
        """The number of the result that this scan took over, and whether its part may pass."""
        ...

    def count(self, what: str) -> int:
        """One of gaps, torn, restarts, overruns."""
        ...


class PythonBrain:
    """`linegate gateway test`."""

    def __init__(self, plan: Plan) -> None:
        self._last: Taken | None = None
        self.sequence = PlcSequence(plan, self._took)

    def _took(self, taken: Taken) -> None:
        self._last = taken

    def scan(self, now_ns: int, words: Sequence[int]) -> list[int]:
        """See `Brain`."""
        self._last = None
        commands = self.sequence.scan(status_of(decode_status(words, ORDER)), now_ns / 1e9)
        return [word for name in NAMES for word in encode_command(name, getattr(commands, name), ORDER)]

    @property
    def taken(self) -> tuple[int, bool] | None:
        """See `Brain`."""
        return None if self._last is None else (self._last.number, self._last.accept)

    def count(self, what: str) -> int:
        """See `Brain`."""
        return int(getattr(self.sequence.findings, what))


class StBrain:
    """The samples in structured text. `resets`: somebody leans on the button while there is an overrun."""

    def __init__(self, plc: CompiledPlc, *, resets: bool = False) -> None:
        self.plc = plc
        self._resets = resets
        self._number = 0

    def scan(self, now_ns: int, words: Sequence[int]) -> list[int]:
        """See `Brain`."""
        status = decode_status(words, ORDER)
        self._number = int(status["result_number"] or 0)
        return self.plc.scan(now_ns, words, reset=self._resets and bool(status["overrun"]))

    @property
    def taken(self) -> tuple[int, bool] | None:
        """See `Brain`."""
        return (self._number, bool(self.plc.output("Pass"))) if self.plc.output("Decided") else None

    def count(self, what: str) -> int:
        """See `Brain`."""
        return self.plc.output("Sessions") - 1 if what == "restarts" else self.plc.output(what.capitalize())


class SmallLine:
    """Everything in steps of one scan."""

    def __init__(self, brain: Brain, session: int = 100, settings: GatewaySettings = SETTINGS) -> None:
        self.brain, self._settings = brain, settings
        self.now_ns = 10**12
        self.epoch, self.seq = 1, 0
        self.verdicts: dict[tuple[int, int], VerdictMessage] = {}
        self.decisions: list[Decision] = []
        self.speaks, self.is_simulated = True, False
        self.answer = TriggerStatus.TAKEN
        self._beat_ns = 0
        self._words: list[int] = []
        self._written: list[int] = []
        self._power_on(session)

    def _power_on(self, session: int) -> None:
        self.session = session
        self.gateway = Handshake(self._settings, f"boot{session}", session)

    # What happens to it.

    def step(self, scans: int = 1, *, plc_runs: bool = True, torn: bool = False) -> None:
        """So many scans of time."""
        for _ in range(scans):
            self.now_ns += SCAN_MS * MS
            if self.speaks and self.now_ns - self._beat_ns >= BEAT_MS * MS:
                self._beat()
            self.gateway.look(self.now_ns)
            if plc_runs:
                self._scan(torn)

    def judge(self, judgement: Judgement = Judgement.OK, trigger_id: str = "") -> None:
        """The station publishes a verdict."""
        self.seq += 1
        message = msgspec.structs.replace(
            verdict(self.seq, self.epoch),
            judgement=judgement,
            accept=judgement is Judgement.OK,
            reason=REASONS[judgement],
            trigger_id=trigger_id,
            product="board",
            recipe_revision=3,
            recipe_hash="c" * 64,
            is_test=False,
            is_simulated=self.is_simulated,
            deadline_met=True,
            trigger_wall_us=self.now_ns // 1000 - 3_000,
        )
        self.verdicts[self.epoch, self.seq] = message
        self.gateway.verdict(message, self.now_ns)

    def connect(self, brain: Brain) -> None:
        """Another PLC in the place of this one, over a new connection."""
        self.brain, self._written = brain, []
        self.gateway.new_plc(self.now_ns)

    def restart_gateway(self) -> None:
        """kill -9 and start; another session."""
        self._power_on(self.session % 65_535 + 7_001)

    def restart_station(self) -> None:
        """A new epoch."""
        self.epoch, self.seq = self.epoch + 1, 0
        self._beat()

    def until_online(self) -> None:
        """A second is long enough for everybody to have met."""
        self.step(100)

    def _beat(self) -> None:
        self._beat_ns = self.now_ns
        beat = msgspec.structs.replace(heartbeat(self.seq, self.epoch), wall_us=self.now_ns // 1000)
        self.gateway.heartbeat(beat, self.now_ns)
        self.gateway.state(state_message(self.epoch), self.now_ns)

    def _scan(self, torn: bool) -> None:
        words = encode_status(self.gateway.image(self.now_ns), ORDER)
        shown = words
        if torn and self._words:
            # The first half is from one moment, the second from another.
            shown = self._words[: len(words) // 2] + words[len(words) // 2 :]
        self._words = words
        is_whole = shown[0] == shown[-1]
        written = self.brain.scan(self.now_ns, shown)
        if self.brain.taken is not None:
            number, passes = self.brain.taken
            assert is_whole, "a torn block was taken over"
            image = self.gateway.image(self.now_ns)
            assert image.result is not None
            self.decisions.append(Decision(image.result.epoch, image.result.seq, number, passes, self.session))
        # What a PLC writes is on its way for a while: the next scan still sees the old result.
        if self._written:
            self._tell(decode_command(self._written, ORDER))
        self._written = written

    def _tell(self, values: Mapping[str, object]) -> None:
        gateway, now = self.gateway, self.now_ns
        gateway.plc_heartbeat(_whole(values["plc_heartbeat"]), now)
        gateway.acknowledge(_whole(values["ack_number"]), now)
        gateway.reset_bit(bool(_whole(values["command"]) & 1), now)
        gateway.want_recipe(_whole(values["recipe_wanted"]), now)
        wish = gateway.trigger(_whole(values["trigger_number"]), str(values["trigger_part_id"]), None, now)
        if wish is not None and self.answer is not TriggerStatus.TAKEN:
            gateway.not_triggered(wish, self.answer, now)
        elif wish is not None:
            gateway.triggered(wish, now)
            self.judge(trigger_id=wish.trigger_id)


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
