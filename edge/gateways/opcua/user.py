"""Users of the OPC UA server: a file of names and password hashes."""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import hmac
import os
import re
import secrets
import sys
import tempfile
from pathlib import Path

from edge.errors import GatewayError

# 16 MiB and some 50 ms for each guess.
COST, BLOCK, PARALLEL = 2**14, 8, 1
LONGEST_PASSWORD = 1024
HASH_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
LINE = re.compile(r'(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,63})\s*=\s*"(?P<hash>scrypt\$[A-Za-z0-9+/=$]+)"\s*')


def hash_password(password: str) -> str:
    """`scrypt$cost$block$parallel$salt$hash`, with a salt of its own."""
    salt = secrets.token_bytes(16)
    parts = (salt, _scrypt(password, salt, COST, BLOCK, PARALLEL))
    return "$".join(["scrypt", str(COST), str(BLOCK), str(PARALLEL), *(base64.b64encode(p).decode() for p in parts)])


def check_password(password: str, hashed: str) -> bool:
    """Whether it is the password; takes as long for a wrong one as for the right one."""
    try:
        found, wanted = _compared(password, hashed)
    except (ValueError, OverflowError, MemoryError):
        return False
    return hmac.compare_digest(found, wanted)


def _compared(password: str, hashed: str) -> tuple[bytes, bytes]:
    """The password's hash, and the one that it should have. Raises ValueError: not in the form of `hash_password`."""
    kind, cost, block, parallel, salt, wanted = hashed.split("$")
    expected = base64.b64decode(wanted, validate=True)
    if kind != "scrypt" or len(expected) != HASH_BYTES:
        raise ValueError("no hash of scrypt")
    found = _scrypt(password, base64.b64decode(salt, validate=True), int(cost), int(block), int(parallel))
    return found, expected


class Users:
    """Who may come in. `check` takes some 50 ms and is meant for a thread; who has been let in once is known again at once."""

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = hashes
        self._decoy = hash_password(secrets.token_hex())
        self._secret = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}

    def check(self, name: str, password: str) -> bool:
        """Whether name and password belong together. An unknown name takes as long as a wrong password."""
        if self.is_known(name, password):
            return True
        if not check_password(password, self._hashes.get(name, self._decoy)) or name not in self._hashes:
            return False
        self._known[name] = self._mark(password)
        return True

    def is_known(self, name: str, password: str) -> bool:
        """Whether `check` has said yes to exactly this before."""
        return hmac.compare_digest(self._known.get(name, b""), self._mark(password))

    def _mark(self, password: str) -> bytes:
        return hmac.digest(self._secret, password.encode("utf-8", "surrogatepass"), "sha256")


def load_users(path: Path) -> Users:
    """Read a users file: `name = "scrypt$..."` on each line, `#` begins a comment.

    Raises:
        GatewayError: it cannot be read, others may read it, a line is malformed, or there is no user.
    """
    users = _read(path)
    if not users:
        raise GatewayError(f"{path} has no user: nobody could log in", "Add one with `linegate gateway user`.")
    return Users(users)


def add_user(path: Path, name: str, password_file: Path | None) -> int:
    """Add a user, or give one another password. Asks for it at the terminal, or takes the first line of a file.

    Raises:
        GatewayError: the name, the password or a file is no good.
    """
    if not NAME.fullmatch(name):
        raise GatewayError(
            f"{name!r} is no user's name", "Use letters, digits, dot, dash, underscore and @; at most 64."
        )
    password = _password(password_file)
    users = _read(path) if path.exists() else {}
    users[name] = hash_password(password)
    text = "".join(f'{known} = "{hashed}"\n' for known, hashed in sorted(users.items()))
    try:
        _replace(path, text)
    except OSError as error:
        raise GatewayError(
            f"{path} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error
    sys.stderr.write(f"linegate: {path} knows {', '.join(sorted(users))}. Restart the gateway.\n")
    return 0


def _password(path: Path | None) -> str:
    if path is None:
        if not sys.stdin.isatty():
            raise GatewayError("there is no terminal to ask for the password", "Name a --password-file.")
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Again: "):
            raise GatewayError("the two passwords differ", "Type the same twice.")
    else:
        try:
            password = (path.read_text(encoding="utf-8").splitlines() or [""])[0]
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayError(f"{path} cannot be read ({error})", "Name a text file.") from error
    if not 8 <= len(password.encode()) <= LONGEST_PASSWORD:
        raise GatewayError("the password is too short or too long", f"Use 8 to {LONGEST_PASSWORD} bytes.")
    return password


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(
            f"{path}, the users file, cannot be read ({error})", "Make it with `linegate gateway user`."
        ) from error
    if mode & 0o077:
        raise GatewayError(f"others can read {path}, the users file", f"Run `chmod 600 {path}`.")
    users = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = LINE.fullmatch(text)
        if found is None:
            raise GatewayError(f"{path}:{number} is no user", 'Each line is `name = "scrypt$..."`.')
        try:
            _compared("", found["hash"])
        except (ValueError, OverflowError, MemoryError) as error:
            raise GatewayError(
                f"{path}:{number}: the hash of {found['name']} is malformed",
                "Delete the line, and give the password again with `linegate gateway user`.",
            ) from error
        users[found["name"]] = found["hash"]
    return users


def _replace(path: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    data = password.encode("utf-8", "surrogatepass")[: LONGEST_PASSWORD + 1]
    return hashlib.scrypt(data, salt=salt, n=cost, r=block, p=parallel, maxmem=2**26, dklen=HASH_BYTES)
