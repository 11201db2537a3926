"""A signature is accepted only for the bytes, the signer and the comment that were signed."""

from __future__ import annotations

import base64
import hashlib
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import LinegateError, OutputError, SecurityError
from edge.signing import MOST_BYTES, Signed, load_signers, make_signing_keys, sign, verify

NOW_S = 1_790_000_000
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
CONTENT = b'{"product": "bracket"}\n'


@dataclass(frozen=True)
class Desk:
    """One signed file, its signer's keys, and the folder of those who are trusted."""

    folder: Path
    signers: Path
    secret: Path
    file: Path

    @property
    def signature(self) -> Path:
        return self.file.with_name(self.file.name + ".minisig")

    def verify(self) -> Signed:
        return verify(self.file, load_signers(self.signers))


@contextmanager
def signed_file() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        public, secret = make_signing_keys("anna", folder / "keys")
        (folder / "signers").mkdir()
        (folder / "signers" / public.name).write_bytes(public.read_bytes())
        file = folder / "recipe.json"
        file.write_bytes(CONTENT)
        sign(file, secret, NOW_S)
        yield Desk(folder, folder / "signers", secret, file)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with signed_file() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Desk]:
    """For properties: its files are written anew by every example."""
    with signed_file() as made:
        yield made


def key_of(secret: Path) -> tuple[bytes, Ed25519PrivateKey]:
    body = base64.b64decode(secret.read_bytes().splitlines()[1])
    return body[54:62], Ed25519PrivateKey.from_private_bytes(body[62:94])


def write_signature(desk: Desk, comment: bytes, algorithm: bytes = b"ED", message: bytes | None = None) -> None:
    """Sign as somebody who has the key and does as he likes."""
    key_id, key = key_of(desk.secret)
    signature = key.sign(hashlib.blake2b(CONTENT).digest() if message is None else message)
    lines = (
        b"untrusted comment: by hand",
        base64.b64encode(algorithm + key_id + signature),
        b"trusted comment: " + comment,
        base64.b64encode(key.sign(signature + comment)),
    )
    desk.signature.write_bytes(b"\n".join(lines) + b"\n")


@given(content=st.binary(max_size=2000), now_s=st.integers(0, 10**12))
@settings(max_examples=50)
def test_what_was_signed_is_accepted_and_says_by_whom_and_when(shared: Desk, content: bytes, now_s: int) -> None:
    file = shared.folder / "any"
    file.write_bytes(content)
    assert sign(file, shared.secret, now_s) == shared.folder / "any.minisig"
    found = verify(file, load_signers(shared.signers))
    assert found == Signed("anna", now_s, f"timestamp:{now_s}\tfile:any\thashed", hashlib.sha256(content).hexdigest())


def test_the_files_have_the_layout_of_minisign(desk: Desk) -> None:
    public = desk.secret.with_suffix(".pub").read_bytes().splitlines()
    secret = base64.b64decode(desk.secret.read_bytes().splitlines()[1])
    assert public[0].startswith(b"untrusted comment: minisign public key ")
    body = base64.b64decode(public[1])
    assert (body[:2], len(body), body[2:10], body[10:]) == (b"Ed", 42, secret[54:62], secret[94:126])
    assert secret[:6] == b"Ed\0\0B2" and len(secret) == 158
    lines = desk.signature.read_bytes().split(b"\n")
    assert lines[0] == b"untrusted comment: signature from minisign secret key"
    assert lines[2] == b"trusted comment: timestamp:1790000000\tfile:recipe.json\thashed"
    assert lines[4:] == [b""]


def test_the_secret_key_is_its_owners_only_and_nothing_is_overwritten(desk: Desk) -> None:
    assert stat.S_IMODE(desk.secret.stat().st_mode) == 0o600
    before = desk.secret.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        make_signing_keys("anna", desk.secret.parent)
    desk.secret.unlink()
    with pytest.raises(OutputError, match="exists"):
        make_signing_keys("anna", desk.secret.parent)
    make_signing_keys("anna", desk.secret.parent, force=True)
    assert desk.secret.read_bytes() != before
    assert stat.S_IMODE(desk.secret.stat().st_mode) == 0o600


def test_without_a_public_key_no_secret_key_is_left(desk: Desk) -> None:
    (desk.folder / "out" / "eva.pub").mkdir(parents=True)
    with pytest.raises(OutputError):
        make_signing_keys("eva", desk.folder / "out", force=True)
    assert not (desk.folder / "out" / "eva.secret").exists()


def test_every_changed_bit_of_the_content_is_refused(desk: Desk) -> None:
    for place in range(len(CONTENT)):
        for bit in range(8):
            changed = bytearray(CONTENT)
            changed[place] ^= 1 << bit
            desk.file.write_bytes(changed)
            with pytest.raises(SecurityError, match="is not what anna signed"):
                desk.verify()


def test_every_changed_bit_of_the_signature_that_matters_is_refused(desk: Desk) -> None:
    data = desk.signature.read_bytes()
    spared = range(len(b"untrusted comment: "), data.index(b"\n"))
    signers = load_signers(desk.signers)
    for place in range(len(data) - 1):
        if place in spared:
            continue
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        desk.signature.write_bytes(changed)
        with pytest.raises(SecurityError):
            verify(desk.file, signers)


@given(place=st.floats(0, 1, exclude_max=True), insert=st.binary(max_size=4), cut=st.integers(0, 4))
def test_a_spliced_signature_raises_nothing_else_and_vouches_for_nothing_else(
    shared: Desk, place: float, insert: bytes, cut: int
) -> None:
    sign(shared.file, shared.secret, NOW_S)
    good, data = shared.verify(), shared.signature.read_bytes()
    at = int(place * len(data))
    changed = data[:at] + insert + data[at + cut :]
    shared.signature.write_bytes(changed)
    try:
        found = shared.verify()
    except SecurityError:
        return
    assert found == good
    said, meant = (d.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n") for d in (changed, data))
    assert said[1:] == meant[1:], "only the untrusted comment may differ"


@given(data=st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
def test_arbitrary_bytes_as_signature_or_key_raise_nothing_else(shared: Desk, data: bytes) -> None:
    sign(shared.file, shared.secret, NOW_S)
    kept = shared.signature.read_bytes()
    shared.signature.write_bytes(data)
    with pytest.raises(SecurityError):
        shared.verify()
    shared.signature.write_bytes(kept)
    other = shared.folder / "other"
    other.mkdir(exist_ok=True)
    (other / "mallory.pub").write_bytes(data)
    with pytest.raises(SecurityError, match=r"mallory\.pub"):
        load_signers(other)
    (other / "mallory.secret").write_bytes(data)
    with pytest.raises(SecurityError, match=r"mallory\.secret"):
        sign(shared.file, other / "mallory.secret", NOW_S)


@given(body=st.binary(min_size=158, max_size=158), head=st.sampled_from([b"Ed\0\0B2", b"EdScB2", b"ED\0\0B2", b""]))
def test_a_secret_key_of_the_right_size_but_no_key_is_refused(shared: Desk, body: bytes, head: bytes) -> None:
    file = shared.folder / "made-up.secret"
    file.write_bytes(b"untrusted comment: x\n" + base64.b64encode((head + body)[:158]) + b"\n")
    with pytest.raises(SecurityError):
        sign(shared.file, file, NOW_S)


def test_a_secret_key_with_any_changed_byte_is_refused_or_signs_as_nobody_else(desk: Desk) -> None:
    body = base64.b64decode(desk.secret.read_bytes().splitlines()[1])
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 0x10
        desk.secret.write_bytes(b"untrusted comment: x\n" + base64.b64encode(changed) + b"\n")
        if 6 <= place < 54:
            sign(desk.file, desk.secret, NOW_S)
            assert desk.verify().signer == "anna", "salt and limits mean nothing without a password"
        else:
            with pytest.raises(SecurityError, match=r"anna\.secret"):
                sign(desk.file, desk.secret, NOW_S)


def test_every_changed_byte_of_a_public_key_takes_its_trust_away(desk: Desk) -> None:
    path = desk.signers / "anna.pub"
    body = base64.b64decode(path.read_bytes().splitlines()[1])
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 0x01
        path.write_bytes(b"untrusted comment: x\n" + base64.b64encode(changed) + b"\n")
        with pytest.raises(SecurityError):
            desk.verify()


def test_an_unsigned_file_names_the_command_that_signs(desk: Desk) -> None:
    desk.signature.unlink()
    with pytest.raises(SecurityError, match=r"recipe\.json is not signed") as caught:
        desk.verify()
    assert "linegate keys sign" in caught.value.remedy


def test_a_missing_file_and_a_folder_are_refused(desk: Desk) -> None:
    signers = load_signers(desk.signers)
    for path in (desk.folder / "none.json", desk.signers, Path("a\0b")):
        with pytest.raises(SecurityError):
            verify(path, signers)
        with pytest.raises(SecurityError):
            sign(path, desk.secret, NOW_S)


def test_another_signer_is_refused_until_he_is_trusted(desk: Desk) -> None:
    public, secret = make_signing_keys("eva", desk.secret.parent)
    sign(desk.file, secret, NOW_S)
    with pytest.raises(SecurityError, match="which is not in"):
        desk.verify()
    (desk.signers / "eva.pub").write_bytes(public.read_bytes())
    assert desk.verify().signer == "eva"
    assert load_signers(desk.signers).names == ("anna", "eva")


def test_another_spelling_of_the_same_bytes_is_refused(desk: Desk) -> None:
    lines = desk.signature.read_bytes().split(b"\n")
    for line, padding in ((1, b"="), (3, b"==")):
        text = lines[line].removesuffix(padding)
        last = BASE64[BASE64.index(text[-1]) ^ 1]
        spelled = text[:-1] + bytes([last]) + padding
        assert base64.b64decode(spelled) == base64.b64decode(lines[line])
        desk.signature.write_bytes(b"\n".join([*lines[:line], spelled, *lines[line + 1 :]]))
        with pytest.raises(SecurityError, match="not in the minisign format"):
            desk.verify()


def test_another_key_with_the_signers_key_id_is_refused(desk: Desk) -> None:
    key_id, _ = key_of(desk.secret)
    key = Ed25519PrivateKey.generate()
    signature = key.sign(hashlib.blake2b(CONTENT).digest())
    comment = b"timestamp:1\tfile:recipe.json\thashed"
    body = base64.b64encode(b"ED" + key_id + signature)
    end = base64.b64encode(key.sign(signature + comment))
    desk.signature.write_bytes(b"untrusted comment: \n" + body + b"\ntrusted comment: " + comment + b"\n" + end)
    with pytest.raises(SecurityError, match="is not what anna signed"):
        desk.verify()


def test_a_signature_of_another_file_is_refused(desk: Desk) -> None:
    other = desk.folder / "other.json"
    other.write_bytes(b"{}")
    desk.signature.write_bytes(sign(other, desk.secret, NOW_S).read_bytes())
    with pytest.raises(SecurityError, match="is not what anna signed"):
        desk.verify()


def test_a_changed_trusted_comment_is_refused(desk: Desk) -> None:
    desk.signature.write_bytes(desk.signature.read_bytes().replace(b"timestamp:179", b"timestamp:199"))
    with pytest.raises(SecurityError, match=r"the trusted comment of .* is not what anna signed"):
        desk.verify()


@pytest.mark.parametrize(
    "comment",
    [
        b"",
        b"file:recipe.json",
        b"timestamp:",
        b"timestamp:-1",
        b"timestamp:1x",
        b"timestamp:1\ttimestamp:2",
        b" timestamp:1",
    ],
)
def test_a_signature_without_one_time_is_refused(desk: Desk, comment: bytes) -> None:
    write_signature(desk, comment)
    with pytest.raises(SecurityError, match="does not say once when"):
        desk.verify()


@pytest.mark.parametrize(
    "comment", [b"timestamp:1\t\x1b[2J", b"timestamp:1\t\xff", b"timestamp:1\t\x00", b"a\rtimestamp:1"]
)
def test_a_comment_that_cannot_be_shown_is_refused(desk: Desk, comment: bytes) -> None:
    write_signature(desk, comment)
    with pytest.raises(SecurityError) as caught:
        desk.verify()
    assert str(caught.value).isprintable()


def test_a_comment_of_another_language_is_kept(desk: Desk) -> None:
    write_signature(desk, "timestamp:7\tgeprüft".encode())
    assert desk.verify() == Signed("anna", 7, "timestamp:7\tgeprüft", hashlib.sha256(CONTENT).hexdigest())


def test_a_legacy_signature_is_refused(desk: Desk) -> None:
    write_signature(desk, b"timestamp:7", b"Ed", CONTENT)
    with pytest.raises(SecurityError, match="legacy"):
        desk.verify()


def test_a_prehashed_signature_is_no_legacy_signature_of_the_hash(desk: Desk) -> None:
    write_signature(desk, b"timestamp:7", b"Ed")
    desk.file.write_bytes(hashlib.blake2b(CONTENT).digest())
    with pytest.raises(SecurityError, match="legacy"):
        desk.verify()


def test_an_oversized_signature_is_refused_without_being_read(desk: Desk) -> None:
    with desk.signature.open("ab") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(SecurityError, match="is larger than 16384 bytes"):
        desk.verify()
    desk.signature.unlink()
    desk.signature.mkdir()
    with pytest.raises(SecurityError, match="no regular file"):
        desk.verify()


def test_line_ends_of_another_system_are_accepted(desk: Desk) -> None:
    for path in (desk.signature, desk.signers / "anna.pub", desk.secret):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert desk.verify().signer == "anna"
    sign(desk.file, desk.secret, NOW_S)
    assert desk.verify().signer == "anna"


def test_a_folder_of_signers_without_keys_is_refused(desk: Desk) -> None:
    (desk.folder / "empty").mkdir()
    (desk.folder / "empty" / "README").touch()
    for folder in (desk.folder / "none", desk.folder / "empty", desk.file, Path("a\0b")):
        with pytest.raises(SecurityError, match="folder of signers"):
            load_signers(folder)


def test_a_key_that_is_there_twice_is_refused(desk: Desk) -> None:
    (desk.signers / "second.pub").write_bytes((desk.signers / "anna.pub").read_bytes())
    with pytest.raises(SecurityError, match=r"second\.pub has the same key id as anna\.pub"):
        load_signers(desk.signers)


def test_a_secret_key_among_the_signers_is_refused(desk: Desk) -> None:
    (desk.signers / "eva.pub").write_bytes(desk.secret.read_bytes())
    with pytest.raises(SecurityError, match=r"eva\.pub"):
        load_signers(desk.signers)


def test_a_file_whose_name_cannot_be_shown_is_not_signed(desk: Desk) -> None:
    file = desk.folder / "a\tb"
    file.write_bytes(CONTENT)
    with pytest.raises(SecurityError, match="cannot be shown"):
        sign(file, desk.secret, NOW_S)


def test_every_error_is_one_line(desk: Desk) -> None:
    desk.file.write_bytes(b"changed")
    with pytest.raises(LinegateError) as caught:
        desk.verify()
    assert "\n" not in str(caught.value)
