from __future__ import annotations

import contextlib
import random

import numpy as np
import torch

from rlstab.learning.global_random import GlobalRandom
from rlstab.runs.state import pack, unpack


def draw():
    return (random.random(), float(np.random.standard_normal()), float(torch.rand(())))


def seed_everything():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def test_what_is_drawn_inside_does_not_change_what_is_drawn_outside():
    seed_everything()
    mine = GlobalRandom()
    with mine.in_place():
        inside = [draw() for _ in range(3)]
    # Both began in the same state, so the outside now draws what the inside drew.
    assert [draw() for _ in range(3)] == inside


def test_the_state_goes_on_where_it_was():
    mine = GlobalRandom()
    with mine.in_place():
        whole = [draw() for _ in range(4)]
    mine = GlobalRandom()
    with mine.in_place():
        first = [draw() for _ in range(2)]
    tensors, skeleton = pack(mine.state_dict())
    other = GlobalRandom()
    other.load_state_dict(unpack(tensors, skeleton))
    with other.in_place():
        assert first + [draw() for _ in range(2)] == whole


def test_an_exception_gives_the_outside_back():
    seed_everything()
    mine = GlobalRandom()
    expected = draw()
    seed_everything()
    with contextlib.suppress(ValueError), mine.in_place():
        draw()
        raise ValueError
    assert draw() == expected
