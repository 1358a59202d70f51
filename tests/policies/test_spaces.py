"""Spaces survive JSON."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.policies.spaces import space_from_json, space_to_json

SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)


@given(shape=SHAPES, data=st.data())
def test_boxes_survive_json(shape, data):
    finite = st.floats(-1e6, 1e6, width=32)
    low = np.array(data.draw(st.lists(finite, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))), np.float32)
    box = spaces.Box(low.reshape(shape), low.reshape(shape) + np.float32(1e6), dtype=np.float32)
    again = space_from_json(json.loads(json.dumps(space_to_json(box))))
    assert again == box


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (3,), np.float64),
        spaces.Box(0, 255, (84, 84, 4), np.uint8),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([2, 3, 4]),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, -3]]),
        spaces.MultiBinary(6),
        spaces.MultiBinary((2, 3)),
    ],
)
def test_every_kind_survives_json(space):
    text = json.dumps(space_to_json(space))
    assert space_from_json(json.loads(text)) == space
    assert len(text) < 200, "an image's 28,224 equal bounds are one number"


def test_unknown_spaces_say_what_to_do():
    with pytest.raises(UserError, match="FlattenObservation"):
        space_to_json(spaces.Dict({"a": spaces.Discrete(2)}))
    with pytest.raises(UserError, match="unknown space 'sphere'"):
        space_from_json({"kind": "sphere"})
