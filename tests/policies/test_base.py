from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlstab.policies.base import as_batch

SPACE = Box(-1.0, 1.0, (3,))


def test_one_observation_becomes_a_batch_of_one() -> None:
    array, batched = as_batch([0.1, 0.2, 0.3], SPACE)
    assert (array.shape, batched) == ((1, 3), False)
    assert as_batch(np.zeros((5, 3)), SPACE)[1]
    assert as_batch(2, Discrete(4))[0].tolist() == [2]


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 2, 3), ()])
def test_another_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(3,\) or \(batch, 3\)"):
        as_batch(np.zeros(shape), SPACE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_named_with_its_place(value: float) -> None:
    batch = np.zeros((5, 3), np.float32)
    batch[3, 1] = value
    with pytest.raises(ValueError, match=rf"the observation holds {value} at \[3, 1\]"):
        as_batch(batch, SPACE)
