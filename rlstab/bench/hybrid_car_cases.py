"""Who drives in the study of the car: what chooses references, and what follows them, under equal conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlstab.controllers.roa.car.drive import Drive, Follower, References, drive
from rlstab.controllers.roa.car.followers import (
    LqrFollower,
    NetworkFollower,
    PolicyFollower,
    QuadraticModes,
)
from rlstab.controllers.roa.car.planner import CarPlanner
from rlstab.controllers.roa.car.references import ConstantSpeed, ConstantTime, Planned
from rlstab.controllers.roa.car.stages import CONTROL_WEIGHT
from rlstab.controllers.roa.planner import Refinement
from rlstab.envs.hybrid.road import DRY, ICE, Road
from rlstab.policies.base import Policy
from rlstab.policies.roa.car import CarModel

SPEEDS = (3.0, 5.0, 8.0, 10.0)
"""Of references that nobody chooses, m/s."""
TIME_WEIGHTS = (0.1, 0.2, 0.4)
"""Squared error that a second is worth to the planner; tuned on no map of the evaluation, and all are shown."""
MAIN_WEIGHT = 0.2
"""The one that verdicts are about."""
DESCENT = Refinement(10, 0.01)
"""Of the differentiable planner."""
ONE_MODE = (1.0, 10.0)
"""Mode of the controller that knows only one: dry road at 10 m/s."""


@dataclass(frozen=True)
class Case:
    """One controller: who chooses references, and who follows them."""

    controller: str
    references: str
    follower: Follower
    chooser: References

    def drive(self, roads: Sequence[Road]) -> tuple[Drive, ...]:
        """Drive along all roads."""
        return drive(roads, self.chooser, self.follower)


def fixed(controller: str, make: Callable[[], Follower], speeds: Sequence[float], second: bool) -> list[Case]:
    """A follower at each constant speed, and with one second for each piece; ``make()`` gives a fresh one."""
    cases = [Case(controller, f"{speed:g} m/s", make(), ConstantSpeed(speed)) for speed in speeds]
    return cases + ([Case(controller, "1 s a piece", make(), ConstantTime(1.0))] if second else [])


def regulators(roads: Sequence[Road]) -> list[Case]:
    """Everything without a network: linear regulators, and planners with functions made by hand."""
    found = fixed("LQR", LqrFollower, SPEEDS, True)
    found += fixed("LQR, dry gains only", lambda: LqrFollower(mode=(DRY, 10.0)), (5.0,), True)
    found += fixed("LQR, ice gains only", lambda: LqrFollower(mode=(ICE, 10.0)), (5.0,), True)
    found += fixed("LQR, tuned", lambda: LqrFollower(CONTROL_WEIGHT), SPEEDS, True)
    published = CarPlanner(modes=QuadraticModes(), slowest=5.0, time_weight=0.0, shifts=11, speeds=11)
    found.append(Case("planner by hand, LQR", "5 to 15 m/s, V alone", LqrFollower(), Planned(roads, published)))
    for name, weight in (("planner by hand, LQR", 1.0), ("planner by hand, LQR tuned", CONTROL_WEIGHT)):
        for time_weight in TIME_WEIGHTS:
            planner = CarPlanner(modes=QuadraticModes(weight), time_weight=time_weight)
            found.append(Case(name, planned(time_weight), LqrFollower(weight), Planned(roads, planner)))
    return found


def networks(roads: Sequence[Road], model: CarModel) -> list[Case]:
    """Everything with the networks of one training."""
    found = fixed("network, no planner", lambda: NetworkFollower(model), SPEEDS, True)
    found += fixed("network, one mode", lambda: NetworkFollower(model, ONE_MODE), (5.0,), True)
    for time_weight in TIME_WEIGHTS:
        planner = CarPlanner(modes=model, time_weight=time_weight)
        found.append(Case("planner", planned(time_weight), NetworkFollower(model), Planned(roads, planner)))
    planner = CarPlanner(modes=model, time_weight=MAIN_WEIGHT, refinement=DESCENT)
    found.append(Case("planner, differentiable", planned(MAIN_WEIGHT), NetworkFollower(model), Planned(roads, planner)))
    return found


def policies(name: str, policy: Policy) -> list[Case]:
    """A policy of the learning environment."""
    return fixed(name, lambda: PolicyFollower(policy), (5.0,), True)


def planned(time_weight: float) -> str:
    """How a planner's references are called in tables."""
    return f"planned, a second worth {time_weight:g}"
