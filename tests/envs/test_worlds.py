from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.envs.worlds import CHOICES, check_batch, chosen_worlds, where_in_episodes
from rlstab.errors import UserError


@given(mask=st.lists(st.booleans(), min_size=1, max_size=8).filter(any), name=st.sampled_from(CHOICES))
def test_a_mask_and_its_indices_choose_the_same_worlds(mask, name):
    choices = [mask, np.array(mask)]
    if name == "reset_mask":
        choices += [np.array(mask, np.int8), [int(item) for item in mask]]
    else:
        choices += [np.flatnonzero(mask), np.flatnonzero(mask).tolist()]
    for choice in choices:
        chosen, rest = chosen_worlds({name: choice, "low": 1}, len(mask))
        assert chosen.tolist() == mask
        assert rest == {"low": 1}


@pytest.mark.parametrize("options", [None, {}, {"low": 1}])
def test_without_a_choice_all_are_meant(options):
    chosen, rest = chosen_worlds(options, 3)
    assert chosen.tolist() == [True] * 3
    assert rest == (options or {})


def test_two_choices_mean_the_worlds_in_both():
    options = {"worlds": [0, 1], "reset_mask": np.array([False, True, True])}
    assert chosen_worlds(options, 3)[0].tolist() == [False, True, False]
    assert set(options) == set(CHOICES), "the caller's options are left alone"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worlds": []}, "no world at all"),
        ({"worlds": [False, False]}, "no world at all"),
        ({"worlds": [0], "reset_mask": [False, True]}, "no world at all"),
        ({"worlds": [0, 2]}, r"'worlds' is \[0, 2\], there are worlds 0 to 1"),
        ({"worlds": [-1]}, r"'worlds' is \[-1\], there are worlds 0 to 1"),
        ({"reset_mask": [0, 2]}, r"'reset_mask' is \[0, 2\], it must say true or false for each world"),
        ({"worlds": 5}, "'worlds' is 5, there are worlds 0 to 1"),
        ({"worlds": [0.5]}, "there are worlds 0 to 1"),
        ({"worlds": [True]}, r"'worlds' is a mask of shape \(1,\), there are 2 worlds"),
        ({"reset_mask": np.ones((2, 2), bool)}, r"'reset_mask' is a mask of shape \(2, 2\)"),
        ({"reset_mask": True}, r"'reset_mask' is a mask of shape \(\)"),
    ],
)
def test_choices_that_cannot_be_are_refused_in_one_line(options, words):
    with pytest.raises(UserError, match=words) as caught:
        chosen_worlds(options, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("worlds", "expected"),
    [
        ([1], "in world 1, at step 11 of its episode"),
        ([0, 1, 3], "in worlds 0, 1 and 3, at steps 10, 11 and 13 of their episodes"),
        (list(range(9)), "in worlds 0, 1, 2, 3, 4 and 4 more, at steps 10, 11, 12, 13, 14, ... of their episodes"),
    ],
)
def test_each_world_is_at_a_step_of_its_own_episode(worlds, expected):
    assert where_in_episodes(worlds, np.arange(10, 20)) == expected


@pytest.mark.parametrize("wrong", [2.5, "4", None, True])
def test_numbers_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match="num_envs must be a whole number, as in num_envs=8, not"):
        check_batch(wrong, 0)
    with pytest.raises(UserError, match="seed must be a whole number"):
        check_batch(1, wrong)
    check_batch(np.int64(2), np.uint32(3))
