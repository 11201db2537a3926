"""`linegate keys`: what it makes works, is kept from others, and replaces nothing unasked."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

import linegate
from edge.bus.keys import load_client_keys
from edge.signing import load_signers, verify
from tests.conftest import RunLinegate, one_line


def keys(*words: str | Path) -> int:
    return linegate.main(["keys", *(str(word) for word in words)])


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert keys(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("linegate: ") and len(said.err.splitlines()) == 1, said
    return said.err


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def signer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Anna's secret key; her public key is in the folder `signers`."""
    assert keys("signing", "anna", "--out", tmp_path / "keys") == 0
    (tmp_path / "signers").mkdir()
    (tmp_path / "keys" / "anna.pub").rename(tmp_path / "signers" / "anna.pub")
    capsys.readouterr()
    return tmp_path / "keys" / "anna.secret"


def product(folder: Path, *revisions: str) -> Path:
    for revision in revisions:
        (folder / revision).mkdir(parents=True)
        (folder / revision / "recipe.json").write_text(f'{{"revision": "{revision}"}}')
    return folder


def test_curve_keys_are_a_pair_that_the_bus_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("station-1", "plc"):
        assert keys("curve", name, "--out", tmp_path / "new") == 0
    said = capsys.readouterr().out
    assert 'secret_key = "plc.key_secret"' in said and "subscribers" in said and "operators" in said
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "plc.key",
        "plc.key_secret",
        "station-1.key",
        "station-1.key_secret",
    ]
    assert mode(tmp_path / "new" / "plc.key_secret") == 0o600
    loaded = load_client_keys(tmp_path / "new" / "plc.key_secret", tmp_path / "new" / "station-1.key")
    assert loaded.secret.decode() not in said
    assert loaded.public.decode() in (tmp_path / "new" / "plc.key").read_text()
    assert loaded.secret.decode() not in (tmp_path / "new" / "plc.key").read_text()


@pytest.mark.parametrize(("kind", "suffixes"), [("curve", (".key", ".key_secret")), ("signing", (".pub", ".secret"))])
def test_keys_are_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, suffixes: tuple[str, str]
) -> None:
    files = [tmp_path / f"a{suffix}" for suffix in suffixes]
    assert keys(kind, "a", "--out", tmp_path) == 0
    before = [file.read_bytes() for file in files]
    assert "--force" in refused(capsys, kind, "a", "--out", tmp_path)
    files[1].unlink()
    refused(capsys, kind, "a", "--out", tmp_path)
    assert not files[1].exists() and files[0].read_bytes() == before[0]
    assert keys(kind, "a", "--out", tmp_path, "--force") == 0
    assert all(file.read_bytes() != old for file, old in zip(files, before, strict=True))
    assert mode(files[1]) == 0o600


@pytest.mark.parametrize("kind", ["curve", "signing"])
@pytest.mark.parametrize("name", ["", "../a", ".a", "a/b", "a b", "ä", "a" * 65, "a\n", "-a"])
def test_a_name_that_is_no_name_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    assert "cannot be a name" in refused(capsys, kind, "--out", tmp_path / "out", "--", name)
    assert list(tmp_path.iterdir()) == []


def test_recipes_packages_and_files_are_signed(
    tmp_path: Path, signer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = product(tmp_path / "bracket", "0002", "0010", "0009")
    package = tmp_path / "lite2"
    package.mkdir()
    (package / "package.json").write_text("{}")
    plain = tmp_path / "notes.txt"
    plain.write_text("x")
    started = int(time.time())
    assert keys("sign", several, several / "0002", package, plain, "--key", signer) == 0
    said = capsys.readouterr().out
    assert "next: copy each signature together with its file" in said
    signed = [several / "0010/recipe.json", several / "0002/recipe.json", package / "package.json", plain]
    for file in signed:
        found = verify(file, load_signers(tmp_path / "signers"))
        assert found.signer == "anna" and started <= found.signed_at <= time.time()
        assert str(file) in said
    assert len(list(tmp_path.rglob("*.minisig"))) == len(signed)
    assert keys("verify", several, "--signers", tmp_path / "signers") == 0
    assert f"{several / '0010/recipe.json'} was signed by anna on 20" in capsys.readouterr().out


def test_signatures_are_replaced_only_by_force_and_all_or_none(
    tmp_path: Path, signer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text("x")
    assert keys("sign", files[1], "--key", signer) == 0
    assert "b.minisig exists" in refused(capsys, "sign", *files, "--key", signer)
    assert "does not exist" in refused(capsys, "sign", files[0], tmp_path / "none", "--key", signer)
    assert not (tmp_path / "a.minisig").exists()
    files[1].write_text("y")
    assert keys("sign", *files, "--key", signer, "--force") == 0
    for file in files:
        verify(file, load_signers(tmp_path / "signers"))


def test_what_is_not_signed_or_was_changed_is_refused(
    tmp_path: Path, signer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = product(tmp_path / "bracket", "0001")
    signers = ("--signers", tmp_path / "signers")
    assert "recipe.json is not signed. Sign it with `linegate keys sign`." in refused(
        capsys, "verify", recipe, *signers
    )
    assert keys("sign", recipe, "--key", signer) == 0
    (recipe / "0001" / "recipe.json").write_text("{}")
    assert "is not what anna signed" in refused(capsys, "verify", recipe, *signers)
    assert "folder of signers" in refused(capsys, "verify", recipe, "--signers", tmp_path / "none")
    assert "neither a recipe nor a model package" in refused(capsys, "verify", tmp_path / "signers", *signers)


def test_a_key_that_cannot_sign_is_refused(tmp_path: Path, signer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    for key in (tmp_path / "signers" / "anna.pub", tmp_path / "none", tmp_path):
        refused(capsys, "sign", file, "--key", key)
    assert not (tmp_path / "a.minisig").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bogus"],
        ["curve"],
        ["curve", "a"],
        ["signing", "--out", "x"],
        ["sign", "x"],
        ["verify"],
        ["sign", "--forc"],
    ],
)
def test_a_usage_error_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        keys(*words)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "linegate keys" in said.err


def test_it_works_as_a_program(tmp_path: Path, linegate: RunLinegate) -> None:
    made = linegate("keys", "curve", "plc", "--out", tmp_path / "keys")
    assert made.returncode == 0 and made.stderr == ""
    again = linegate("keys", "curve", "plc", "--out", tmp_path / "keys")
    assert again.returncode == 2
    assert "plc.key exists" in one_line(again)
