"""Sealed files: JSON that carries its own checksum, and is written whole or not at all.

A sealed file is accepted only if its bytes are exactly what this software would write for its content, so any flipped bit
is seen, in white space and keys as well as in values.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge.errors import LinegateError, OutputError

T = TypeVar("T")


def sha256_of(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """Hex SHA-256 of a value's canonical JSON (sorted keys, no white space)."""
    return sha256_of(msgspec.json.encode(value, order="sorted"))


def seal(value: object) -> bytes:
    """The bytes of a sealed file: the value as an object plus `checksum` over everything else."""
    content: dict[str, Any] = msgspec.to_builtins(value)
    content["checksum"] = digest(content)
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"


def unseal(path: Path, kind: type[T], schema_version: int, error: type[LinegateError], remedy: str) -> T:
    """Read a sealed file.

    Args:
        path: the file.
        kind: the msgspec Struct it must hold.
        schema_version: the only `schema_version` that is understood.
        error: what to raise.
        remedy: what the user should do about a damaged file.

    Raises:
        LinegateError: as `error`: the file is missing, malformed, from another version, or does not match its checksum.
    """
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror})", remedy) from cause
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise error(f"{path} is damaged ({cause})", remedy) from cause
    if not isinstance(content, dict):
        raise error(f"{path} is damaged (not an object)", remedy)
    found = content.get("schema_version")
    if isinstance(found, int) and found != schema_version:
        raise error(f"{path} has schema version {found}, this software reads {schema_version}", remedy)
    checksum = content.pop("checksum", None)
    try:
        value = msgspec.convert(content, kind)
    except msgspec.ValidationError as cause:
        raise error(f"{path} is damaged ({cause})", remedy) from cause
    if checksum != digest(content) or seal(value) != data:
        raise error(f"{path} does not match its checksum: it was changed or damaged", remedy)
    return value


def read_checked(path: Path, sha256: str, error: type[LinegateError], remedy: str) -> bytes:
    """Read a file and compare its SHA-256.

    Raises:
        LinegateError: as `error`: the file is missing or its hash differs.
    """
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror})", remedy) from cause
    if sha256_of(data) != sha256:
        raise error(f"{path} does not match its hash: it was changed or damaged", remedy)
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it there.

    Raises:
        OutputError: the folder cannot be made or written, or something that is no file is there.
    """
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} cannot be written (it is no regular file)", "Name a file.")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as cause:
        beside.unlink(missing_ok=True) if beside.parent.is_dir() else None
        raise OutputError(
            f"{path} cannot be written ({cause.strerror})", "Choose a folder that can be written."
        ) from cause


def require_folder(folder: Path) -> None:
    """Make a folder if need be and prove that it can be written, before work is spent.

    Raises:
        OutputError: it cannot be made or written.
    """
    probe = folder / f".linegate-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as cause:
        raise OutputError(
            f"{folder} cannot be written ({cause.strerror})", "Choose a folder that can be written."
        ) from cause
