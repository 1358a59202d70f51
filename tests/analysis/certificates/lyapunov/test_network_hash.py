"""Networks that compute something else have another hash, wherever their numbers are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.network_hash import network_sha256
from rlstab.envs.plants import InvertedPendulum
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LyapunovNetwork, QuadraticLyapunov


class _Gain(nn.Module):
    def __init__(self, gain: object) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state[..., :1] * self.gain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.0, -1.0),
        (1.0, 1.0 + 1e-15),
        ((1.0, 2.0), (2.0, 1.0)),
        ({"a": 1}, {"a": 2}),
        ("left", "right"),
        (np.ones(2), -np.ones(2)),
        (torch.ones(2), -torch.ones(2)),
        (torch.sin, torch.cos),
    ],
)
def test_plain_attributes_are_part_of_the_hash(one: object, other: object) -> None:
    assert network_sha256(_Gain(one)) == network_sha256(_Gain(one)) != network_sha256(_Gain(other))
    # Of parts as well.
    assert network_sha256(nn.Sequential(_Gain(one))) != network_sha256(nn.Sequential(_Gain(other)))


def test_a_loop_whose_gain_is_turned_round_has_another_hash() -> None:
    loops = [ClosedLoop(InvertedPendulum(), _Gain(gain), QuadraticLyapunov(np.eye(2))) for gain in (1.0, -1.0)]
    assert loops[0].network_sha256() != loops[1].network_sha256()


def test_buffers_that_are_not_saved_are_part_of_the_hash() -> None:
    hashes = []
    for value in (1.0, 2.0):
        module = nn.Identity()
        module.register_buffer("offset", torch.tensor(value), persistent=False)
        hashes.append(network_sha256(module))
    assert hashes[0] != hashes[1]


def test_a_copy_has_the_same_hash() -> None:
    module = LyapunovNetwork(2)
    assert network_sha256(module) == network_sha256(copy.deepcopy(module))


@pytest.mark.parametrize("value", [lambda x: x, object(), torch.ones(2).mul])
def test_what_cannot_be_identified_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"_Gain\.gain is a"):
        network_sha256(_Gain(value))
