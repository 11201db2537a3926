"""Reads a page as a browser would: what it says, and what it would fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

FETCHING = {"src", "srcset", "href", "xlink:href", "poster", "data", "action", "formaction", "background", "cite"}
RUNNING = {"script", "link", "iframe", "object", "embed", "base", "form"}


class Page(HTMLParser):
    """The text of a page, its tags, and the addresses in it that are not inside the page."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.pictures: list[str] = []
        self._style = False
        self.feed(source)
        self.close()

    @property
    def text(self) -> str:
        """All that a person reads, on one line."""
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        self.tags.append(tag)
        self._style = tag == "style"
        for name, value in attrs:
            text = value or ""
            if tag in RUNNING or name.startswith("on"):
                self.outside.append(f"<{tag} {name}={text!r}>")
            elif name in FETCHING and not text.startswith(("data:", "#")):
                self.outside.append(text)
            elif name == "style":
                self._note_style(text)
            if tag == "img" and name == "src":
                self.pictures.append(text)

    def handle_endtag(self, tag: str) -> None:
        """See `HTMLParser`."""
        self._style = False

    def handle_data(self, data: str) -> None:
        """See `HTMLParser`."""
        if self._style:
            self._note_style(data)
        else:
            self.texts.append(data)

    def _note_style(self, style: str) -> None:
        self.outside += re.findall(r"@import[^;]*", style)
        self.outside += [
            a for a in re.findall(r"url\(([^)]*)\)", style) if not a.strip("'\" ").startswith(("data:", "#"))
        ]
