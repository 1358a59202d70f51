"""The robots there are: where their description comes from, their reference pose and the gains of their servos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlstab.envs.locomotion.legs import LEGS
from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    import mujoco

    from rlstab.envs.locomotion.model import Servo


@dataclass(frozen=True)
class Robot:
    """A four-legged robot as a task needs it."""

    describe: Callable[[], mujoco.MjSpec]
    """Makes its bare description: joints and feet named as in `rlstab.envs.locomotion.legs`."""
    rest: tuple[float, float, float]
    """Reference angles of each leg's joints, rad."""
    height: float
    """Of its base in the reference pose, metres."""
    torque_limits: tuple[float, float, float]
    """N m."""
    stiffness: float
    """N m/rad."""
    damping: float
    """N m s/rad."""

    def servos(self, scale: float) -> tuple[Servo, ...]:
        """One for each of `JOINTS`; an action of 1 moves the target by ``scale`` rad."""
        from rlstab.envs.locomotion.model import Servo

        leg = tuple(
            Servo(rest, scale, self.stiffness, self.damping, limit)
            for rest, limit in zip(self.rest, self.torque_limits, strict=True)
        )
        return leg * len(LEGS)


def _go1() -> mujoco.MjSpec:
    from rlstab.envs.locomotion.go1 import go1_spec

    return go1_spec()


def _packaged(name: str) -> Callable[[], mujoco.MjSpec]:
    def describe() -> mujoco.MjSpec:
        from rlstab.envs.locomotion.packaged import packaged_spec

        return packaged_spec(name)

    return describe


ROBOTS = {
    # Servos as in MuJoCo Playground.
    "go1": Robot(_go1, (0.0, 0.9, -1.8), 0.29, (23.7, 23.7, 35.55), 35.0, 0.5),
    "go1-unitree": Robot(_packaged("go1"), (0.0, 0.9, -1.8), 0.29, (23.7, 23.7, 35.55), 35.0, 0.5),
    "go2": Robot(_packaged("go2"), (0.0, 0.9, -1.8), 0.29, (23.7, 23.7, 45.43), 35.0, 0.5),
    # As in HIMLoco.
    "aliengo": Robot(_packaged("aliengo"), (0.0, 0.8, -1.5), 0.40, (35.278, 35.278, 44.4), 40.0, 2.0),
}


def robot_named(name: str) -> Robot:
    """Look a robot up.

    Raises
    ------
    UserError
        There is none of this name.
    """
    if name not in ROBOTS:
        raise UserError(f"there is no robot '{name}'{suggest(name, ROBOTS)}; there are {', '.join(ROBOTS)}")
    return ROBOTS[name]
