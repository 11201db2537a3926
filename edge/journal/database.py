"""The journal's file: its schema, how it is recognised, made, locked, and set aside when it is damaged."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from edge.errors import JournalError

FILE_NAME = "journal.sqlite"
LOCK_NAME = "lock"
APPLICATION_ID = 0x4C474A4C
SCHEMA_VERSION = 1
CHECKED_BYTES = 2**30
"""Files beyond this are not read through at each start, which would take too long."""
BUSY_S = 2.0
LITTLE_BYTES = 2**20
UNREADABLE_SCHEMA = "its schema is not text"

SCHEMA = {
    "verdicts": "CREATE TABLE verdicts (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " trigger_seq INTEGER NOT NULL, wall_us INTEGER NOT NULL, part_id TEXT NOT NULL, trigger_id TEXT NOT NULL,"
    " product TEXT NOT NULL, judgement TEXT NOT NULL, message BLOB NOT NULL, reason TEXT NOT NULL,"
    " CHECK (typeof(epoch) = 'integer' AND typeof(seq) = 'integer' AND typeof(trigger_seq) = 'integer'"
    " AND typeof(wall_us) = 'integer' AND typeof(part_id) = 'text' AND typeof(trigger_id) = 'text'"
    " AND typeof(product) = 'text' AND typeof(judgement) = 'text' AND typeof(message) = 'blob'"
    " AND typeof(reason) = 'text'))",
    "verdicts_in_order": "CREATE UNIQUE INDEX verdicts_in_order ON verdicts (epoch, seq)",
    "verdicts_by_part": "CREATE INDEX verdicts_by_part ON verdicts (part_id, epoch, seq)",
    "verdicts_by_time": "CREATE INDEX verdicts_by_time ON verdicts (wall_us, epoch, seq)",
    "verdicts_by_trigger": "CREATE INDEX verdicts_by_trigger ON verdicts (epoch, seq) WHERE trigger_id <> ''",
    "epochs": "CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, wall_us INTEGER NOT NULL, head_seq INTEGER NOT NULL,"
    " ending TEXT, CHECK (typeof(wall_us) = 'integer' AND typeof(head_seq) = 'integer'"
    " AND typeof(ending) IN ('text', 'null')))",
}
# What SQLite says about the machine, not about the file.
_SURROUNDINGS = ("disk I/O", "unable to open", "disk is full", "readonly", "locked", "permission", "out of memory")


def connect(path: Path, options: str) -> sqlite3.Connection:
    """A connection that commits only when told, for any thread; `options` are those of an SQLite URI."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = lambda data: data.decode(errors="replace")
    return connection


def recognise(connection: sqlite3.Connection, path: Path) -> str:
    """Why this is no journal; empty if it is one.

    Raises:
        JournalError: newer software made it.
        sqlite3.Error: it cannot be read.
    """
    application, version = (
        int(connection.execute(f"PRAGMA {n}").fetchone()[0]) for n in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        return "not a journal"
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path} has schema version {version}, this software reads {SCHEMA_VERSION}",
            "Use the newer software, or set journal.folder to another folder.",
        )
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
    missing = sorted(name for name, sql in SCHEMA.items() if found.get(name) != sql)
    return f"{missing[0]} is missing" if missing else ""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is at fault, not the disk or another program."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    return type(error) is sqlite3.DatabaseError or not any(words in str(error) for words in _SURROUNDINGS)


def is_full(error: OSError | sqlite3.Error, folder: Path) -> bool:
    """Whether there was no room. SQLite calls some of it an I/O error, so that the disk has to be asked."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if "disk is full" in str(error):
        return True
    try:
        return not is_damage(error) and shutil.disk_usage(folder).free < LITTLE_BYTES
    except OSError:
        return False


def spoken(error: OSError | sqlite3.Error) -> str:
    """An error in a few words."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def locked(folder: Path) -> IO[bytes]:
    """The folder, made if need be, for this process alone until the file that this returns is closed.

    Raises:
        JournalError: another process has it.
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((folder / LOCK_NAME).open("ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"the journal in {folder} is in use by another station",
                "Stop that station, or set journal.folder to another folder.",
            ) from None
        stack.pop_all()
        return lock


def prepare(folder: Path) -> Path | None:
    """See that there is a sound journal; where the unsound one is now, if there was one.

    Raises:
        JournalError: newer software made it.
        OSError, sqlite3.Error: the folder or the disk refuses.
    """
    path = folder / FILE_NAME
    suspected = suspicion(path)
    if path.exists() and not _damage(path, path.stat().st_size <= CHECKED_BYTES or suspected.exists()):
        suspected.unlink(missing_ok=True)
        return None
    # A log without its journal must go too: SQLite would write it into the new one.
    found = [suffix for suffix in ("", "-wal", "-shm", "-journal") if beside(path, suffix).exists()]
    aside = _free_name(path) if found else None
    for suffix in found if aside is not None else ():
        beside(path, suffix).rename(f"{aside}{suffix}")
    _create(path)
    suspected.unlink(missing_ok=True)
    return aside


def _damage(path: Path, thoroughly: bool) -> str:
    """What is wrong with a journal, empty if nothing is. Changes none of its bytes."""
    options = "mode=ro" if beside(path, "-wal").exists() else "mode=ro&immutable=1"
    with contextlib.closing(connect(path, options)) as connection:
        try:
            problem = recognise(connection, path)
            if problem or not thoroughly:
                return problem
            said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            return "" if said == "ok" else said
        except sqlite3.Error as error:
            if is_damage(error):
                return str(error)
            raise
        except UnicodeDecodeError:
            # What SQLite quotes from a damaged schema need not be text.
            return UNREADABLE_SCHEMA


def _create(path: Path) -> None:
    """An empty journal, complete before it is in its place."""
    new = path.with_name(f"{path.name}.new")
    _remove_new(new)
    try:
        with contextlib.closing(connect(new, "mode=rwc")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for sql in SCHEMA.values():
                connection.execute(sql)
            connection.execute("COMMIT")
        new.rename(path)
    finally:
        _remove_new(new)


def _remove_new(new: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        beside(new, suffix).unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return path.with_name(f"{path.name}.corrupt-{stamp}")


def suspicion(path: Path) -> Path:
    """Its presence asks for a thorough check at the next start."""
    return beside(path, ".suspect")


def beside(path: Path, suffix: str) -> Path:
    """The file whose name has this after the name of `path`."""
    return path.with_name(path.name + suffix)
