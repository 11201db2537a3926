"""What is wrong with a shot is named, and what cannot make a recipe is refused."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from calibration.audit import Finding, Kind, audit, drop_near_duplicates
from calibration.calibrate import calibrate, encode_shots
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.errors import ShotsError
from edge.pictures import read_picture
from edge.types import Picture
from tests.calibration.cells import Remembering, cells, named, shot_set, spotted
from tests.calibration.making import silent, texture

Vet = Callable[..., tuple[Finding, ...]]
SPOILT = 3


@pytest.fixture(scope="module")
def vet(engine: Engine) -> Vet:
    """Audits pictures by name."""
    remembering = Remembering(engine)

    def look(pictures: dict[str, Picture], accept_mixed: bool = False) -> tuple[Finding, ...]:
        shots = shot_set(pictures).shots
        encoded = encode_shots(shots, remembering, None, False, silent)
        held_out = calibrate(encoded, remembering, silent).matches
        return audit(shots, encoded.features, encoded.tokens, held_out, accept_mixed)

    return look


@pytest.fixture(scope="module")
def clean(elpv_pictures: elpv.Elpv) -> list[Picture]:
    """Eight cells of one product, at which nothing stands out."""
    return cells(elpv_pictures, 8)


def spoil(pictures: list[Picture], how: Callable[[Picture], object]) -> dict[str, Picture]:
    """One of the shots is not as it should be."""
    changed = np.clip(np.asarray(how(pictures[SPOILT]), dtype=np.float64), 0, 255).astype(np.uint8)
    return named([*pictures[:SPOILT], np.ascontiguousarray(changed), *pictures[SPOILT + 1 :]])


def flickering(picture: Picture, step: int) -> Picture:
    """The same picture but for one grey level in every fourth row, other rows for each step."""
    changed = picture.astype(int)
    changed[step::4] += 1
    return np.asarray(np.clip(changed, 0, 255), np.uint8)


def scratched(picture: Picture) -> Picture:
    drawn = picture.copy()
    cv2.line(drawn, (60, 60), (220, 200), (20, 20, 20), 6)
    return np.asarray(drawn, np.uint8)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        pytest.param(lambda p: cv2.GaussianBlur(p, (0, 0), 3), Kind.BLURRED, id="blurred"),
        pytest.param(lambda p: p * 0.45, Kind.DARK, id="dark"),
        pytest.param(lambda p: p * 1.0 + 110, Kind.BRIGHT, id="bright"),
        pytest.param(np.rot90, Kind.ROTATED, id="turned left"),
        pytest.param(lambda p: np.rot90(p, 3), Kind.ROTATED, id="turned right"),
        pytest.param(lambda p: np.roll(p, 50, axis=1), Kind.SHIFTED, id="shifted"),
        pytest.param(lambda p: texture(5, *p.shape[:2]), Kind.FOREIGN, id="something else"),
        pytest.param(lambda p: spotted(p, (150, 150), 45), Kind.SUSPECT, id="a hole"),
        pytest.param(scratched, Kind.SUSPECT, id="a scratch"),
    ],
)
def test_the_spoilt_shot_is_named_for_what_it_is(
    how: Callable[[Picture], object], kind: Kind, vet: Vet, clean: list[Picture]
) -> None:
    findings = [f for f in vet(spoil(clean, how)) if f.kind is not Kind.GROUPS]
    assert kind in {f.kind for f in findings if f.shot == "3.png"}
    assert {f.shot for f in findings} == {"3.png"}, "and no other shot"
    assert not any(f.redundant for f in findings)


def test_nothing_stands_out_of_clean_shots(vet: Vet, clean: list[Picture]) -> None:
    assert vet(named(clean)) == ()


def test_few_shots_of_clean_sets_are_named(vet: Vet, elpv_pictures: elpv.Elpv) -> None:
    findings = [f for seed in (5, 6, 7) for f in vet(named(cells(elpv_pictures, 8, "poly", seed)))]
    assert len({(f.shot, f.kind) for f in findings}) <= 3, "of 24 shots"


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_a_gross_defect_is_named_among_shots_of_two_kinds(seed: int, vet: Vet, elpv_pictures: elpv.Elpv) -> None:
    """Its score is more than twice that of any other, however much the others differ."""
    pictures = spoil(
        [read_picture(p) for p in elpv_pictures.draw(8, seed)],
        lambda p: spotted(p, (150, 150), 45),
    )
    found = {f.kind for f in vet(pictures, accept_mixed=True) if f.shot == "3.png"}
    assert found & {Kind.SUSPECT, Kind.FOREIGN}


def test_two_blurred_shots_do_not_hide_each_other(vet: Vet, clean: list[Picture]) -> None:
    pictures = named(clean)
    for name in ("2.png", "5.png"):
        pictures[name] = np.asarray(cv2.GaussianBlur(pictures[name], (0, 0), 3), np.uint8)
    assert {f.shot for f in vet(pictures) if f.kind is Kind.BLURRED} == {"2.png", "5.png"}


def test_the_text_says_how_far_a_shot_is_turned(vet: Vet, clean: list[Picture]) -> None:
    texts: dict[int, str] = {}
    for turns, turned in ((1, spoil(clean, np.rot90)), (3, spoil(clean, lambda p: np.rot90(p, 3)))):
        texts[turns] = next(f.text for f in vet(turned) if f.kind is Kind.ROTATED)
    assert "90" in texts[1]
    assert "270" in texts[3]


def test_a_shot_that_shows_nothing_new_is_redundant(clean: list[Picture]) -> None:
    shots = shot_set({**named(clean), "again.png": flickering(clean[2], 1)}).shots
    kept, findings = drop_near_duplicates(shots)
    assert [s.path.name for s in kept] == list(named(clean))
    assert [(f.shot, f.kind, f.redundant) for f in findings] == [("again.png", Kind.NEAR_DUPLICATE, True)]
    assert "2.png" in findings[0].text


def test_different_parts_are_not_redundant(elpv_pictures: elpv.Elpv) -> None:
    shots = shot_set(named([read_picture(p) for p in elpv_pictures.draw(40, 1)])).shots
    assert drop_near_duplicates(shots) == (shots, ())


def test_shots_that_are_all_the_same_picture_are_refused(clean: list[Picture]) -> None:
    with pytest.raises(ShotsError, match="all 4 shots show the same picture"):
        drop_near_duplicates(shot_set(named([flickering(clean[0], step) for step in range(4)])).shots)


@pytest.mark.parametrize("counts", [(4, 3), (3, 5)])
def test_two_products_are_refused_and_the_smaller_is_named(
    counts: tuple[int, int], vet: Vet, elpv_pictures: elpv.Elpv
) -> None:
    first = named(cells(elpv_pictures, counts[0], seed=0), "cell")
    second = named([texture(seed, 300, 300) for seed in range(counts[1])], "wood")
    with pytest.raises(ShotsError, match="two products") as caught:
        vet({**first, **second})
    smaller, larger = (second, first) if counts[1] < counts[0] else (first, second)
    assert all(name in caught.value.what for name in smaller)
    assert counts[0] == counts[1] or not any(name in caught.value.what for name in larger)
    assert "--accept-mixed" in caught.value.remedy
    accepted = vet({**first, **second}, accept_mixed=True)
    assert Kind.GROUPS in {f.kind for f in accepted}, "accepted, but still told"


def test_two_shots_are_enough_to_audit(vet: Vet, clean: list[Picture]) -> None:
    assert all(isinstance(f, Finding) for f in vet(named(clean[:2])))


def test_every_finding_is_of_a_shot_that_is_there(vet: Vet, elpv_pictures: elpv.Elpv) -> None:
    pictures = named([read_picture(p) for p in elpv_pictures.draw(8, 3)])
    findings = vet(pictures)
    assert {f.shot for f in findings} <= set(pictures)
    assert all(f.text for f in findings)
