"""`rlstab bench pogobot`: the hopper through random corridors, by planner and networks and by everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.hybrid_pogobot_parts import Contender, Flown, LevelCheck, Watched
from rlstab.bench.hybrid_pogobot_result import PogobotStudy
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.controllers.roa.pogobot.hop import Pilot
    from rlstab.envs.hybrid.corridor import Corridor
    from rlstab.policies.roa.pogobot import PogobotModel
    from rlstab.runs.run import Run

TASK = "rlstab/Pogobot-v0"
OURS = "RoA planner, sampling"
_LEVEL_SEED, _LEVEL_REFERENCES, _LEVEL_STARTS = 1_000_003, 400, 300
_REBUILT_HOPS = 6
_DESCENT, _COARSE = (5, 0.003), (5, 4)
"""Steps and step size of the differentiable planner; speeds and heights of the grid that it goes on from."""


@dataclass(frozen=True)
class Options:
    """What to train and to hop through."""

    seeds: int = 3
    """Trainings of the networks, with seeds 0, 1, ..."""
    instances: int = 40
    """Corridors, drawn with seeds 0, 1, ..."""
    run: Path | None = None
    """A run of `rlstab train roa` to evaluate in place of trainings."""
    ppo_seeds: int = 2
    """Trainings of PPO; 0: none."""
    sac_seeds: int = 2
    """Trainings of SAC; 0: none."""
    ppo_steps: int = 100_000
    """Hops of each training of PPO."""
    sac_steps: int = 8_000
    """Hops of each training of SAC."""
    work: Path = Path("runs/pogobot")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


@dataclass(frozen=True)
class _Entry:
    """One controller with one seed, ready to hop."""

    name: str
    pilot: Pilot
    seed: int | None = None
    minutes: float = 0.0
    build_s: float = 0.0


def measure(options: Options, on_progress: Callable[[str], None] = print) -> PogobotStudy:
    """Train whatever is not in the work folder yet, then let every controller hop through every corridor.

    Raises
    ------
    UserError
        A number is out of range, the run is not one of this system, or a training fails.
    """
    needed, baselines = (options.seeds, options.instances), (options.ppo_seeds, options.sac_seeds)
    if min(*needed, options.ppo_steps, options.sac_steps) < 1 or min(baselines) < 0:
        raise UserError("seeds, instances and steps must be at least 1, and seeds of the baselines not negative")
    import torch

    from rlstab.controllers.roa.pogobot.planner import PlannerSettings
    from rlstab.envs.hybrid.corridor import random_corridor

    torch.set_num_threads(1)
    conditions = Conditions.now(1)
    trained = _trained(options, on_progress)
    drawn = [random_corridor(np.random.default_rng(seed)) for seed in range(options.instances)]
    corridors, kinds = [corridor for corridor, _ in drawn], np.array([kind for _, kind in drawn])
    # One with a table to jump over, where there is one.
    shown = int(np.argmax(kinds))
    flown: dict[str, list[Flown]] = {}
    watched: list[Watched] = []
    for entry in _entries(options, trained, on_progress):
        flight, seen = _fly(entry, corridors, shown)
        flown.setdefault(entry.name, []).append(flight)
        watched += [seen] if seen is not None and entry.name == OURS else []
        on_progress(
            f"{entry.name}{'' if entry.seed is None else f', seed {entry.seed}'}: {int(flight.success.sum())} of "
            f"{len(corridors)}, {flight.cpu50_ms:.3g} ms a hop"
        )
    rebuilt = _rebuilt(trained[min(trained)][1], corridors[0])
    checks = [check_levels(model, seed) for seed, (_, model) in trained.items()]
    return PogobotStudy(
        name="pogobot",
        title="A hopper in corridors",
        command=command_line("pogobot", options),
        kinds=kinds,
        contenders=[Contender(name, flights) for name, flights in flown.items()],
        levels=checks,
        watched=watched,
        rebuilt_ms=1e3 * rebuilt,
        drawn=corridors[shown].segments,
        conditions=conditions,
        settings={
            "corridors": f"`random_corridor(default_rng(seed))`, seeds 0 to {options.instances - 1}",
            "planner": str(PlannerSettings()),
            "descent": f"{_COARSE[0]} x {_COARSE[1]} references, {_DESCENT[0]} steps of {_DESCENT[1]}",
            "seeds of the networks": ", ".join(map(str, trained)),
            **_preset(),
            "PPO": f"seeds 0 to {options.ppo_seeds - 1}, {options.ppo_steps:,} hops, defaults, 8 worlds",
            "SAC": f"seeds 0 to {options.sac_seeds - 1}, {options.sac_steps:,} hops, defaults",
        },
    )


def check_levels(model: PogobotModel, seed: int) -> LevelCheck:
    """Compare calibrated levels with measured ones, on references that were neither trained nor calibrated on."""
    import torch

    from rlstab.controllers.roa.pogobot.level_stage import measure_levels

    rng = np.random.default_rng(_LEVEL_SEED)
    references, measured, found = measure_levels(model, rng, _LEVEL_REFERENCES, _LEVEL_STARTS)
    with torch.no_grad():
        claimed = model.level(torch.as_tensor(references, dtype=torch.float32)).double().numpy()
    return LevelCheck(seed, float(model.margin), claimed, measured, found)


def _trained(options: Options, on_progress: Callable[[str], None]) -> dict[int, tuple[Run, PogobotModel]]:
    from rlstab.policies.loading import load_policy
    from rlstab.policies.roa.pogobot import PogobotModel
    from rlstab.runs.run import Run

    if options.run is not None:
        found = {int(Run.open(options.run).info.config["seed"]): Run.open(options.run)}
    else:
        options.work.mkdir(parents=True, exist_ok=True)
        found = {}
        for seed in range(options.seeds):
            path = options.work / f"roa-seed{seed}"
            found[seed] = Run.open(runs.train(path, "roa", {"env": TASK, "seed": seed}, f"roa, seed {seed}"))
            on_progress(f"networks, seed {seed}: trained in {_minutes(found[seed]):.1f} minutes")
    models = {}
    for seed, run in found.items():
        module: Any = load_policy(run).module if run.info.method == "roa" else None
        if not isinstance(module, PogobotModel):
            raise UserError(f"{run.path} is no run of `rlstab train roa --env {TASK}`")
        models[seed] = (run, module.eval())
    return models


def _entries(
    options: Options, trained: Mapping[int, tuple[Run, PogobotModel]], on_progress: Callable[[str], None]
) -> Iterator[_Entry]:
    """Every controller, with every seed; variants of the planner with the first alone."""
    import torch

    from rlstab.controllers.roa.planner import Refinement
    from rlstab.controllers.roa.pogobot.deadbeat import border_reference, deadbeat_pilot, segment_reference
    from rlstab.controllers.roa.pogobot.handmade import HandmadeModel
    from rlstab.controllers.roa.pogobot.mpc import MpcPilot
    from rlstab.controllers.roa.pogobot.pilot import RoaPilot
    from rlstab.controllers.roa.pogobot.planner import PlannerSettings
    from rlstab.controllers.roa.pogobot.policy_pilot import PolicyPilot
    from rlstab.policies.loading import load_policy

    first = min(trained)
    without_sets = PlannerSettings(set_cost=0.0)
    descending = PlannerSettings(*_COARSE, refinement=Refinement(*_DESCENT))
    for seed, (run, model) in trained.items():
        minutes = _minutes(run)
        yield _Entry(OURS, RoaPilot(model), seed, minutes)
        if seed == first:
            yield _Entry("RoA planner, differentiable", RoaPilot(model, descending), seed, minutes)
            yield _Entry("planner that ignores the sets", RoaPilot(model, without_sets), seed, minutes)
        yield _Entry("mode controller, no planner", PolicyPilot(load_policy(run)), seed, minutes)
    yield _Entry("planner with hand-made functions", RoaPilot(HandmadeModel(), dtype=torch.float64))
    yield _Entry("deadbeat, segment reference", deadbeat_pilot(segment_reference))
    yield _Entry("deadbeat, border band", deadbeat_pilot(border_reference))
    mpc = MpcPilot(trained[first][1])
    yield _Entry("MPC, 4 hops, learned map", mpc, first, _minutes(trained[first][0]), mpc.build_seconds)
    from rlstab.runs.run import Run

    baselines = (("ppo", options.ppo_seeds, options.ppo_steps, 8), ("sac", options.sac_seeds, options.sac_steps, 1))
    for method, seeds, steps, worlds in baselines:
        for seed in range(seeds):
            path = options.work / f"{method}-{steps}-seed{seed}"
            flags = {"env": TASK, "seed": seed, "total_steps": steps, "num_envs": worlds}
            run = Run.open(runs.train(path, method, flags, f"{method}, seed {seed}"))
            on_progress(f"{method}, seed {seed}: trained in {_minutes(run):.1f} minutes")
            name = f"{method.upper()}, short budget"
            yield _Entry(name, PolicyPilot(load_policy(run)), seed, _minutes(run))


def _fly(entry: _Entry, corridors: list[Corridor], shown: int) -> tuple[Flown, Watched | None]:
    from rlstab.controllers.roa.pogobot.hop import body_path, hop_through
    from rlstab.controllers.roa.pogobot.pilot import RoaPilot

    done, reports, pilot = [], [], entry.pilot
    for corridor in corridors:
        if (reset := getattr(pilot, "reset", None)) is not None:
            reset()
        done.append(hop_through(corridor, pilot))
        if isinstance(pilot, RoaPilot):
            reports.append(pilot.report())
    # The first decision of a corridor warms caches up, and solvers start cold.
    wall, cpu = (
        1e3 * np.array([second for run in done for second in getattr(run, clock)[1:]] or [np.nan])
        for clock in ("decision_s", "cpu_s")
    )
    flown = Flown(
        seed=entry.seed,
        minutes=entry.minutes,
        build_s=entry.build_s,
        success=np.array([run.success for run in done]),
        valid=np.array([run.valid for run in done]),
        speed_error=np.array([run.speed_error for run in done]),
        rmse=np.array([run.rmse for run in done]),
        travel_s=np.array([run.travel_s for run in done]),
        ms_per_m=np.array([1e3 * run.seconds_per_metre for run in done]),
        p50_ms=float(np.median(wall)),
        p99_ms=float(np.quantile(wall, 0.99)),
        cpu50_ms=float(np.median(cpu)),
        cpu99_ms=float(np.quantile(cpu, 0.99)),
        path=body_path(corridors[shown], done[shown]),
    )
    return flown, Watched.of(entry.seed, reports) if reports else None


def _rebuilt(model: PogobotModel, corridor: Corridor) -> float:
    """Median CPU seconds of a decision of the MPC whose problem is built anew at every hop; a few hops only."""
    from rlstab.controllers.roa.pogobot.hop import hop_through
    from rlstab.controllers.roa.pogobot.mpc import MpcPilot

    done = hop_through(corridor, MpcPilot(model, rebuild=True), most_hops=_REBUILT_HOPS)
    return float(np.median(done.cpu_s[1:]))


def _preset() -> dict[str, str]:
    from rlstab.controllers.registry import load_preset

    values = load_preset("roa", TASK).values
    return {"training of the networks": ", ".join(f"{name} {value}" for name, value in values.items())}


def _minutes(run: Run) -> float:
    """How long a run trained by the clock."""
    return float(run.read_metrics()["time/elapsed_s"].to_numpy()[-1]) / 60.0
