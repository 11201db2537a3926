"""Structured logs that never hold up a verdict: bounded, written by a thread of their own, one line a record."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import os
import queue
import re
import select
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from enum import Enum
from logging.handlers import QueueHandler
from numbers import Integral
from typing import IO, Literal

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
Scalar = str | int | float | bool | None

ROOT = "linegate"
CAPACITY_RECORDS = 1024
CLOSE_S = 2.0
FIELDS = "linegate_fields"
ERROR = "linegate_error"
RESERVED = frozenset({"time", "level", "event", "logger", "error"})
BARE_WORD = re.compile(r"[\w.:/@+-]+")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Without a keeper nothing is written: else Python itself would write warnings, and wait for whoever reads them.
logging.getLogger(ROOT).addHandler(logging.NullHandler())


def log_event(
    logger: logging.Logger,
    event: str,
    /,
    *,
    level: Level = "info",
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Log one event, such as `log_event(logger, "late_result", seq=7)`.

    Args:
        logger: named `linegate.` and the module.
        event: what happened, the same word each time.
        level: how bad it is.
        error: told as one line.
        fields: what belongs to it; numbers, words and enums stay what they are, anything else becomes text.
    """
    logger.log(LEVELS[level], "%s", event, exc_info=error, extra={FIELDS: fields})


def configure(
    style: Format, stream: IO[str], *, level: Level = "info", capacity_records: int = CAPACITY_RECORDS
) -> LogKeeper:
    """Write what is logged below `linegate` to `stream` until the keeper is closed.

    Args:
        style: "json" is one object a line, "text" is for people.
        stream: if it has a file descriptor, that is written to, past the stream's own buffer.
        level: what is less bad is not logged.
        capacity_records: so many may wait; what comes then is dropped and counted.
    """
    return LogKeeper({"json": as_json, "text": as_text}[style], stream, LEVELS[level], capacity_records)


def as_json(record: logging.LogRecord) -> str:
    """One object on one line, ASCII only; a field with a reserved name gets an underscore."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    line: dict[str, Scalar] = {
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        "logger": record.name,
    }
    for name, value in _fields(record).items():
        line[f"{name}_" if name in RESERVED else name] = value
    if _error(record):
        line["error"] = _error(record)
    return json.dumps(line)


def as_text(record: logging.LogRecord) -> str:
    """`linegate: event key=value`, and the level where it is not info."""
    level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
    words = [f"{ROOT}: {level}{_printable(record.getMessage())}"]
    fields = {**_fields(record), **({"error": _error(record)} if _error(record) else {})}
    words += [f"{_printable(name)}={_word(value)}" for name, value in fields.items()]
    return " ".join(words)


class LogKeeper:
    """Owns the handler and the thread that writes."""

    def __init__(
        self, form: Callable[[logging.LogRecord], str], stream: IO[str], level: int, capacity_records: int
    ) -> None:
        self._form = form
        self._sink = _Sink(stream)
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(capacity_records)
        self._handler = _DroppingHandler(self._queue)
        self._logger = logging.getLogger(ROOT)
        self._before = self._logger.propagate, self._logger.level
        self._logger.propagate = False
        self._logger.setLevel(level)
        self._logger.addHandler(self._handler)
        self._thread = threading.Thread(target=self._keep, name="logs", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Write what waits; False if that took too long and it was given up. May be called twice."""
        self._logger.removeHandler(self._handler)
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)
        end = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, end - time.monotonic()))
        return not self._thread.is_alive()

    def _keep(self) -> None:
        while (record := self._queue.get()) is not None:
            self._put(record)
            # Only when there is room for more than one: else a slow reader would get as many counts as records.
            if self._queue.qsize() * 2 <= self._queue.maxsize:
                self._tell_dropped()
        self._tell_dropped()
        self._sink.close()

    def _tell_dropped(self) -> None:
        count = self._handler.take_dropped()
        if count:
            values = {
                "name": f"{ROOT}.logs",
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                FIELDS: {"count": count},
            }
            self._put(logging.makeLogRecord({**values, "msg": "log_records_dropped"}))

    def _put(self, record: logging.LogRecord) -> None:
        # A stream that is closed or broken for good loses the line; the station goes on.
        with contextlib.suppress(OSError, ValueError):
            self._sink.write(self._form(record) + "\n")


class _DroppingHandler(QueueHandler):
    """Freezes a record and hands it over; never waits."""

    def __init__(self, records: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(records)
        self._records = records
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A copy that holds on to nothing that can change later, nor to a traceback and the pictures in its frames."""
        frozen = copy.copy(record)
        frozen.msg, frozen.args = record.getMessage(), None
        error = record.exc_info[1] if record.exc_info else None
        frozen.exc_info = frozen.exc_text = frozen.stack_info = None
        setattr(frozen, ERROR, f"{type(error).__name__}: {error}" if error is not None else "")
        setattr(frozen, FIELDS, {name: _plain(value) for name, value in _fields(record).items()})
        return frozen

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """A record that cannot be told is dropped too: logging would print a traceback, and wait for its reader."""
        self._dropped += 1

    def take_dropped(self) -> int:
        """How many were dropped since the last call."""
        self.acquire()
        try:
            count, self._dropped = self._dropped, 0
            return count
        finally:
            self.release()


class _Sink:
    """Writes to the stream's descriptor, past its buffer.

    A thread that is stuck in a buffered standard stream makes Python abort at its end.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
            self._descriptor = os.dup(stream.fileno())

    def write(self, text: str) -> None:
        if self._descriptor is None:
            self._stream.write(text)
            return
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Whoever shares the pipe has made it non-blocking.
                select.select([], [self._descriptor], [])

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _fields(record: logging.LogRecord) -> Mapping[str, Scalar]:
    return getattr(record, FIELDS, {})


def _error(record: logging.LogRecord) -> str:
    return getattr(record, ERROR, "")


def _plain(value: object) -> Scalar:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return str(value)


def _word(value: Scalar) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if BARE_WORD.fullmatch(text) else _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """Escapes what would break the line or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
