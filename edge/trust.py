"""Which packages and recipes this station may judge with. Without `security.signers`: any that is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from edge.engines.package import PACKAGE_FILE, Package, PackageInfo, load_package
from edge.errors import SecurityError
from edge.recipe import RECIPE_FILE, Recipe, find_recipe, load_recipe
from edge.sealed import seal, sha256_of
from edge.signing import Signed, Signers, load_signers, verify
from edge.station import SecuritySettings


class Memory(Protocol):
    """Keeps facts over restarts."""

    def fact(self, key: str) -> str | None:
        """What was remembered."""
        ...

    def remember(self, key: str, value: str) -> bool:
        """Keep a fact; False if the disk does not take it."""
        ...


class Newest(msgspec.Struct, frozen=True):
    """The newest that was ever active here: its signature's time, and for a recipe its revision."""

    signed_at: int
    revision: int = 0


class Trust:
    """Loads packages and recipes, and refuses those that are unsigned, tampered with or older than what was active."""

    def __init__(self, settings: SecuritySettings, memory: Memory) -> None:
        """Read the signers' keys.

        Raises:
            SecurityError: the folder of keys is missing, empty, or holds a malformed one.
        """
        self._memory = memory
        self._signers: Signers | None = load_signers(Path(settings.signers)) if settings.signers else None
        self._signed: dict[tuple[str, str], Newest] = {}

    def package(self, folder: Path) -> Package:
        """Load a package.

        Raises:
            PackageError: missing or damaged.
            SecurityError: not to be trusted.
        """
        if self._signers is None:
            return load_package(folder)
        signed = verify(folder / PACKAGE_FILE, self._signers)
        package = load_package(folder)
        # What was verified must be what was loaded, even if somebody changes the files meanwhile.
        self._require_same(signed, seal(package.info), folder / PACKAGE_FILE)
        found = Newest(signed.signed_at)
        self._refuse_older(f"package {package.info.encoder.name}", folder, found)
        self._signed[f"package {package.info.encoder.name}", package.info.package_hash] = found
        return package

    def recipe(self, path: Path, package: PackageInfo) -> Recipe:
        """Load a recipe, or a product's newest one.

        Raises:
            RecipeError: missing, damaged, or made with another package.
            SecurityError: not to be trusted.
        """
        if self._signers is None:
            return load_recipe(path, package)
        folder = find_recipe(path)
        signed = verify(folder / RECIPE_FILE, self._signers)
        recipe = load_recipe(folder, package)
        self._require_same(signed, seal(recipe.info), folder / RECIPE_FILE)
        found = Newest(signed.signed_at, recipe.info.revision)
        self._refuse_older(f"recipe {recipe.info.product}", folder, found)
        self._signed[f"recipe {recipe.info.product}", recipe.recipe_hash] = found
        return recipe

    def note_active(self, name: str, content_hash: str) -> None:
        """From now on nothing older is taken; `name` is "package NAME" or "recipe PRODUCT", the hash that of what was loaded.

        Raises:
            SecurityError: the disk does not take the note, so that an older one could come back after a restart.
        """
        newest = self._signed.get((name, content_hash))
        if newest is None:
            return
        if not self._memory.remember(f"newest {name}", msgspec.json.encode(newest).decode()):
            raise SecurityError(
                f"that {name} is active now cannot be kept", "Free some space in the journal's folder, and try again."
            )

    def _refuse_older(self, name: str, folder: Path, found: Newest) -> None:
        known = self._memory.fact(f"newest {name}")
        try:
            newest = None if known is None else msgspec.json.decode(known, type=Newest)
        except msgspec.DecodeError as error:
            raise SecurityError(
                f"what the journal remembers of the newest {name} is damaged ({error})",
                "Restore the journal's folder from a backup, or name an empty one.",
            ) from error
        if newest is not None and (found.revision < newest.revision or found.signed_at < newest.signed_at):
            raise SecurityError(
                f"{folder} is older than the {name} that was active here before",
                "Make and sign a new revision; an old one is not taken again.",
            )

    @staticmethod
    def _require_same(signed: Signed, loaded: bytes, path: Path) -> None:
        if sha256_of(loaded) != signed.sha256:
            raise SecurityError(f"{path} changed while it was read", "Find out who writes there, and try again.")
