"""With signers a station judges only with what one of them stands for, and never with something older than it had."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import linegate
from edge.bus.requests import ActivateCommand, PrepareCommand
from edge.engines.package import PACKAGE_FILE, Package
from edge.errors import EngineError, JournalError, LinegateError, OutputError, RecipeError, SecurityError, StationError
from edge.journal.facts import FILE_NAME
from edge.recipe import RECIPE_FILE, load_recipe
from edge.sealed import seal
from edge.signing import make_signing_keys, sign
from edge.station import SecuritySettings, load_station
from edge.supervisor import Supervisor
from edge.trust import Trust
from tests.conftest import WriteStation
from tests.edge.fakes import FakeCamera, FakeEngine, fake_package, normal_part
from tests.edge.operated import info_of, operated, operated_makers, operated_station, write_recipe

NOW_S = 1_790_000_000
PACKAGE = fake_package().info


@dataclass
class Facts:
    """Remembers while the test lasts."""

    kept: dict[str, str] = field(default_factory=dict)
    full: bool = False

    def fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def remember(self, key: str, value: str) -> bool:
        if not self.full:
            self.kept[key] = value
        return not self.full


@dataclass(frozen=True)
class Works:
    """A signer whom the station trusts, and a stranger."""

    folder: Path
    signer: Path
    stranger: Path
    memory: Facts = field(default_factory=Facts)

    @property
    def security(self) -> SecuritySettings:
        return SecuritySettings(signers=str(self.folder / "signers"))

    @property
    def trust(self) -> Trust:
        return Trust(self.security, self.memory)

    def recipe(self, revision: int, signed_s: int = NOW_S, **more: float) -> Path:
        folder = write_recipe(self.folder / "recipes", revision=revision, **more)  # type: ignore[arg-type]
        sign(folder / RECIPE_FILE, self.signer, signed_s)
        return folder


def new_works(folder: Path) -> Works:
    (folder / "signers").mkdir()
    public, signer = make_signing_keys("anna", folder / "keys")
    shutil.copy(public, folder / "signers")
    return Works(folder, signer, make_signing_keys("mallory", folder / "keys")[1])


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return new_works(tmp_path)


@pytest.fixture(scope="module")
def shared() -> Iterator[Works]:
    """For properties: what they change they restore."""
    with tempfile.TemporaryDirectory() as folder:
        works = new_works(Path(folder))
        works.recipe(1)
        yield works


# One recipe or package at a time.


def test_what_a_signer_stands_for_is_taken(works: Works) -> None:
    folder = works.recipe(1)
    taken = works.trust.recipe(folder.parent, PACKAGE)
    assert taken.recipe_hash == load_recipe(folder, PACKAGE).recipe_hash
    assert works.memory.kept == {}, "only what becomes active is remembered"


def test_without_signers_anything_whole_is_taken_as_before(works: Works) -> None:
    folder = write_recipe(works.folder / "recipes")
    trust = Trust(SecuritySettings(), works.memory)
    loaded = trust.recipe(folder, PACKAGE)
    assert loaded.recipe_hash == load_recipe(folder, PACKAGE).recipe_hash
    trust.note_active("recipe board", loaded.recipe_hash)
    assert works.memory.kept == {}


def test_what_nobody_or_a_stranger_signed_is_refused(works: Works) -> None:
    folder = write_recipe(works.folder / "recipes")
    with pytest.raises(SecurityError, match="is not signed"):
        works.trust.recipe(folder, PACKAGE)
    sign(folder / RECIPE_FILE, works.stranger, NOW_S)
    with pytest.raises(SecurityError, match="which is not in"):
        works.trust.recipe(folder, PACKAGE)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_changed_byte_of_a_signed_recipe_is_refused(shared: Works, place: float, mask: int) -> None:
    file = shared.folder / "recipes/board/0001" / RECIPE_FILE
    good = file.read_bytes()
    at = int(place * len(good))
    file.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
    try:
        with pytest.raises(SecurityError, match="is not what anna signed"):
            shared.trust.recipe(file.parent, PACKAGE)
    finally:
        file.write_bytes(good)


def test_a_recipe_that_was_edited_and_sealed_again_is_refused(works: Works) -> None:
    folder = works.recipe(1)
    lax = msgspec.structs.replace(info_of(folder).threshold, value=9.0)
    (folder / RECIPE_FILE).write_bytes(seal(msgspec.structs.replace(info_of(folder), threshold=lax)))
    load_recipe(folder, PACKAGE)
    with pytest.raises(SecurityError, match="is not what anna signed"):
        works.trust.recipe(folder, PACKAGE)


def test_a_bank_of_another_recipe_is_refused_though_the_recipe_is_signed(works: Works) -> None:
    folder, other = works.recipe(1), works.recipe(2, more=0.1)
    shutil.copy(other / "bank.safetensors", folder)
    with pytest.raises(RecipeError, match="does not match its hash"):
        works.trust.recipe(folder, PACKAGE)


def test_a_recipe_that_is_swapped_between_check_and_use_is_refused(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = works.recipe(1)
    lax = msgspec.structs.replace(info_of(folder).threshold, value=9.0)
    other = seal(msgspec.structs.replace(info_of(folder), threshold=lax))
    real = load_recipe

    def swap(path: Path, package: object) -> object:
        (folder / RECIPE_FILE).write_bytes(other)
        return real(path, package)  # type: ignore[arg-type]

    monkeypatch.setattr("edge.trust.load_recipe", swap)
    with pytest.raises(SecurityError, match="changed while it was read"):
        works.trust.recipe(folder, PACKAGE)


@pytest.mark.parametrize(
    ("revision", "signed_s", "taken"),
    [(2, NOW_S, True), (3, NOW_S, True), (2, NOW_S + 1, True), (1, NOW_S + 9, False), (3, NOW_S - 1, False)],
)
def test_nothing_older_than_what_was_active_is_taken(works: Works, revision: int, signed_s: int, taken: bool) -> None:
    active = works.recipe(2)
    trust = works.trust
    trust.note_active("recipe board", trust.recipe(active, PACKAGE).recipe_hash)
    folder = works.recipe(revision, signed_s)
    # By another process: it remembers too.
    if taken:
        assert works.trust.recipe(folder, PACKAGE).info.revision == revision
    else:
        with pytest.raises(SecurityError, match="is older than the recipe board that was active here before"):
            works.trust.recipe(folder, PACKAGE)


def test_what_was_only_loaded_makes_nothing_old(works: Works) -> None:
    trust = works.trust
    trust.recipe(works.recipe(5), PACKAGE)
    first = trust.recipe(works.recipe(2), PACKAGE)
    trust.recipe(works.folder / "recipes/board/0005", PACKAGE)
    trust.note_active("recipe board", first.recipe_hash)
    assert works.trust.recipe(first.folder, PACKAGE).recipe_hash == first.recipe_hash


def test_what_the_disk_does_not_take_is_told_and_makes_nothing_old(works: Works) -> None:
    first = works.recipe(1)
    trust = works.trust
    loaded = trust.recipe(works.recipe(2), PACKAGE)
    works.memory.full = True
    with pytest.raises(SecurityError, match="that recipe board is active now cannot be kept") as caught:
        trust.note_active("recipe board", loaded.recipe_hash)
    assert "\n" not in str(caught.value)
    works.memory.full = False
    works.trust.recipe(first, PACKAGE)
    trust.note_active("recipe board", loaded.recipe_hash)
    with pytest.raises(SecurityError, match="is older than"):
        works.trust.recipe(first, PACKAGE)


def test_a_note_that_cannot_be_read_is_told(works: Works) -> None:
    folder = works.recipe(1)
    works.memory.kept["newest recipe board"] = '{"signed_at":"x"}'
    with pytest.raises(SecurityError) as caught:
        works.trust.recipe(folder, PACKAGE)
    assert "\n" not in str(caught.value)


# Real folders, signed by the command.


def signed(works: Works, folder: Path) -> Path:
    assert linegate.main(["keys", "sign", str(folder), "--key", str(works.signer), "--force"]) == 0
    return folder


@pytest.fixture
def own_package(package_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package_folder, tmp_path / "package"))


def test_real_folders_are_taken_once_they_are_signed(
    works: Works, own_package: Path, recipe_folder: Path, package: Package
) -> None:
    product = works.folder / "recipes/solar-cell"
    shutil.copytree(recipe_folder, product / "0001")
    for take in (lambda: works.trust.package(own_package), lambda: works.trust.recipe(product, package.info)):
        with pytest.raises(SecurityError, match="is not signed"):
            take()
    signed(works, own_package)
    signed(works, product)
    assert works.trust.package(own_package).info == package.info
    assert works.trust.recipe(product, package.info).info.product == "solar-cell"


def test_a_package_that_was_changed_or_signed_earlier_is_refused(works: Works, own_package: Path) -> None:
    file = own_package / PACKAGE_FILE
    now_s = int(time.time())
    sign(file, works.signer, now_s)
    trust = works.trust
    info = trust.package(own_package).info
    trust.note_active(f"package {info.encoder.name}", info.package_hash)
    sign(file, works.signer, now_s - 1)
    with pytest.raises(SecurityError, match="is older than the package"):
        works.trust.package(own_package)
    signed(works, own_package)
    works.trust.package(own_package)
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"created"', b'"Created"'))
    with pytest.raises(SecurityError, match="is not what anna signed"):
        works.trust.package(own_package)
    file.write_bytes(data)
    graph = own_package / info.encoder.file
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(LinegateError, match="does not match its hash"):
        works.trust.package(own_package)


# A whole station.


def spoil_signature(works: Works) -> None:
    (works.folder / "recipes/board/0002/recipe.json.minisig").unlink()


def sign_by_stranger(works: Works) -> None:
    sign(works.folder / "recipes/board/0002" / RECIPE_FILE, works.stranger, NOW_S)


def backdate(works: Works) -> None:
    works.recipe(2, NOW_S - 1, more=0.1)


@pytest.mark.parametrize("spoil", [spoil_signature, sign_by_stranger, backdate])
def test_a_station_refuses_to_prepare_it_and_goes_on(
    works: Works, endpoint: str, spoil: Callable[[Works], None]
) -> None:
    works.recipe(1)
    works.recipe(2, more=0.1)
    spoil(works)
    with operated(endpoint, works.folder, security=works.security) as station:
        before = station.status()
        assert "board/0002" in station.refused(PrepareCommand(product="board")).what
        assert station.status() == before
        station.line.camera.fire_shows = normal_part()
        assert station.verdict_of(station.trigger()).accept
    works.recipe(2, NOW_S, more=0.1)
    with operated(endpoint, works.folder, security=works.security) as station:
        assert station.change().recipe_revision == 2


def test_a_station_never_goes_back_not_even_by_a_restart(works: Works, endpoint: str) -> None:
    works.recipe(1)
    works.recipe(2, more=0.1)
    with operated(endpoint, works.folder, path="", security=works.security) as station:
        station.change(revision=2)
        assert "is older than" in station.refused(PrepareCommand(product="board", revision=1)).what
    with operated(endpoint, works.folder, path="", security=works.security) as station:
        assert station.status().recipe_revision == 2
        assert "is older than" in station.refused(PrepareCommand(product="board", revision=1)).what
    makers = operated_makers(FakeCamera(), FakeEngine())
    with pytest.raises(SecurityError, match="is older than the recipe board"):
        Supervisor(operated_station(endpoint, works.folder, "board/0001", security=works.security), makers)


@pytest.mark.parametrize("signers", [True, False])
def test_a_station_does_not_change_its_recipe_while_the_disk_takes_no_note(
    works: Works, endpoint: str, monkeypatch: pytest.MonkeyPatch, signers: bool
) -> None:
    works.recipe(1)
    works.recipe(2, more=0.1)
    security = works.security if signers else SecuritySettings()

    def refuse(path: Path, _data: bytes) -> None:
        raise OutputError(f"{path} cannot be written (No space left on device)", "Choose another folder.")

    with operated(endpoint, works.folder, security=security) as station:
        prepared = station.ask(PrepareCommand(product="board", revision=2))
        with monkeypatch.context() as patch:
            patch.setattr("edge.journal.facts.write_whole", refuse)
            assert "cannot be kept" in station.refused(ActivateCommand(recipe_hash=prepared.recipe_hash)).what
            assert station.status().recipe_revision == 1
            station.line.camera.fire_shows = normal_part()
            verdict = station.verdict_of(station.trigger())
            assert (verdict.accept, verdict.recipe_revision) == (True, 1)
        station.ask(ActivateCommand(recipe_hash=prepared.recipe_hash))
        assert station.status().recipe_revision == 2


def test_a_station_does_not_start_with_damaged_facts(works: Works, endpoint: str) -> None:
    works.recipe(1)
    with operated(endpoint, works.folder, security=works.security):
        pass
    facts = works.folder / "journal" / FILE_NAME
    facts.write_bytes(facts.read_bytes().replace(b"newest", b"oldest"))
    station = operated_station(endpoint, works.folder, "board/0001", security=works.security)
    with pytest.raises(JournalError, match="does not match its checksum"):
        Supervisor(station, operated_makers(FakeCamera(), FakeEngine()))


def test_signers_without_a_journal_are_refused(tmp_path: Path, station_file: WriteStation) -> None:
    path = station_file(tmp_path, journal={"enabled": False}, security={"signers": str(tmp_path)})
    with pytest.raises(StationError, match=r"security\.signers needs the journal"):
        load_station(path)


def test_a_recipe_that_was_refused_after_its_signature_held_makes_nothing_old(works: Works, endpoint: str) -> None:
    works.recipe(1)
    works.recipe(2, more=0.1)
    works.recipe(3, more=0.2)
    with operated(endpoint, works.folder, security=works.security) as station:
        prepared = station.ask(PrepareCommand(product="board", revision=2))

        def fail(_call: int) -> None:
            raise EngineError("the engine does not like it", "Try another.")

        station.line.engine.before_encoding = fail
        station.refused(PrepareCommand(product="board", revision=3))
        station.line.engine.before_encoding = lambda _call: None
        station.ask(ActivateCommand(recipe_hash=prepared.recipe_hash))
    with operated(endpoint, works.folder, security=works.security) as station:
        assert station.status().recipe_revision == 2, "it was active, so it is taken again"
        station.line.camera.fire_shows = normal_part()
        assert station.verdict_of(station.trigger()).accept
