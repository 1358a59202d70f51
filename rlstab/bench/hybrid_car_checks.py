"""What the study of the car measures besides drives: levels on new configurations, assumptions, and time a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson
from rlstab.bench import hybrid_car_cases as cases
from rlstab.bench.hybrid_car_result import Latency, LevelCheck, Monitored
from rlstab.controllers.roa.car import closed_loop
from rlstab.controllers.roa.car.drive import Drive, Follower, References, drive
from rlstab.controllers.roa.car.followers import LqrFollower, NetworkFollower, QuadraticModes
from rlstab.controllers.roa.car.planner import CarPlanner
from rlstab.controllers.roa.car.references import ConstantSpeed, Planned
from rlstab.controllers.roa.car.watch import watch
from rlstab.controllers.roa.levels import measured_level
from rlstab.envs.hybrid.road import Road

if TYPE_CHECKING:
    from rlstab.policies.roa.car import CarModel

_CONFIGURATIONS = 100
_STARTS = 1024
_KEY = 9_000  # of the random numbers, that no training uses
_REBUILT_PIECES = 2


def check_levels(model: CarModel, seed: int) -> LevelCheck:
    """Roll out from new starts in new configurations, and compare with what the level promises."""
    x, modes = closed_loop.sample(np.random.default_rng([_KEY, seed]), _CONFIGURATIONS, _STARTS)
    loops = closed_loop.roll_out(model, x.flatten(0, 1), modes.repeat_interleave(_STARTS, 0), closed_loop.STEPS)
    held = closed_loop.stable(loops.values).reshape(_CONFIGURATIONS, _STARTS)
    values = loops.values[0].reshape(_CONFIGURATIONS, _STARTS)
    measured, found = measured_level(values, held)
    with torch.no_grad():
        level = model.level(modes).double().numpy()
        inside = values <= level[:, None]
    return LevelCheck(
        margin=float(model.margin),
        covered=int((level <= measured).sum()),
        configurations=_CONFIGURATIONS,
        ratio=level / np.maximum(measured, 1e-12),
        found=int(found.sum()),
        stable=float(held.mean()),
        inside=int(inside.sum()),
        violations=int((inside & ~held).sum()),
        bound=clopper_pearson(int((inside & ~held).sum()), int(inside.sum())) if inside.any() else 1.0,
        friction=modes[:, 0].double().numpy(),
        speed=modes[:, 1].double().numpy(),
        measured=measured,
        level=level,
    )


def watched(model: CarModel, drives: Sequence[Drive]) -> Monitored:
    """Count what held of the stability theorem's assumptions."""
    reports = [watch(model, each) for each in drives]
    modes = [mode for report in reports for mode in report.modes]
    failures = [report.first_failure for report in reports]
    return Monitored(
        modes=len(modes),
        inside=sum(mode.inside for mode in modes),
        fell=sum(mode.first_rise is None for mode in modes),
        in_domain=sum(mode.left_domain is None for mode in modes),
        whole=sum(failure is None for failure in failures),
        drives=len(reports),
        a2_first=sum(failure is not None and failure.startswith("A2") for failure in failures),
        a3_first=sum(failure is not None and failure.startswith("A3") for failure in failures),
        shortest_dwell=min(mode.dwell for mode in modes),
        jump=float(np.median([report.jump for report in reports])),
        needed_dwell=float(np.median([report.needed_dwell for report in reports])),
    )


def time_controllers(model: CarModel, road: Road, mpc: bool, on_progress: Callable[[str], None]) -> list[Latency]:
    """Time every decision on one road, driven alone; the first decision and the first plan are left out."""
    torch.set_num_threads(1)
    roads = [road]
    chosen = Planned(roads, CarPlanner(modes=model, time_weight=cases.MAIN_WEIGHT))
    refined = CarPlanner(modes=model, time_weight=cases.MAIN_WEIGHT, refinement=cases.DESCENT)
    by_hand = CarPlanner(modes=QuadraticModes(), time_weight=cases.MAIN_WEIGHT)
    found = [
        _latency("LQR", roads, ConstantSpeed(5.0), LqrFollower()),
        _latency("planner by hand, LQR", roads, Planned(roads, by_hand), LqrFollower()),
        _latency("planner", roads, chosen, NetworkFollower(model)),
        _latency("planner, differentiable", roads, Planned(roads, refined), NetworkFollower(model)),
    ]
    if not mpc:
        return found
    from rlstab.controllers.baselines.mpc import Mpc
    from rlstab.controllers.roa.car.mpc import MpcFollower, mpc_problem

    beginning = Road(road.points[: _REBUILT_PIECES + 1], road.friction[:_REBUILT_PIECES])
    for horizon in (20, 50):
        for rebuild, some in ((False, road), (True, beginning)):
            name = f"MPC, {horizon} steps, {'rebuilt' if rebuild else 'built once'}"
            follower = MpcFollower(Mpc(mpc_problem(horizon), rebuild=rebuild, warm_start=not rebuild))
            latency = _latency(name, [some], ConstantSpeed(5.0), follower)
            solves = np.array(follower.solve_seconds[1:])
            found.append(latency.with_decisions(solves))
            on_progress(f"timed: {name}")
    return found


def _latency(name: str, roads: Sequence[Road], references: References, follower: Follower) -> Latency:
    found = drive(roads, references, follower)[0]
    control, plans = found.control_seconds[1:], found.plan_seconds[1:]
    planning = isinstance(references, Planned)
    return Latency(
        name=name,
        decisions=control,
        plans=plans if planning else np.zeros(0),
        mean=float((control.sum() + plans.sum()) / len(control)),
    )
