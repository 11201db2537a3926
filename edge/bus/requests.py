"""What clients ask of a station: replay of verdicts, and control. One JSON object a request, in its own ZeroMQ part.

A reply repeats the request's `id`, also a refusal, if it can be read. A refusal has `error` and `remedy`, both empty
otherwise. Replay answers with one page: the reply, then each verdict in a part of its own; a client asks for the next page when
it has read this one, so that nothing piles up for a client that does not read.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from edge.bus.messages import JournalState, Mode, State

LARGEST_REQUEST_BYTES = 65_536
LARGEST_PAGE = 500
LARGEST = 2**53 - 1
Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Id = Annotated[int, Meta(ge=0, le=LARGEST)]
PartId = Annotated[str, Meta(max_length=128)]
TriggerId = Annotated[str, Meta(max_length=64)]
ProductName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class VerdictsRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="request", tag="verdicts"
):
    """The verdicts of an epoch from a sequence number on."""

    id: Id = 0
    epoch: Count
    from_seq: Count = 1
    limit: Annotated[int, Meta(ge=1, le=LARGEST_PAGE)] = 200


class EpochsRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="request", tag="epochs"
):
    """Which epochs there are, from `after` (exclusive) on."""

    id: Id = 0
    after: Count = 0


ReplayRequest: TypeAlias = VerdictsRequest | EpochsRequest


class EpochInfo(msgspec.Struct, frozen=True):
    """What is kept of one epoch: verdicts `first_seq` to `head_seq`; `ended`: there will be no more.

    `first_seq` is above `head_seq` if none is kept.
    """

    epoch: int
    first_seq: int
    head_seq: int
    ended: bool


class VerdictsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a page; `count` verdicts follow. No `info` and `error` set: refused."""

    id: int = 0
    error: str = ""
    remedy: str = ""
    info: EpochInfo | None = None
    count: int = 0


class EpochsReply(msgspec.Struct, frozen=True, kw_only=True):
    """All epochs asked for, oldest first."""

    id: int = 0
    error: str = ""
    remedy: str = ""
    epochs: tuple[EpochInfo, ...] = ()


class StatusCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="status"
):
    """Tell how the station is."""

    id: Id = 0


class PrepareCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="prepare"
):
    """Load, verify and warm a recipe beside the running one; without a revision the product's newest."""

    id: Id = 0
    product: ProductName
    revision: Annotated[int, Meta(ge=1, le=999_999)] | None = None


class ActivateCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="activate"
):
    """Judge with the prepared recipe from the next trigger on; `recipe_hash` must be that recipe's."""

    id: Id = 0
    recipe_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ModeCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="mode"
):
    """Judge, or only observe, from the next trigger on."""

    id: Id = 0
    mode: Mode


class TriggerCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="trigger"
):
    """A part is here. The same `trigger_id` sent again is the same trigger: a lost answer can be asked for again."""

    id: Id = 0
    part_id: PartId = ""
    encoder_count: Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | None = None
    trigger_id: TriggerId = ""


class StopCommand(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="stop"
):
    """Give every open trigger its verdict and end."""

    id: Id = 0


Command: TypeAlias = StatusCommand | PrepareCommand | ActivateCommand | ModeCommand | TriggerCommand | StopCommand


class StatusReply(msgspec.Struct, frozen=True, kw_only=True):
    """How the station is. `prepared_hash` is that of the recipe that waits to be activated, empty if none."""

    station_id: str
    epoch: int
    head_seq: int
    state: State
    mode: Mode
    triggers_seen: int
    ok: int
    not_ok: int
    not_decidable: int
    in_flight: int
    product: str
    recipe_revision: int
    recipe_hash: str
    prepared_hash: str
    journal: JournalState
    journal_lost: int
    pictures_lost: int
    restarts_left: dict[str, int]
    software_version: str


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a command. A refusal has `error` and `remedy` set and changed nothing.

    `prepare` and `activate` answer with the recipe (`product`, `recipe_revision`, `recipe_hash`); `activate` and `mode` with
    `epoch` and `trigger_seq`, the first trigger that is judged so; `trigger` with `epoch` and `trigger_seq` of the trigger, and
    `duplicate` if it had come before.
    """

    id: int = 0
    error: str = ""
    remedy: str = ""
    status: StatusReply | None = None
    product: str = ""
    recipe_revision: int = 0
    recipe_hash: str = ""
    epoch: int = 0
    trigger_seq: int = 0
    duplicate: bool = False


class _Numbered(msgspec.Struct):
    id: Id = 0


_NUMBERED = msgspec.json.Decoder(_Numbered)


def id_of(data: bytes) -> int:
    """The id of a request that is wrong in something else, so that its refusal can be told from others; 0 if it has none."""
    try:
        return _NUMBERED.decode(data).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
