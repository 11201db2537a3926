"""A budget of restarts: so many within any stretch of time, and never one more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.budget import Budget


@given(
    most=st.integers(0, 5),
    within_ns=st.integers(1, 100),
    asked=st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=60),
)
def test_within_any_stretch_no_more_is_spent_than_allowed_and_no_less_is_granted(
    most: int, within_ns: int, asked: list[tuple[int, bool]]
) -> None:
    budget, now_ns, spent = Budget(most, within_ns), 0, list[int]()
    for pause_ns, spend in asked:
        now_ns += pause_ns
        recent = [at for at in spent if now_ns - at < within_ns]
        assert budget.left(now_ns) == most - len(recent)
        if spend:
            granted = budget.spend(now_ns)
            assert granted == (len(recent) < most)
            spent += [now_ns] * granted
    assert all(sum(start <= at < start + within_ns for at in spent) <= most for start in spent)


def test_a_restart_is_forgotten_exactly_when_its_time_is_over() -> None:
    budget = Budget(1, 10)
    assert budget.spend(100)
    assert not budget.spend(109)
    assert budget.spend(110)


def test_what_is_refused_is_not_spent() -> None:
    budget = Budget(1, 10)
    budget.spend(0)
    for now_ns in range(1, 10):
        assert not budget.spend(now_ns)
    assert budget.spend(10)


def test_no_budget_is_no_restart() -> None:
    assert not Budget(0, 10).spend(0)
