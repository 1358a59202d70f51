from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.controllers.roa.stages import Schedule
from rlstab.errors import UserError


@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=5), st.integers(0, 500))
def test_every_stage_has_a_step_and_all_steps_belong_to_one(shares, more):
    total = len(shares) + more
    schedule = Schedule(shares, total)
    places = [schedule.place(step) for step in range(total)]
    assert sorted({place.stage for place in places}) == list(range(len(shares)))
    assert sum(schedule.place(end - 1).length for end in schedule.ends) == total
    assert all(0 <= place.step < place.length for place in places)


def test_shares_are_kept():
    assert Schedule([1.0, 3.0], 402).ends == (101, 402)


def test_the_end_belongs_to_the_last_stage():
    place = Schedule([1.0, 1.0], 10).place(10)
    assert (place.stage, place.step, place.length) == (1, 5, 5)


def test_too_few_steps_are_refused():
    with pytest.raises(UserError, match="at least 3, one for each stage, got 2"):
        Schedule([1.0, 1.0, 1.0], 2)
