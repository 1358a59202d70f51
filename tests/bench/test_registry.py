from __future__ import annotations

import dataclasses

import pytest

from rlstab.bench.registry import BENCHMARKS, get
from rlstab.errors import UserError


@pytest.mark.parametrize("name", BENCHMARKS)
def test_flags_are_dataclasses_with_defaults(name: str) -> None:
    options = get(name).options()
    assert dataclasses.is_dataclass(options)
    options()


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match="did you mean 'startup'"):
        get("startap")
    with pytest.raises(UserError, match="there are envs, "):
        get("xyz")
