"""A signer that we did not write: Debian's `minisign` accepts our signatures and we accept its, and neither a changed one."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import SecurityError
from edge.signing import load_signers, make_signing_keys, sign, verify

CONTENT = b'{"product": "bracket", "revision": 3}\n'
NOW_S = 1_790_000_000
PATIENCE_S = 60.0


class Minisign:
    """The program."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *(str(word) for word in words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )

    def accepts(self, file: Path, public: Path) -> bool:
        done = self("-V", "-H", "-p", public, "-m", file)
        assert (done.returncode == 0) is ("Signature and comment signature verified" in done.stdout), done
        return done.returncode == 0


@pytest.fixture(scope="module")
def minisign() -> Minisign:
    program = shutil.which("minisign")
    if program is None:
        pytest.skip("minisign is not installed: apt-get install minisign")
    return Minisign(program)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Path]:
    """A key pair that we made."""
    return make_signing_keys("anna", tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path, minisign: Minisign) -> tuple[Path, Path]:
    """A key pair that minisign made, without a password."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    made = minisign("-G", "-W", "-p", folder / "eva.pub", "-s", folder / "eva.secret")
    assert made.returncode == 0, made.stderr
    return folder / "eva.pub", folder / "eva.secret"


@pytest.fixture(params=["ours", "theirs"])
def pair(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Keys of either origin."""
    found: tuple[Path, Path] = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["we", "they"])
def signed(request: pytest.FixtureRequest, minisign: Minisign, pair: tuple[Path, Path], file: Path) -> Path:
    """The file, signed by either program with keys of either origin."""
    if request.param == "we":
        sign(file, pair[1], NOW_S)
    else:
        done = minisign("-S", "-s", pair[1], "-m", file)
        assert done.returncode == 0, done.stderr
    return file


def accepted(minisign: Minisign, file: Path, public: Path) -> tuple[bool, bool]:
    """Whether we and they accept it."""
    try:
        verify(file, load_signers(public.parent))
    except SecurityError:
        return False, minisign.accepts(file, public)
    return True, minisign.accepts(file, public)


def test_both_accept_what_either_signed(minisign: Minisign, signed: Path, pair: tuple[Path, Path]) -> None:
    assert accepted(minisign, signed, pair[0]) == (True, True)
    found = verify(signed, load_signers(pair[0].parent))
    assert found.signer == pair[0].stem
    assert found.comment == f"timestamp:{found.signed_at}\tfile:recipe.json\thashed"


def test_both_refuse_a_changed_file(minisign: Minisign, signed: Path, pair: tuple[Path, Path]) -> None:
    signed.write_bytes(CONTENT.replace(b"3", b"4"))
    assert accepted(minisign, signed, pair[0]) == (False, False)


def test_both_refuse_a_changed_comment_or_signature(minisign: Minisign, signed: Path, pair: tuple[Path, Path]) -> None:
    signature = signed.with_name("recipe.json.minisig")
    good = signature.read_bytes()
    lines = good.split(b"\n")
    for line, place in ((1, 30), (2, len(b"trusted comment: timestamp:1")), (3, 30)):
        changed = bytearray(lines[line])
        changed[place] = ord("0") if changed[place] != ord("0") else ord("1")
        signature.write_bytes(b"\n".join([*lines[:line], bytes(changed), *lines[line + 1 :]]))
        assert accepted(minisign, signed, pair[0]) == (False, False), f"line {line}"
    signature.write_bytes(good.replace(lines[0], b"untrusted comment: anything"))
    assert accepted(minisign, signed, pair[0]) == (True, True), "the untrusted comment says nothing"


def test_both_refuse_another_signer(minisign: Minisign, signed: Path, tmp_path: Path) -> None:
    public, _ = make_signing_keys("mallory", tmp_path / "others")
    assert accepted(minisign, signed, public) == (False, False)


@pytest.mark.parametrize("key_id", [bytes(8), b"\x0a" + bytes(7), bytes(range(8)), b"\xff" * 8])
def test_it_reads_our_secret_key_and_writes_the_same_public_key(
    minisign: Minisign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_id: bytes
) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda _size: key_id)
    public, secret = make_signing_keys("anna", tmp_path)
    found = tmp_path / "found.pub"
    done = minisign("-R", "-s", secret, "-p", found)
    assert done.returncode == 0, done.stderr
    assert found.read_bytes() == public.read_bytes()


def test_a_legacy_signature_is_refused(minisign: Minisign, theirs: tuple[Path, Path], file: Path) -> None:
    assert minisign("-S", "-l", "-s", theirs[1], "-m", file).returncode == 0
    with pytest.raises(SecurityError, match="legacy"):
        verify(file, load_signers(theirs[0].parent))


def test_a_comment_without_a_time_is_refused(minisign: Minisign, theirs: tuple[Path, Path], file: Path) -> None:
    assert minisign("-S", "-t", "looks good", "-s", theirs[1], "-m", file).returncode == 0
    with pytest.raises(SecurityError, match="does not say once when"):
        verify(file, load_signers(theirs[0].parent))
