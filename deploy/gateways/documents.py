"""Write what is generated into docs/gateways: the register map, the CSV for import, and the structured text's types.

python -m deploy.gateways.documents
"""

from __future__ import annotations

from pathlib import Path

from edge.gateways.modbus.document import map_csv, map_markdown
from edge.gateways.structured_text import registers, types

DOCS = Path(__file__).parents[2] / "docs/gateways"
BEGIN, END = "<!-- map -->", "<!-- /map -->"


def documents() -> dict[Path, str]:
    """Every generated file with its text; of `modbus.md` only what is between the marks changes."""
    page = DOCS / "modbus.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    return {
        page: f"{before}{BEGIN}\n{map_markdown()}{END}{after}",
        DOCS / "modbus-map.csv": map_csv(),
        DOCS / "st/Linegate_Types.st": types(),
        DOCS / "st/Linegate_Registers.st": registers(),
    }


def main() -> None:
    """Write them."""
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
