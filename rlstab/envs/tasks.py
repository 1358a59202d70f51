"""Every task that runs in batches on an engine of ours, by its id. A task's class is imported when it is looked up."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlstab.envs.task import Task

__all__ = ["ALL_TASKS", "OWN_TASKS", "TASKS", "VARIANT_OF"]


class _LazyTasks(Mapping[str, "type[Task]"]):
    """Task classes by environment id."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def __getitem__(self, id: str) -> type[Task]:
        module, _, name = self._places[id].partition(":")
        return getattr(importlib.import_module(f"rlstab.envs.{module}"), name)

    def __contains__(self, id: object) -> bool:
        return id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_GYMNASIUMS = {
    "InvertedPendulum-v5": "gym_mujoco.inverted_pendulum:InvertedPendulum",
    "InvertedDoublePendulum-v5": "gym_mujoco.inverted_double_pendulum:InvertedDoublePendulum",
    "Hopper-v5": "gym_mujoco.hopper:Hopper",
    "Walker2d-v5": "gym_mujoco.walker2d:Walker2d",
    "HalfCheetah-v5": "gym_mujoco.half_cheetah:HalfCheetah",
    "Ant-v5": "gym_mujoco.ant:Ant",
    "Humanoid-v5": "gym_mujoco.humanoid:Humanoid",
    "Swimmer-v5": "gym_mujoco.swimmer:Swimmer",
    "Reacher-v5": "gym_mujoco.reacher:Reacher",
}
_VARIANTS = {
    "rlstab/HopperP-v0": ("Hopper-v5", "gym_mujoco.position_only:HopperP"),
    "rlstab/Walker2dP-v0": ("Walker2d-v5", "gym_mujoco.position_only:Walker2dP"),
    "rlstab/HalfCheetahP-v0": ("HalfCheetah-v5", "gym_mujoco.position_only:HalfCheetahP"),
    "rlstab/AntP-v0": ("Ant-v5", "gym_mujoco.position_only:AntP"),
}
_LINEAR = {
    "rlstab/LinearQuadratic-S1-v0": "linear.task:ScalarRegulation",
    "rlstab/LinearQuadratic-S2-v0": "linear.task:IntegratorRegulation",
    "rlstab/LinearQuadratic-S3-v0": "linear.task:CartPoleRegulation",
}
_PLANTS = {
    "rlstab/PlantPendulum-v0": "plants.task:PendulumRegulation",
    "rlstab/PlantPendulumWeak-v0": "plants.task:WeakPendulumRegulation",
    "rlstab/PlantPath-v0": "plants.task:PathRegulation",
    "rlstab/PlantPathTight-v0": "plants.task:TightPathRegulation",
    "rlstab/PlantCartPole-v0": "plants.task:CartPoleRegulation",
    "rlstab/PlantQuadrotor2D-v0": "plants.task:QuadrotorRegulation",
}
_LOCOMOTION = {
    "rlstab/Go1Velocity-v0": "locomotion.velocity:Go1Velocity",
    "rlstab/Go1VelocityRough-v0": "locomotion.rough:Go1VelocityRough",
    "rlstab/Go1Stand-v0": "locomotion.stand:Go1Stand",
}
_HYBRID = {
    "rlstab/CarTracking-v0": "hybrid.car_task:CarTracking",
    "rlstab/Walker-v0": "hybrid.walker_task:WalkerGait",
    "rlstab/Pogobot-v0": "hybrid.pogobot_task:PogobotCorridor",
    "rlstab/SwitchedLinear-v0": "hybrid.switched_linear_task:SwitchedLinearRegulation",
}
_OWN = {id: place for id, (_, place) in _VARIANTS.items()} | _LINEAR | _PLANTS | _HYBRID | _LOCOMOTION

TASKS: Mapping[str, type[Task]] = _LazyTasks(_GYMNASIUMS)
"""Tasks that equal gymnasium's environment of the same id."""

VARIANT_OF: Mapping[str, str] = {id: origin for id, (origin, _) in _VARIANTS.items()}
"""Ids of tasks that gymnasium does not have, and which of gymnasium's each one derives from."""

OWN_TASKS: Mapping[str, type[Task]] = _LazyTasks(_OWN)
"""Tasks that gymnasium does not have."""

ALL_TASKS: Mapping[str, type[Task]] = _LazyTasks(_GYMNASIUMS | _OWN)
"""All of them."""
