from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.envs.worlds import CHOICES, chosen_worlds
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
