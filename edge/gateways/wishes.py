"""What a PLC asks of the station through a gateway."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class TriggerWish:
    """Judge the part that is here. `trigger_id` is never used again; `number` is the PLC's own."""

    trigger_id: str
    number: int
    part_id: str
    encoder_count: int | None
    asked_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class RecipeWish:
    """Judge with this product from now on; without a revision with its newest."""

    number: int
    product: str
    revision: int | None
    asked_ns: int
