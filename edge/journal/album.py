"""Which parts' pictures are kept: every reject's, and each n-th accepted one's. They wait here for the journal's thread.

Where more come than the disk takes, those that were rejected for what they show stay longest.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from edge.bus.messages import VerdictMessage
from edge.errors import JournalError
from edge.journal.pictures import PictureNotKept, PictureStore
from edge.journal.tail import MEGABYTE
from edge.logs import log_event
from edge.types import Judgement, Picture, Reason

WAITING = 16
FREED_BYTES = 32 * MEGABYTE
"""What accepted parts' pictures give back to a full disk at once: room for about 20,000 verdicts."""
_LOG = logging.getLogger("linegate.journal")


@dataclass(eq=False, slots=True)
class _Shot:
    epoch: int
    seq: int
    pixels: Picture
    worth: int

    @property
    def rejected(self) -> bool:
        """Whether it shows a part that was not accepted."""
        return self.worth > 0


def worth_of(message: VerdictMessage) -> int:
    """2: rejected for what the picture shows. 1: rejected for what happened around it. 0: accepted."""
    if message.judgement is Judgement.OK:
        return 0
    return 2 if message.reason in (Reason.DEFECT, Reason.UNFIT_IMAGE) else 1


class Album:
    """Takes pictures from the hot path without waiting; `keep_one` writes them. `lost` counts those that were not kept."""

    def __init__(self, folder: Path, quota_bytes: int, accepts_every: int) -> None:
        self._folder, self._quota_bytes, self._every = folder, quota_bytes, accepts_every
        self._store: PictureStore | None = None
        self._waiting: deque[_Shot] = deque()
        self._accepts = 0
        self._lock = threading.Lock()
        self.lost = 0

    def offer(self, message: VerdictMessage, pixels: Picture) -> None:
        """Keep this picture, if it is to be kept. Where there is no room it displaces one that is worth less."""
        worth = worth_of(message)
        if worth == 0:
            self._accepts += 1
            if not self._every or self._accepts % self._every:
                return
        shot = _Shot(message.epoch, message.seq, pixels, worth)
        with self._lock:
            if len(self._waiting) >= WAITING:
                least = min([shot, *self._waiting], key=lambda s: s.worth)
                self._lose(least)
                if least is shot:
                    return
                self._waiting.remove(least)
            self._waiting.append(shot)

    def _lose(self, shot: _Shot) -> None:
        self.lost += 1
        log_event(
            _LOG, "picture_lost", level="warning", epoch=shot.epoch, seq=shot.seq, why="too many wait for the disk"
        )

    @property
    def empty(self) -> bool:
        """Whether none waits."""
        return not self._waiting

    def keep_one(self) -> None:
        """Write the picture that waits longest, if one does."""
        with self._lock:
            shot = self._waiting.popleft() if self._waiting else None
        if shot is None:
            return
        try:
            self._open().keep(shot.epoch, shot.seq, shot.pixels, shot.rejected)
        except PictureNotKept as error:
            self.lost += 1
            log_event(_LOG, "picture_not_kept", level="warning", epoch=shot.epoch, seq=shot.seq, error=error)

    def make_room(self) -> None:
        """The disk is full: verdicts are worth more than pictures of accepted parts."""
        try:
            freed = self._open().free_accepts(FREED_BYTES)
        except JournalError:
            return
        if freed:
            log_event(_LOG, "pictures_given_up", level="warning", freed_bytes=freed)

    def _open(self) -> PictureStore:
        if self._store is None:
            self._store = PictureStore(self._folder, self._quota_bytes)
        return self._store
