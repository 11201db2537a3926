"""The printed register map is the one that the server has."""

from __future__ import annotations

import csv
import io

from edge.gateways.codes import FaultCode, JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.modbus.document import COLUMNS, map_csv, map_markdown
from edge.gateways.modbus.layout import COMMAND_FIELDS, STATUS_FIELD, STATUS_FIELDS, Field, bit_name
from edge.gateways.signals import BITS, Command, Signal


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(map_csv())))


def section(title: str) -> list[list[str]]:
    """The cells of the table under the heading that begins so."""
    part = next(part for part in map_markdown().split("### ") if part.startswith(title))
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_csv_names_every_register_of_both_blocks_once() -> None:
    values = [row for row in rows() if row["iec_type"] != "BOOL"]
    named = [
        register
        for row in values
        for register in range(int(row["register"]), int(row["register"]) + int(row["length_registers"]))
    ]
    fields: list[Field[Signal] | Field[Command]] = [*STATUS_FIELDS, *COMMAND_FIELDS]
    assert named == [register for field in fields for register in range(field.address, field.end)]
    assert [row["name"] for row in values] == [field.name for field in fields]


def test_the_csv_counts_modicon_addresses_from_40001() -> None:
    first = {row["name"]: row["modicon_address"] for row in rows()}
    assert first["result_number"] == "40001"
    assert first["plc_heartbeat"] == "40201"
    assert first["online"] == "40002.0"
    assert first["accept"] == f"40002.{[bit.name for bit in BITS].index('accept')}"


def test_only_the_command_block_is_to_be_written() -> None:
    access = {row["name"]: (row["direction"], row["access"]) for row in rows()}
    assert {access[field.name] for field in STATUS_FIELDS} == {("status", "R")}
    assert {access[bit_name(bit)] for bit in BITS} == {("status", "R")}
    assert {access[field.name] for field in COMMAND_FIELDS} == {("command", "RW")}


def test_the_csv_can_be_read_by_tools_that_know_no_line_breaks_in_cells() -> None:
    lines = map_csv().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 1 + len(rows())
    assert all(row[column] is not None for row in rows() for column in COLUMNS)


def test_the_tables_for_people_have_every_value_with_its_register() -> None:
    for title, fields in (("Status block", STATUS_FIELDS), ("Command block", COMMAND_FIELDS)):
        table = section(title)
        assert [cells[3] for cells in table] == [f"`{field.name}`" for field in fields]
        assert [int(cells[0].split(" to ")[0]) for cells in table] == [field.address for field in fields]
        assert all(cells[4] for cells in table)
    assert [cells[1] for cells in section("Bits of")] == [f"`{bit_name(bit)}`" for bit in BITS]


def test_every_code_of_every_table_is_told_with_its_own_words() -> None:
    tables = {
        "judgement": JudgementCode,
        "reason": ReasonCode,
        "online_reason": OnlineReason,
        "fault_code": FaultCode,
        "trigger_status": TriggerStatus,
        "recipe_status": RecipeStatus,
    }
    assert {name for name, field in STATUS_FIELD.items() if field.row.codes} == set(tables)
    for name, codes in tables.items():
        table = section(f"Codes of `{name}`")
        assert [(int(cells[0]), cells[1]) for cells in table] == [(int(code), code.name) for code in codes]
        assert len({cells[2] for cells in table}) == len(codes)
    words = {(name, cells[1]): cells[2] for name in tables for cells in section(f"Codes of `{name}`")}
    assert words["judgement", "OK"] == "like the shots"
    assert words["online_reason", "ONLINE"] == "online: results may be used"
    assert words["reason", "DEFECT"] == "the part is defective"


def test_the_map_is_the_same_each_time() -> None:
    assert map_markdown() == map_markdown()
    assert map_csv() == map_csv()
