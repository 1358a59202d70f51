"""`rlstab bench car`: a car on roads of changing friction, driven by planners, regulators, MPC and learned policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.bench import hybrid_car_cases as cases
from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.hybrid_car_checks import check_levels, time_controllers, watched
from rlstab.bench.hybrid_car_result import CarStudy, Latency, Learned, Row, Track
from rlstab.controllers.registry import load_preset
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.hybrid.road import Road
    from rlstab.policies.roa.car import CarModel

TASK = "rlstab/CarTracking-v0"
_RL_SEEDS = 2
_HORIZONS = (20, 50)


@dataclass(frozen=True)
class Options:
    """What to train and drive."""

    seeds: int = 3
    """Trainings, with seeds 0, 1, ..."""
    run: Path | None = None
    """A finished run of `rlstab train roa`, in place of trainings."""
    maps: int = 25
    """Roads to drive along, with seeds 0, 1, ..."""
    mpc_maps: int = 6
    """Roads among them that MPC drives along, the first ones; 0: no MPC."""
    rl_steps: int = 0
    """Environment steps of SAC and PPO, two seeds each; 0: none of them."""
    work: Path = Path("runs/car")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> CarStudy:
    """Train whatever is not in the work folder yet, and drive.

    Raises
    ------
    UserError
        A number is out of range, a training fails, or ``run`` is not one of the method on this task.
    """
    if min(options.seeds, options.maps) < 1 or min(options.mpc_maps, options.rl_steps) < 0:
        raise UserError("seeds and maps must be at least 1, mpc-maps and rl-steps at least 0")
    from rlstab.envs.hybrid.road import random_road

    conditions = Conditions.now(1)
    roads = [random_road(np.random.default_rng(seed)) for seed in range(options.maps)]
    models, learned = _trained(options, on_progress)
    rows = [_row(case, roads, None) for case in cases.regulators(roads)]
    on_progress(f"{len(rows)} controllers without a network driven")
    for seed, model in models:
        some = cases.networks(roads, model)
        rows += [_row(case, roads, seed) for case in some]
        index = next(i for i, part in enumerate(learned) if part.seed == seed)
        drives = some[_main(some)].drive(roads)
        learned[index] = replace(learned[index], levels=check_levels(model, seed), monitor=watched(model, drives))
        on_progress(f"seed {seed}: driven")
    rows += _mpc(roads[: options.mpc_maps], on_progress)
    rows += _policies(options, roads, on_progress)
    latencies: list[Latency] = time_controllers(models[0][1], roads[0], bool(options.mpc_maps), on_progress)
    return CarStudy(
        name="car",
        title="A car on roads of changing friction",
        command=command_line("car", options),
        rows=rows,
        learned=learned,
        latencies=latencies,
        tracks=_tracks(roads[0], models[0][1]),
        road=roads[0].configuration(1.0),
        conditions=conditions,
        settings=_settings(options),
    )


def _trained(options: Options, on_progress: Callable[[str], None]) -> tuple[list[tuple[int, CarModel]], list[Learned]]:
    from rlstab.policies.loading import load_policy
    from rlstab.runs.run import Run

    models, learned = [], []
    for seed in range(options.seeds) if options.run is None else (None,):
        path = options.run
        if path is None:
            options.work.mkdir(parents=True, exist_ok=True)
            path = runs.train(options.work / f"roa-seed{seed}", "roa", {"env": TASK, "seed": seed}, f"seed {seed}")
        run = Run.open(path)
        if (run.info.method, run.info.env_id) != ("roa", TASK):
            raise UserError(f"{path} is a run of {run.info.method} on {run.info.env_id}, not of roa on {TASK}")
        model: Any = load_policy(run).module
        found = int(run.info.config["seed"])
        elapsed = float(run.read_metrics()["time/elapsed_s"].to_numpy()[-1])
        models.append((found, model.eval()))
        learned.append(Learned("roa", found, elapsed, int(run.info.config["total_steps"])))
        on_progress(f"seed {found}: trained in {elapsed:.0f} s by the clock")
    return models, learned


def _row(case: cases.Case, roads: Sequence[Road], seed: int | None) -> Row:
    drives = case.drive(roads)
    figures = [drive.figures(road) for drive, road in zip(drives, roads, strict=True)]
    columns = {name: np.array([each[name] for each in figures]) for name in figures[0]}
    return Row(case.controller, case.references, seed, columns, getattr(case.chooser, "infeasible", 0))


def _main(some: Sequence[cases.Case]) -> int:
    wanted = ("planner", cases.planned(cases.MAIN_WEIGHT))
    return next(index for index, case in enumerate(some) if (case.controller, case.references) == wanted)


def _mpc(roads: Sequence[Road], on_progress: Callable[[str], None]) -> list[Row]:
    """One road at a time, so that every solve but the first of a piece begins from the plan before."""
    if not roads:
        return []
    from rlstab.controllers.baselines.mpc import Mpc
    from rlstab.controllers.roa.car.mpc import MpcFollower, mpc_problem

    rows = []
    for horizon in _HORIZONS:
        solver = Mpc(mpc_problem(horizon))
        for template in cases.fixed(f"MPC, {horizon} steps", partial(MpcFollower, solver), (5.0,), True):
            parts = [_row(replace(template, follower=MpcFollower(solver)), [road], None) for road in roads]
            columns = {name: np.concatenate([part.figures[name] for part in parts]) for name in parts[0].figures}
            rows.append(replace(parts[0], figures=columns))
            on_progress(f"MPC over {horizon} steps driven, {template.references}")
    return rows


def _policies(options: Options, roads: Sequence[Road], on_progress: Callable[[str], None]) -> list[Row]:
    """SAC and PPO on the learning environment, short-budget."""
    if not options.rl_steps:
        return []
    from rlstab.policies.loading import load_policy
    from rlstab.runs.run import Run

    rows = []
    for method in ("sac", "ppo"):
        for seed in range(_RL_SEEDS):
            flags = {"env": TASK, "seed": seed, "total_steps": options.rl_steps}
            path = runs.train(options.work / f"{method}-{options.rl_steps}-seed{seed}", method, flags, method)
            policy = load_policy(Run.open(path))
            name = f"{method.upper()}, {options.rl_steps:,} steps"
            rows += [_row(case, roads, seed) for case in cases.policies(name, policy)]
            on_progress(f"{name}, seed {seed}: driven")
    return rows


def _tracks(road: Road, model: CarModel) -> list[Track]:
    """What the picture shows: drives along the first road."""
    found = {
        (case.controller, case.references): case for case in (*cases.regulators([road]), *cases.networks([road], model))
    }
    wanted = cases.planned(cases.MAIN_WEIGHT)
    chosen = [found["LQR", "5 m/s"], found["LQR", "1 s a piece"], found["planner", wanted]]
    return [Track(case.controller, case.references, case.drive([road])[0].track) for case in chosen]


def _settings(options: Options) -> dict[str, Any]:
    preset = load_preset("roa", TASK).values
    return {
        "roads": f"{options.maps}, seeds 0 to {options.maps - 1}; MPC the first {options.mpc_maps}",
        "limits of controls": "8 rad/s and 8 m/s^2",
        "control period": "10 ms, explicit Euler",
        "planner": f"speeds 3 to 15 m/s, shift up to 1 m, seconds worth {', '.join(map(str, cases.TIME_WEIGHTS))}",
        "differentiable planner": f"{cases.DESCENT.steps} RMSprop steps of {cases.DESCENT.learning_rate:g}",
        "tuned regulator": f"control weight {cases.CONTROL_WEIGHT:g}; the others 1",
        "preset": ", ".join(f"{name} {value}" for name, value in preset.items()),
        "seeds of the trainings": options.seeds if options.run is None else "of the run",
    }
