"""The figures that benchmarks and demos report, against definitions written out in full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.metrics import accuracy, auroc, best_accuracy

# Few different values, so that ties within and between the classes are common.
SCORES = st.lists(st.integers(-3, 3).map(lambda i: i / 2), min_size=1, max_size=12)


def auroc_by_pairs(normal: list[float], anomalous: list[float]) -> float:
    won = sum(1.0 if bad > good else 0.5 if bad == good else 0.0 for good in normal for bad in anomalous)
    return won / (len(normal) * len(anomalous))


def accuracy_by_parts(normal: list[float], anomalous: list[float], threshold: float) -> float:
    right = sum(score <= threshold for score in normal) + sum(score > threshold for score in anomalous)
    return right / (len(normal) + len(anomalous))


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(normal: list[float], anomalous: list[float]) -> None:
    assert auroc(normal, anomalous) == pytest.approx(auroc_by_pairs(normal, anomalous), abs=1e-12)


@given(SCORES, SCORES)
def test_auroc_of_swapped_classes_is_the_complement(normal: list[float], anomalous: list[float]) -> None:
    assert auroc(normal, anomalous) + auroc(anomalous, normal) == pytest.approx(1.0, abs=1e-12)


def test_auroc_counts_ties_half() -> None:
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([0.0, 1.0], [1.0]) == 0.75
    assert auroc([0.0], [1.0]) == 1.0
    assert auroc([1.0], [0.0]) == 0.0


@pytest.mark.parametrize(("normal", "anomalous"), [([], [1.0]), ([1.0], []), ([], [])])
def test_auroc_of_an_empty_class_is_an_error(normal: list[float], anomalous: list[float]) -> None:
    with pytest.raises(ValueError, match="both classes"):
        auroc(normal, anomalous)


@given(SCORES, SCORES, st.integers(-4, 4).map(lambda i: i / 2))
def test_accuracy_counts_a_score_at_the_threshold_as_accepted(
    normal: list[float], anomalous: list[float], threshold: float
) -> None:
    assert accuracy(normal, anomalous, threshold) == pytest.approx(accuracy_by_parts(normal, anomalous, threshold))


@given(SCORES, SCORES)
def test_best_accuracy_is_that_of_the_best_of_all_thresholds(normal: list[float], anomalous: list[float]) -> None:
    thresholds = [-np.inf, *normal, *anomalous]
    best = max(accuracy_by_parts(normal, anomalous, threshold) for threshold in thresholds)
    assert best_accuracy(normal, anomalous) == pytest.approx(best, abs=1e-12)
