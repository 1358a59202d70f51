"""Gymnasium's v5 MuJoCo tasks, written for many worlds at once, and variants of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlstab.envs.gym_mujoco.base import GymMujocoTask

__all__ = ["ALL_TASKS", "TASKS", "VARIANT_OF"]


class _LazyTasks(Mapping[str, "type[GymMujocoTask]"]):
    """Task classes by environment id; a class is imported when it is looked up."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def __getitem__(self, id: str) -> type[GymMujocoTask]:
        module, _, name = self._places[id].partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)

    def __contains__(self, id: object) -> bool:
        return id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_GYMNASIUMS = {
    "InvertedPendulum-v5": "inverted_pendulum:InvertedPendulum",
    "InvertedDoublePendulum-v5": "inverted_double_pendulum:InvertedDoublePendulum",
    "Hopper-v5": "hopper:Hopper",
    "Walker2d-v5": "walker2d:Walker2d",
    "HalfCheetah-v5": "half_cheetah:HalfCheetah",
    "Ant-v5": "ant:Ant",
    "Humanoid-v5": "humanoid:Humanoid",
    "Swimmer-v5": "swimmer:Swimmer",
    "Reacher-v5": "reacher:Reacher",
}
_VARIANTS = {
    "rlstab/HopperP-v0": ("Hopper-v5", "position_only:HopperP"),
    "rlstab/Walker2dP-v0": ("Walker2d-v5", "position_only:Walker2dP"),
    "rlstab/HalfCheetahP-v0": ("HalfCheetah-v5", "position_only:HalfCheetahP"),
    "rlstab/AntP-v0": ("Ant-v5", "position_only:AntP"),
}

TASKS: Mapping[str, type[GymMujocoTask]] = _LazyTasks(_GYMNASIUMS)
"""Tasks that equal gymnasium's environment of the same id."""

VARIANT_OF: Mapping[str, str] = {id: origin for id, (origin, _) in _VARIANTS.items()}
"""Ids of tasks that gymnasium does not have, and which of gymnasium's each one derives from."""

ALL_TASKS: Mapping[str, type[GymMujocoTask]] = _LazyTasks(
    _GYMNASIUMS | {id: place for id, (_, place) in _VARIANTS.items()}
)
"""Both."""
