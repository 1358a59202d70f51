from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import kl_divergence

from rlstab.policies.distributions import ActionHead, MultiCategorical

SPACES = [spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_divergence_is_torchs(space: spaces.Space) -> None:
    head = ActionHead(space, -0.5)
    drawn = torch.randn(2, 5, head.inputs, generator=torch.Generator().manual_seed(0))
    one, other = head(drawn[0]), head(drawn[1])
    if isinstance(one, MultiCategorical):
        assert isinstance(other, MultiCategorical)
        expected = torch.stack([kl_divergence(*pair) for pair in zip(one.parts, other.parts, strict=True)]).sum(0)
    else:
        expected = kl_divergence(one, other)
    torch.testing.assert_close(head.divergence(*drawn), expected)
    np.testing.assert_array_equal(head.divergence(drawn[0], drawn[0]).detach().numpy(), np.zeros(5))


def test_divergence_of_nearly_certain_choices_is_finite() -> None:
    head = ActionHead(spaces.MultiBinary(1))
    found = head.divergence(torch.tensor([[80.0]]), torch.tensor([[-80.0]]))
    torch.testing.assert_close(found, torch.tensor([80.0]))
