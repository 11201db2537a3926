"""What comes from outside, shown on a terminal: nothing in it may command the terminal or be read as markup."""

from __future__ import annotations

from rich.text import Text


def printable(value: object) -> Text:
    """Any value as plain text; None is empty."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
