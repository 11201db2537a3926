"""What asyncua says, in our log: one line each, and not more than a person can read."""

from __future__ import annotations

import logging
import time

from edge.logs import log_event

LINES_PER_S = 5
_LOG = logging.getLogger("linegate.gateway.opcua")
_ROOTS = ("asyncua", "asyncuagds")


class OneLine(logging.Handler):
    """Passes records on without their tracebacks, a few each second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._second, self._said = 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one on."""
        second = int(time.monotonic())
        self._second, self._said = second, 1 if second != self._second else self._said + 1
        if self._said <= LINES_PER_S:
            text = "".join(c if c.isprintable() else " " for c in record.getMessage())[:200]
            log_event(_LOG, "asyncua", level="warning", says=text)


def quieten() -> None:
    """Take over asyncua's loggers, which else print tracebacks for whatever a stranger sends."""
    for name in _ROOTS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        if not any(isinstance(handler, OneLine) for handler in logger.handlers):
            logger.addHandler(OneLine())
