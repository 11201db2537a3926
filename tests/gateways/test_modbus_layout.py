"""The registers: contiguous blocks, and values that come out as they went in, whatever the orders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.gateways.codes import JudgementCode, ReasonCode
from edge.gateways.handshake import Handshake
from edge.gateways.image import Image
from edge.gateways.modbus.layout import (
    COMMAND_FIELD,
    COMMAND_FIELDS,
    COMMAND_SIZE,
    COMMAND_START,
    LARGEST_READ,
    SCALED_LARGEST,
    SCALED_NONE,
    STATUS_FIELD,
    STATUS_FIELDS,
    STATUS_SIZE,
    STATUS_START,
    Field,
    Order,
    bit_name,
    decode_command,
    decode_status,
    encode_command,
    encode_status,
    from_registers,
    is_readable,
    to_registers,
)
from edge.gateways.results import Result
from edge.gateways.settings import GatewaySettings
from edge.gateways.signals import BITS, COMMANDS, STATUS, TEXT_BYTES, Command, Kind, Signal, Value

ORDERS = [Order(byte, word) for byte in ("big", "little") for word in ("big", "little")]
BIG = Order()
AnyField = Field[Signal] | Field[Command]
WHOLE_KINDS = {Kind.U16: (0, 16), Kind.U32: (0, 32), Kind.U64: (0, 64), Kind.I32: (-(2**31), 31)}
ANY_TEXT = st.text(max_size=60)
NUMBERS = st.integers(0, 2**70)
every_order = pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.byte}-{order.word}")


def power_on() -> Image:
    return Handshake(GatewaySettings(), "boot", 7).image(1)


def image_of(**fields: object) -> Image:
    """What the PLC sees of a result with these fields."""
    plain = Result(1, 1, JudgementCode.OK, True, ReasonCode.NONE, 1, 1)
    return dataclasses.replace(power_on(), result=dataclasses.replace(plain, **fields))  # type: ignore[arg-type]


# Where they are


@pytest.mark.parametrize(
    ("start", "size", "fields", "rows"),
    [(STATUS_START, STATUS_SIZE, STATUS_FIELDS, STATUS), (COMMAND_START, COMMAND_SIZE, COMMAND_FIELDS, COMMANDS)],
    ids=["status", "command"],
)
def test_a_block_is_its_table_in_order_without_holes_and_fits_into_one_request(
    start: int, size: int, fields: Sequence[AnyField], rows: Sequence[Signal | Command]
) -> None:
    assert [field.row for field in fields] == list(rows)
    taken = [register for field in fields for register in range(field.address, field.address + field.size)]
    assert taken == list(range(start, start + size))
    assert size <= LARGEST_READ


def test_the_result_number_is_at_both_ends_of_the_status_block() -> None:
    assert (STATUS_START, STATUS_FIELDS[0].name) == (0, "result_number")
    assert (STATUS_FIELDS[-1].name, STATUS_FIELDS[-1].size) == ("result_number_end", 1)


def test_the_command_block_begins_at_200_and_ends_with_the_trigger_number() -> None:
    assert COMMAND_START == 200
    assert COMMAND_FIELDS[-1].name == "trigger_number"


def test_every_value_and_bit_has_a_name_of_its_own() -> None:
    names = [*STATUS_FIELD, *COMMAND_FIELD, *map(bit_name, BITS)]
    assert len(names) == len(set(names)) == len(STATUS) + len(COMMANDS) + len(BITS)


@pytest.mark.parametrize(
    ("address", "count", "readable"),
    [
        (0, STATUS_SIZE, True),
        (0, STATUS_SIZE + 1, False),
        (STATUS_SIZE, 1, False),
        (COMMAND_START - 1, 1, False),
        (COMMAND_START, COMMAND_SIZE, True),
        (COMMAND_START + 1, COMMAND_SIZE, False),
        (STATUS_SIZE - 1, 2, False),
        (65_535, 1, False),
    ],
)
def test_what_is_in_no_block_cannot_be_read(address: int, count: int, readable: bool) -> None:
    assert is_readable(address, count) is readable


# How they are written


@pytest.mark.parametrize(
    ("order", "number", "text"),
    [
        (Order("big", "big"), [0x0102, 0x0304], 0x4142),
        (Order("big", "little"), [0x0304, 0x0102], 0x4142),
        (Order("little", "big"), [0x0201, 0x0403], 0x4241),
        (Order("little", "little"), [0x0403, 0x0201], 0x4241),
    ],
)
def test_the_orders_are_those_that_plc_manuals_call_abcd_cdab_badc_dcba(
    order: Order, number: list[int], text: int
) -> None:
    assert to_registers(Kind.U32, 0x01020304, order) == number
    assert to_registers(Kind.TEXT, "AB", order) == [text, *[0] * 15]
    assert to_registers(Kind.U16, 0x0102, order) == [0x0102]


@every_order
@given(data=st.data(), kind=st.sampled_from(list(WHOLE_KINDS)))
def test_whole_numbers_come_out_as_they_went_in(order: Order, data: st.DataObject, kind: Kind) -> None:
    low, bits = WHOLE_KINDS[kind]
    number = data.draw(st.integers(low, 2**bits - 1))
    registers = to_registers(kind, number, order)
    assert all(0 <= register <= 0xFFFF for register in registers)
    assert from_registers(kind, registers, order) == number


@every_order
@given(number=st.integers(0, 2**70), kind=st.sampled_from([Kind.U32, Kind.U64]))
def test_counters_begin_again_at_their_size(order: Order, number: int, kind: Kind) -> None:
    bits = {Kind.U32: 32, Kind.U64: 64}[kind]
    assert from_registers(kind, to_registers(kind, number, order), order) == number % 2**bits


@given(number=st.integers(-(2**20), 2**20))
def test_a_size_in_one_register_stops_at_its_ends(number: int) -> None:
    assert to_registers(Kind.U16, number, BIG) == [min(max(number, 0), 0xFFFF)]


@every_order
@given(ten_thousandths=st.integers(0, SCALED_LARGEST))
def test_a_scaled_number_comes_out_as_it_went_in(order: Order, ten_thousandths: int) -> None:
    number = ten_thousandths / 10_000
    assert from_registers(Kind.SCALED, to_registers(Kind.SCALED, number, order), order) == number


@every_order
@pytest.mark.parametrize("number", [None, math.nan, -math.inf, -0.0001, -5.0])
def test_what_is_no_score_is_shown_as_none_and_not_as_a_small_one(order: Order, number: float | None) -> None:
    registers = to_registers(Kind.SCALED, number, order)
    assert registers == [0xFFFF, 0xFFFF]
    assert from_registers(Kind.SCALED, registers, order) is None


@pytest.mark.parametrize("number", [math.inf, 1e308, 429_496.7294, 429_496.72946, 429_496.7295])
def test_a_score_that_is_too_large_stays_the_largest_and_is_not_none(number: float) -> None:
    assert to_registers(Kind.SCALED, number, BIG) == [SCALED_LARGEST >> 16, SCALED_LARGEST & 0xFFFF]


@given(number=st.floats())
def test_no_number_at_all_breaks_the_score(number: float) -> None:
    high, low = to_registers(Kind.SCALED, number, BIG)
    assert (high << 16 | low) == SCALED_NONE or number >= 0


@every_order
@given(text=ANY_TEXT)
def test_text_is_cut_at_whole_characters_and_holds_no_control_characters(order: Order, text: str) -> None:
    shown = from_registers(Kind.TEXT, to_registers(Kind.TEXT, text, order), order)
    assert isinstance(shown, str)
    assert shown.isprintable()
    clean = "".join(character if character.isprintable() else "?" for character in text)
    assert clean.startswith(shown)
    assert len(shown.encode()) <= TEXT_BYTES
    # As much as fits.
    assert shown == clean or len(clean[: len(shown) + 1].encode()) > TEXT_BYTES


@every_order
def test_text_is_padded_with_zeros(order: Order) -> None:
    registers = to_registers(Kind.TEXT, "Ärmel", order)
    data = b"".join(register.to_bytes(2, order.byte) for register in registers)
    assert data == "Ärmel".encode().ljust(TEXT_BYTES, b"\0")


@given(first=st.binary(max_size=TEXT_BYTES), second=st.binary(max_size=TEXT_BYTES))
def test_two_texts_of_a_plc_never_become_one(first: bytes, second: bytes) -> None:
    def shown(data: bytes) -> str:
        padded = data.ljust(TEXT_BYTES, b"\0")
        registers = [int.from_bytes(padded[at : at + 2], "big") for at in range(0, TEXT_BYTES, 2)]
        text = from_registers(Kind.TEXT, registers, BIG)
        assert isinstance(text, str)
        return text

    one, other = first.split(b"\0")[0], second.split(b"\0")[0]
    # A backslash is what escapes are written with; nobody has it in a part id.
    if one != other and b"\\" not in one + other:
        assert shown(one) != shown(other)
    assert len(shown(one)) <= 128
    assert shown(one).isprintable()


@pytest.mark.parametrize(("kind", "value"), [(Kind.TEXT, 5), (Kind.TEXT, None), (Kind.U32, "5"), (Kind.U16, None)])
def test_a_value_of_another_kind_is_refused(kind: Kind, value: int | str | None) -> None:
    with pytest.raises(ValueError, match="is no"):
        to_registers(kind, value, BIG)


# The blocks


@every_order
def test_at_power_on_everything_says_reject(order: Order) -> None:
    values = decode_status(encode_status(power_on(), order), order)
    assert [values[bit_name(bit)] for bit in BITS] == [False] * len(BITS)
    assert (values["result_number"], values["judgement"], values["online_reason"]) == (0, 0, 2)
    assert (values["score"], values["part_id"]) == (None, "")


@every_order
@given(
    number=st.integers(1, 65_535),
    epoch=NUMBERS,
    seq=NUMBERS,
    trigger_seq=NUMBERS,
    latency_us=NUMBERS,
    area_px=NUMBERS,
    region_count=NUMBERS,
    box=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    score=st.none() | st.floats(),
    part_id=ANY_TEXT,
)
def test_a_result_comes_out_of_the_status_block_as_it_went_in(order: Order, **fields: object) -> None:
    image = image_of(**fields)
    registers = encode_status(image, order)
    assert len(registers) == STATUS_SIZE
    assert all(0 <= register <= 0xFFFF for register in registers)
    values = decode_status(registers, order)
    for field in STATUS_FIELDS:
        expected = from_registers(field.row.kind, to_registers(field.row.kind, field.row.read(image), order), order)
        assert values[field.name] == expected, field.name
    assert values["result_number"] == values["result_number_end"] == fields["number"]
    assert [values[bit_name(bit)] for bit in BITS] == [bit.read(image) for bit in BITS]


@every_order
def test_values_of_the_command_block_come_out_as_they_went_in(order: Order) -> None:
    values: dict[str, Value] = {
        "plc_heartbeat": 65_535,
        "ack_number": 1,
        "command": 3,
        "recipe_wanted": 12,
        "encoder_count": -70_000,
        "trigger_part_id": "Teil-№7",
        "trigger_number": 300,
    }
    block = [0] * COMMAND_SIZE
    for name, value in values.items():
        field = COMMAND_FIELD[name]
        registers = encode_command(name, value, order)
        assert len(registers) == field.size
        block[field.address - COMMAND_START : field.end - COMMAND_START] = registers
    assert decode_command(block, order) == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ack_number", 65_536),
        ("ack_number", -1),
        ("encoder_count", 2**31),
        ("trigger_part_id", "x" * 33),
        ("trigger_part_id", "a\nb"),
        ("trigger_part_id", 7),
        ("trigger_number", "7"),
    ],
)
def test_a_command_that_does_not_fit_is_not_written_as_something_else(name: str, value: int | str) -> None:
    with pytest.raises(ValueError):
        encode_command(name, value, BIG)


@pytest.mark.parametrize(("decode", "size"), [(decode_status, STATUS_SIZE), (decode_command, COMMAND_SIZE)])
def test_a_block_of_another_size_is_refused(decode: Callable[[list[int], Order], dict[str, Value]], size: int) -> None:
    with pytest.raises(ValueError, match=f"{size - 1} registers instead of {size}"):
        decode([0] * (size - 1), BIG)
