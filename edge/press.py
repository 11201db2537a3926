"""Makes the masks' pictures beside the verdicts: a large PNG takes longer than a verdict may wait."""

from __future__ import annotations

import logging
import queue
import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bus.compose import mask_message
from edge.bus.messages import VerdictMessage, encode
from edge.logs import log_event

MOST_WAITING = 16
_LOG = logging.getLogger("linegate.masks")
Order = tuple[VerdictMessage, NDArray[np.bool_]]


class Press:
    """Takes masks and gives encoded messages with their pictures, in order. `lost` counts those that found no room."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._owed = 0
        self.lost = 0

    def order(self, verdict: VerdictMessage, mask: NDArray[np.bool_]) -> None:
        """Make the picture of a verdict's mask `bool [H, W]`."""
        if self._owed >= MOST_WAITING:
            self.lost += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="masks", daemon=True)
            self._thread.start()
        self._owed += 1
        self._orders.put((verdict, mask))

    @property
    def owed(self) -> int:
        """Masks that were ordered and not collected."""
        return self._owed

    def collect(self, timeout_s: float = 0.0) -> tuple[bytes, bytes] | None:
        """The next message and PNG; None if none is ready in time."""
        if not self._owed:
            return None
        try:
            done = self._done.get(timeout=timeout_s) if timeout_s else self._done.get_nowait()
        except queue.Empty:
            return None
        self._owed -= 1
        return done

    def close(self) -> None:
        """Let the thread end."""
        self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                message, png = mask_message(*order)
                self._done.put((encode(message), png))
            except (cv2.error, ValueError, MemoryError) as error:
                log_event(_LOG, "mask_not_made", level="error", seq=order[0].seq, error=error)
                self.lost += 1
                self._done.put(None)
