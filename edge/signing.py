"""Signatures in the minisign format: who stands for this recipe or package, and is it still what they signed?

A signature is a file beside the signed one, `NAME.minisig`. Only prehashed signatures are accepted, which minisign writes by
default: whoever has one can turn it, without the key, into a legacy one of another file, the 64 bytes of the hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.errors import OutputError, SecurityError
from edge.sealed import sha256_of, write_whole

SIGNATURE_SUFFIX = ".minisig"
PUBLIC_SUFFIX = ".pub"
SECRET_SUFFIX = ".secret"  # noqa: S105 - a file name
MOST_BYTES = 16 * 1024
"""No key or signature file is larger."""

_UNTRUSTED = b"untrusted comment: "
_TRUSTED = b"trusted comment: "
_KEY = b"Ed"
_PREHASHED = b"ED"
_LEGACY = b"Ed"
_NO_PASSWORD = b"\0\0"
_BLAKE2B = b"B2"
_KDF_BYTES = 32 + 8 + 8
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
_TIMESTAMP = re.compile(r"timestamp:([0-9]{1,15})")
_SIGN = "Sign it with `linegate keys sign`."
_SIGN_AGAIN = "Restore the file, or check it and sign it again with `linegate keys sign --force`."


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was verified: by whom (their public key file's stem), when (unix seconds), and of which bytes."""

    signer: str
    signed_at: int
    comment: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Signer:
    """One trusted public key."""

    name: str
    key: Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Signers:
    """All trusted public keys of a folder, by key id."""

    folder: Path
    by_id: MappingProxyType[bytes, Signer]

    @property
    def names(self) -> tuple[str, ...]:
        """Who is trusted, in alphabetical order."""
        return tuple(sorted(signer.name for signer in self.by_id.values()))


@dataclass(frozen=True, slots=True)
class _Signature:
    key_id: bytes
    signature: bytes
    comment: bytes
    comment_signature: bytes


def load_signers(folder: Path) -> Signers:
    """Read all `*.pub` of a folder.

    Raises:
        SecurityError: the folder is missing or holds no key; a key is malformed, or is there twice.
    """
    remedy = "Make keys with `linegate keys signing` and put each NAME.pub there that is trusted."
    try:
        paths = sorted(p for p in folder.iterdir() if p.name.endswith(PUBLIC_SUFFIX))
    except (OSError, ValueError) as cause:
        raise SecurityError(f"the folder of signers {folder} cannot be read ({_why(cause)})", remedy) from cause
    if not paths:
        raise SecurityError(f"the folder of signers {folder} holds no *{PUBLIC_SUFFIX}", remedy)
    found: dict[bytes, Signer] = {}
    for path in paths:
        key_id, key = _load_public(path)
        if key_id in found:
            raise SecurityError(
                f"{path} has the same key id as {found[key_id].name}{PUBLIC_SUFFIX} beside it", "Remove one of the two."
            )
        found[key_id] = Signer(path.name.removesuffix(PUBLIC_SUFFIX), key)
    return Signers(folder, MappingProxyType(found))


def verify(path: Path, signers: Signers) -> Signed:
    """Verify `path` with the signature beside it. Compare `sha256` with what you read: the file may change afterwards.

    Raises:
        SecurityError: it is not signed, not by one of `signers`, changed since, or its signature is malformed or changed.
    """
    data = _read(path, None)
    file = _signature_file(path)
    if not os.path.lexists(file):
        raise SecurityError(f"{path} is not signed", _SIGN)
    parsed = _parse_signature(file)
    signer = signers.by_id.get(parsed.key_id)
    if signer is None:
        raise SecurityError(
            f"{path} is signed with key {_printed(parsed.key_id)}, which is not in {signers.folder}",
            "Have it signed by somebody who is trusted there, or add their public key.",
        )
    if not _holds(signer.key, parsed.signature, hashlib.blake2b(data).digest()):
        raise SecurityError(f"{path} is not what {signer.name} signed: it or its signature was changed", _SIGN_AGAIN)
    if not _holds(signer.key, parsed.comment_signature, parsed.signature + parsed.comment):
        raise SecurityError(f"the trusted comment of {file} is not what {signer.name} signed", _SIGN_AGAIN)
    comment = parsed.comment.decode(errors="surrogateescape")
    if not comment.replace("\t", " ").isprintable():
        raise SecurityError(f"the trusted comment of {file} cannot be shown", _SIGN_AGAIN)
    times = [m for field in comment.split("\t") if (m := _TIMESTAMP.fullmatch(field))]
    if len(times) != 1:
        raise SecurityError(f"the trusted comment of {file} does not say once when it was signed", _SIGN_AGAIN)
    return Signed(signer.name, int(times[0][1]), comment, sha256_of(data))


def make_signing_keys(name: str, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Make a key pair without a password, as `minisign -G -W` does: NAME.pub and NAME.secret.

    Raises:
        OutputError: the folder cannot be written, or one of the files exists and `force` is false.
    """
    key = Ed25519PrivateKey.generate()
    key_id = secrets.token_bytes(_ID_BYTES)
    seed, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    secret = (
        _KEY + _NO_PASSWORD + _BLAKE2B + bytes(_KDF_BYTES) + key_id + seed + public + _checksum(key_id, seed, public)
    )
    paths = folder / f"{name}{PUBLIC_SUFFIX}", folder / f"{name}{SECRET_SUFFIX}"
    public_comment = f"minisign public key {_printed(key_id)}".encode()
    write_key_pair(
        paths[0], _text(public_comment, _KEY + key_id + public), paths[1], _text(b"minisign secret key", secret), force
    )
    return paths


def sign(path: Path, secret_key: Path, now_s: int) -> Path:
    """Sign a file at `now_s` (unix seconds) and write the signature beside it, over one that is there; returns its path.

    Raises:
        SecurityError: the file or the key cannot be read, or the key is malformed or has a password.
        OutputError: the signature cannot be written.
    """
    if not path.name.isprintable():
        raise SecurityError(f"{str(path)!r} has a name that cannot be shown", "Rename it.")
    key_id, key = _load_secret(secret_key)
    signature = key.sign(hashlib.blake2b(_read(path, None)).digest())
    comment = f"timestamp:{now_s}\tfile:{path.name}\thashed".encode()
    lines = (
        _text(b"signature from minisign secret key", _PREHASHED + key_id + signature),
        _TRUSTED + comment + b"\n",
        base64.b64encode(key.sign(signature + comment)) + b"\n",
    )
    file = _signature_file(path)
    write_whole(file, b"".join(lines))
    return file


def write_key_pair(public: Path, public_data: bytes, secret: Path, secret_data: bytes, force: bool) -> None:
    """Write the two files of a key pair, or neither. The secret one is readable by its owner only from the beginning.

    Raises:
        OutputError: a folder cannot be written, or one of the files exists and `force` is false.
    """
    for path in (public, secret):
        if os.path.lexists(path) and not force:
            raise OutputError(f"{path} exists", "Choose another name; --force replaces the key for good.")
    try:
        secret.parent.mkdir(parents=True, exist_ok=True)
        if force:
            secret.unlink(missing_ok=True)
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret_data)
    except OSError as cause:
        raise OutputError(f"{secret} cannot be written ({cause.strerror})", "Choose another folder.") from cause
    try:
        write_whole(public, public_data)
    except OutputError:
        secret.unlink(missing_ok=True)
        raise


def _load_public(path: Path) -> tuple[bytes, Ed25519PublicKey]:
    remedy = "Remove it from the folder, or put the signer's own NAME.pub there."
    body = _decoded(path, _lines(path, 2, remedy)[1], len(_KEY) + _ID_BYTES + _KEY_BYTES, remedy)
    if not body.startswith(_KEY) or not path.name.isprintable():
        raise SecurityError(f"{str(path)!r} is not a minisign public key", remedy)
    body = body.removeprefix(_KEY)
    return body[:_ID_BYTES], Ed25519PublicKey.from_public_bytes(body[_ID_BYTES:])


def _load_secret(path: Path) -> tuple[bytes, Ed25519PrivateKey]:
    remedy = "Name a NAME.secret that `linegate keys signing` or `minisign -G -W` made."
    head = len(_KEY + _NO_PASSWORD + _BLAKE2B)
    sizes = head + _KDF_BYTES + _ID_BYTES + 3 * _KEY_BYTES
    body = _decoded(path, _lines(path, 2, remedy)[1], sizes, remedy)
    if body[:head] == _KEY + b"Sc" + _BLAKE2B:
        raise SecurityError(f"{path} has a password", "Sign with minisign, or remove the password (`minisign -C -W`).")
    body, kind = body[head + _KDF_BYTES :], body[:head]
    key_id, body = body[:_ID_BYTES], body[_ID_BYTES:]
    seed, public, checksum = body[:_KEY_BYTES], body[_KEY_BYTES : 2 * _KEY_BYTES], body[2 * _KEY_BYTES :]
    key = Ed25519PrivateKey.from_private_bytes(seed)
    # minisign itself leaves the checksum of a key without a password empty.
    known = checksum == bytes(_KEY_BYTES) or hmac.compare_digest(checksum, _checksum(key_id, seed, public))
    if kind != _KEY + _NO_PASSWORD + _BLAKE2B or key.public_key().public_bytes_raw() != public or not known:
        raise SecurityError(f"{path} is not a minisign secret key, or is damaged", remedy)
    return key_id, key


def _parse_signature(path: Path) -> _Signature:
    lines = _lines(path, 4, _SIGN_AGAIN)
    body = _decoded(path, lines[1], len(_PREHASHED) + _ID_BYTES + _SIGNATURE_BYTES, _SIGN_AGAIN)
    algorithm, body = body[: len(_PREHASHED)], body[len(_PREHASHED) :]
    if algorithm == _LEGACY:
        raise SecurityError(f"{path} is a legacy signature", "Sign it again, with minisign without -l.")
    if algorithm != _PREHASHED or not lines[2].startswith(_TRUSTED):
        raise SecurityError(f"{path} is not a minisign signature", _SIGN_AGAIN)
    comment_signature = _decoded(path, lines[3], _SIGNATURE_BYTES, _SIGN_AGAIN)
    return _Signature(body[:_ID_BYTES], body[_ID_BYTES:], lines[2].removeprefix(_TRUSTED), comment_signature)


def _lines(path: Path, count: int, remedy: str) -> list[bytes]:
    """The lines of a key or signature file; an editor's line ends are accepted, as minisign does."""
    lines = _read(path, MOST_BYTES).replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if len(lines) != count or not lines[0].startswith(_UNTRUSTED):
        raise SecurityError(f"{path} is not in the minisign format", remedy)
    return lines


def _decoded(path: Path, line: bytes, size: int, remedy: str) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise SecurityError(f"{path} is not in the minisign format", remedy) from cause
    # Base64 has several spellings of some bytes; only one is accepted, so that no changed file passes.
    if len(data) != size or base64.b64encode(data) != line:
        raise SecurityError(f"{path} is not in the minisign format", remedy)
    return data


def _read(path: Path, most: int | None) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise SecurityError(f"{path} is no regular file", "Name a file.")
        with path.open("rb") as file:
            data = file.read() if most is None else file.read(most + 1)
    except (OSError, ValueError) as cause:
        raise SecurityError(f"{path} cannot be read ({_why(cause)})", "Name a file that exists.") from cause
    if most is not None and len(data) > most:
        raise SecurityError(f"{path} is larger than {most} bytes", "This is not a key or a signature: replace it.")
    return data


def _why(cause: OSError | ValueError) -> str:
    return str(getattr(cause, "strerror", None) or cause)


def _holds(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _checksum(key_id: bytes, seed: bytes, public: bytes) -> bytes:
    return hashlib.blake2b(_KEY + key_id + seed + public, digest_size=_KEY_BYTES).digest()


def _text(comment: bytes, data: bytes) -> bytes:
    return _UNTRUSTED + comment + b"\n" + base64.b64encode(data) + b"\n"


def _signature_file(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def _printed(key_id: bytes) -> str:
    """As minisign prints it: a little-endian number, without leading zeros."""
    return f"{int.from_bytes(key_id, 'little'):X}"
