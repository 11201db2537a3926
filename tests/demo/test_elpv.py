"""The split that makes our figures comparable with published ones."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from deploy.demo import elpv
from edge.errors import UsageError
from edge.pictures import read_picture

# scikit-learn's train_test_split(normal, test_size=0.25, random_state=42), normal cells in the order of labels.csv.
FIRST_TEST = ["cell1270.png", "cell2158.png", "cell0965.png", "cell1275.png"]
LAST_TEST = ["cell2394.png", "cell2373.png"]
FIRST_TRAIN = ["cell1215.png", "cell2035.png", "cell1677.png", "cell2261.png"]
LAST_TRAIN = ["cell2537.png", "cell2132.png"]


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def labels(data: elpv.Elpv) -> dict[str, float]:
    """The label file, read in another way than the product does."""
    text = (data.train_normal[0].parent.parent / "labels.csv").read_text()
    return {Path(line[:20].strip()).name: float(line[20:].split()[0]) for line in text.splitlines() if line}


def test_the_split_has_the_published_sizes(elpv_pictures: elpv.Elpv) -> None:
    assert len(elpv_pictures.train_normal) == 1131
    assert len(elpv_pictures.test_normal) == 377
    assert len(elpv_pictures.test_anomalous) == 715


def test_no_cell_is_in_two_roles_and_none_is_forgotten(elpv_pictures: elpv.Elpv) -> None:
    roles = [elpv_pictures.train_normal, elpv_pictures.test_normal, elpv_pictures.test_anomalous]
    every = [name for role in roles for name in names(role)]
    assert len(every) == len(set(every))
    found = labels(elpv_pictures)
    assert len(found) == 2624
    assert {name for name, label in found.items() if label == 0.0} == set(names(roles[0]) + names(roles[1]))
    assert {name for name, label in found.items() if label == 1.0} == set(names(roles[2]))


def test_the_split_is_that_of_scikit_learn(elpv_pictures: elpv.Elpv) -> None:
    train, test = names(elpv_pictures.train_normal), names(elpv_pictures.test_normal)
    if importlib.util.find_spec("sklearn") is not None:
        normal = [name for name, label in labels(elpv_pictures).items() if label == 0.0]
        split = importlib.import_module("sklearn.model_selection").train_test_split
        assert [train, test] == split(normal, test_size=0.25, random_state=42)
    assert test[:4] == FIRST_TEST
    assert test[-2:] == LAST_TEST
    assert train[:4] == FIRST_TRAIN
    assert train[-2:] == LAST_TRAIN


def test_shots_are_drawn_from_the_training_cells_alone_and_repeatably(elpv_pictures: elpv.Elpv) -> None:
    draws = [elpv_pictures.draw(8, seed) for seed in range(5)]
    for draw in draws:
        assert len(set(draw)) == 8
        assert set(draw) <= set(elpv_pictures.train_normal)
    assert draws[0] == elpv_pictures.draw(8, 0)
    assert len({frozenset(draw) for draw in draws}) == 5


def test_every_file_is_there_and_a_picture_of_a_cell(elpv_pictures: elpv.Elpv) -> None:
    roles = (elpv_pictures.train_normal, elpv_pictures.test_normal, elpv_pictures.test_anomalous)
    assert all(path.is_file() for role in roles for path in role)
    assert all(read_picture(role[0]).shape == (300, 300, 3) for role in roles)


def test_a_data_set_that_is_not_installed_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="not installed") as refused:
        elpv.load()
    assert "pip install" in refused.value.remedy
