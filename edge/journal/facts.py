"""What a station must not forget: the active recipe, and the newest that was ever active. Outlives a damaged journal.

Few and small, so each change writes them whole and waits for the disk.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from edge.errors import JournalError, OutputError
from edge.sealed import seal, unseal, write_whole

FILE_NAME = "facts.json"
SCHEMA_VERSION = 1
_MEND = "Restore it from a backup; or delete it, and the station begins with what its file names."


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema_version: int
    facts: dict[str, str]


class Facts:
    """Safe to use from several threads; not for the hot path."""

    def __init__(self, folder: Path) -> None:
        """Read what is there.

        Raises:
            JournalError: the file is damaged: nobody knows what was active.
        """
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._facts: dict[str, str] = {}
        if self._path.exists():
            self._facts = unseal(self._path, _Facts, SCHEMA_VERSION, JournalError, _MEND).facts

    def get(self, key: str) -> str | None:
        """What was remembered."""
        with self._lock:
            return self._facts.get(key)

    def set(self, key: str, value: str) -> bool:
        """Keep a fact over restarts and power failures; False if the disk does not take it, and nothing has changed."""
        with self._lock:
            if self._facts.get(key) == value:
                return True
            facts = {**self._facts, key: value}
            try:
                write_whole(self._path, seal(_Facts(SCHEMA_VERSION, facts)))
                _sync(self._path)
            except (OutputError, OSError):
                return False
            self._facts = facts
            return True


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
