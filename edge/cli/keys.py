"""`linegate keys`: make keys for the bus and for signatures; sign recipes and packages."""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import zmq.auth

from edge.bus.keys import PUBLIC_SUFFIX, SECRET_SUFFIX
from edge.engines.package import PACKAGE_FILE
from edge.errors import OutputError, RecipeError, UsageError
from edge.recipe import RECIPE_FILE, find_recipe
from edge.signing import SIGNATURE_SUFFIX, load_signers, make_signing_keys, sign, verify, write_key_pair
from edge.station import Name

_WHAT = "a recipe's revision, a product (its newest revision), a model package, or a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=type(parser))

    def kind(name: str, summary: str) -> argparse.ArgumentParser:
        return kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)

    for made in (
        kind("curve", "make a key pair for the bus: NAME.key and NAME.key_secret"),
        kind("signing", "make a key pair for signatures: NAME.pub and NAME.secret"),
    ):
        made.add_argument("name", metavar="NAME", help="whose keys: a station, a PLC, a person")
        made.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="folder for the two files")
        made.add_argument("--force", action="store_true", help="replace keys that are there, for good")
    signed = kind("sign", "sign recipes, model packages or files")
    signed.add_argument("paths", metavar="PATH", type=Path, nargs="+", help=_WHAT)
    signed.add_argument("--key", metavar="NAME.secret", type=Path, required=True, help="the signer's secret key")
    signed.add_argument("--force", action="store_true", help="replace signatures that are there")
    verified = kind("verify", "say who signed a recipe, a model package or a file, and when")
    verified.add_argument("path", metavar="PATH", type=Path, help=_WHAT)
    verified.add_argument("--signers", metavar="FOLDER", type=Path, required=True, help="the NAME.pub that are trusted")


def run(arguments: argparse.Namespace) -> int:
    """Do it and say what comes next. A signature that is missing or wrong is an error."""
    if arguments.what == "curve":
        _make_curve(_checked(arguments.name), arguments.out, arguments.force)
    elif arguments.what == "signing":
        _make_signing(_checked(arguments.name), arguments.out, arguments.force)
    elif arguments.what == "sign":
        _sign(arguments.paths, arguments.key, arguments.force)
    else:
        path = _file_of(arguments.path)
        signed = verify(path, load_signers(arguments.signers))
        when = _utc(signed.signed_at)
        print(f"{path} was signed by {signed.signer}{when} and is unchanged (sha256 {signed.sha256})")
    return 0


def _make_curve(name: str, folder: Path, force: bool) -> None:
    public, secret = folder / f"{name}{PUBLIC_SUFFIX}", folder / f"{name}{SECRET_SUFFIX}"
    # ZeroMQ's writer lets others read the secret file at first; nobody else can enter this folder.
    with tempfile.TemporaryDirectory() as private:
        made = zmq.auth.create_certificates(private, name)
        contents = [Path(path).read_bytes() for path in made]
    write_key_pair(public, contents[0], secret, contents[1], force)
    print(f"made {public} (public) and {secret} (secret: never leaves the machine that uses it)")
    print(
        f"next, if {name} is a station: give {public.name} to every client, and put into its station file (paths begin there):"
    )
    print(f'  [security]\n  secret_key = "{secret.name}"\n  subscribers = "subscribers"\n  operators = "operators"')
    print(f"next, if {name} is a client: put {public.name} into the station's folder subscribers (may read verdicts)")
    print("or operators (may command), or both, and restart the station.")


def _make_signing(name: str, folder: Path, force: bool) -> None:
    public, secret = make_signing_keys(name, folder, force=force)
    print(f"made {public} (public) and {secret} (secret: has no password, so keep it off the stations)")
    print(f"next: put {public.name} into the folder that each station names as `signers` in [security];")
    print(f"sign with `linegate keys sign PATH --key {secret}`.")


def _sign(paths: list[Path], key: Path, force: bool) -> None:
    files = [_file_of(path) for path in paths]
    for file in files:
        there = file.with_name(file.name + SIGNATURE_SUFFIX)
        if there.exists() and not force:
            raise OutputError(f"{there} exists", "Nothing was signed; --force replaces signatures.")
    for file in files:
        print(f"signed {file}: {sign(file, key, int(time.time())).name}")
    print("next: copy each signature together with its file; `linegate keys verify PATH --signers FOLDER` checks it.")


def _checked(name: str) -> str:
    try:
        # The pattern alone lets a line end pass.
        return msgspec.convert(name if name.isprintable() else "", Name)
    except msgspec.ValidationError as cause:
        raise UsageError(
            f"{name!r} cannot be a name",
            "Use 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit.",
        ) from cause


def _file_of(path: Path) -> Path:
    """The file that stands for what `path` names: it carries the hashes of all the others."""
    if not path.is_dir():
        if not path.is_file():
            raise UsageError(f"{path} does not exist", f"Name {_WHAT}.")
        return path
    if (path / PACKAGE_FILE).is_file():
        return path / PACKAGE_FILE
    try:
        return find_recipe(path) / RECIPE_FILE
    except RecipeError as cause:
        raise UsageError(f"{path} holds neither a recipe nor a model package", f"Name {_WHAT}.") from cause


def _utc(time_s: int) -> str:
    """` on DATE at TIME UTC`; nothing for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(time_s, timezone.utc).strftime(" on %Y-%m-%d at %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return ""
