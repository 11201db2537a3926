"""The documents say what the code does: tables, structured text and the example file come from it or are compared with it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploy.gateways.documents import documents
from deploy.gateways.draw import DIAGRAMS, Diagram
from edge.gateways.codes import FaultCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.settings import GatewaySettings, RecipeNumber, load_gateway
from edge.gateways.signals import BITS, COMMANDS, STATUS

DOCS = Path(__file__).parents[2] / "docs/gateways"
PAGES = tuple(sorted(DOCS.glob("*.md")))
EXAMPLE = re.compile(r"```toml\n(name = .*?)```", re.DOTALL)


@pytest.fixture
def example() -> str:
    """The complete gateway.toml of the page."""
    found = EXAMPLE.search((DOCS / "README.md").read_text())
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == documents()[path], "run python -m deploy.gateways.documents"


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=lambda diagram: diagram.file)
def test_each_diagram_is_shown_and_has_signals_that_exist(diagram: Diagram) -> None:
    assert f"]({diagram.file})" in (DOCS / "README.md").read_text()
    signals = {row.name for row in STATUS} | {row.name for row in COMMANDS} | {bit.name for bit in BITS}
    assert {wave.name for wave in diagram.waves if "_" in wave.name} <= signals
    assert (DOCS / diagram.file).read_text().rstrip().endswith("</svg>")


def test_the_example_is_a_file_that_loads(example: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example)
    settings = load_gateway(path)
    assert [recipe.product for recipe in settings.recipes] == ["board", "bracket"]


def test_the_example_has_every_key_with_what_it_is_without_it(example: str) -> None:
    shown = msgspec.toml.decode(example)
    defaults = msgspec.to_builtins(GatewaySettings())
    assert set(shown) == set(defaults)
    sections = [name for name, value in defaults.items() if isinstance(value, dict)]
    for name in sections:
        assert set(shown[name]) == set(defaults[name]), name
        differ = {key for key, value in shown[name].items() if value != defaults[name][key]}
        assert differ <= {"key", "server_key", "allow", "certificate", "private_key", "users"}, name
    assert set().union(*shown["recipes"]) == set(RecipeNumber.__struct_fields__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_code_that_the_failure_table_names_is_there() -> None:
    text = (DOCS / "README.md").read_text()
    table = text.split("## What fails")[1].split("## Commission")[0]
    known = {
        code.name for codes in (FaultCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus) for code in codes
    }
    named = set(re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)*\b", table)) - {"SIGSTOP"}
    assert named
    assert named <= known


def test_every_setting_that_the_pages_name_is_there() -> None:
    for page in PAGES:
        for section, key in re.findall(r"`(bus|plc|modbus|opcua)\.(\w+)`", page.read_text()):
            assert key in getattr(GatewaySettings(), section).__struct_fields__ or (section, key) == (
                "bus",
                "heartbeat_ms",
            )


def test_another_vendors_parser_reads_the_structured_text() -> None:
    if importlib.util.find_spec("blark") is None:
        pytest.skip("blark is not installed (pip install blark)")
    # In a process of its own: what it warns of is no fault of these tests.
    script = (
        "import sys, blark.parse\nfor path in sys.argv[1:]:\n    for found in blark.parse.parse(path):\n        "
        + ("if found.exception is not None: sys.exit(f'{path}: {found.exception}')\n        print(path)")
    )
    paths = [str(path) for path in sorted((DOCS / "st").glob("*.st"))]
    read = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stdout + read.stderr
    assert set(read.stdout.split()) == set(paths)
