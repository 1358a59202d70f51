"""`rlstab bench walker`: leads the compass walker from gait to gait, by planners on networks and by everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch

from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line
from rlstab.bench.hybrid_walker_result import OURS, RIVAL, WalkerStudy
from rlstab.bench.hybrid_walker_rows import Decisions, Monitored, Slice, Trained, Walks
from rlstab.controllers.roa.planner import Refinement
from rlstab.controllers.roa.walker.baselines import GoalAtOnce, LearnedTorque, LookAhead, OrbitDistance, SimulatedMpc
from rlstab.controllers.roa.walker.baselines import Simulated as SimulatedRegions
from rlstab.controllers.roa.walker.certificate import state_regions
from rlstab.controllers.roa.walker.data import gait_states, judge
from rlstab.controllers.roa.walker.planner import PlannerSettings, RoaPlanner
from rlstab.controllers.roa.walker.reachability import HELD, ReachingWalker
from rlstab.controllers.roa.walker.system import DECREASE
from rlstab.controllers.roa.walker.value_stage import values_of
from rlstab.controllers.roa.walker.walk import (
    GaitPlanner,
    PlannedGaits,
    Starts,
    Walking,
    draw_pairs,
    draw_starts,
    walk,
)
from rlstab.controllers.roa.walker.watch import watch
from rlstab.envs.hybrid.walker_gaits import gait_torque
from rlstab.envs.hybrid.walker_stride import swing
from rlstab.errors import UserError
from rlstab.policies.loading import load_policy
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.policies.roa.walker import WalkerModel
    from rlstab.runs.run import Run

TASK = "rlstab/Walker-v0"
ONE, MANY = "one goal", "many goals"
_SIDE = 41


@dataclass(frozen=True)
class Options:
    """What to train and test."""

    seeds: int = 3
    """Trainings of the networks, with seeds 0, 1, ..."""
    run: Path | None = None
    """A run of `rlstab train roa` to test in place of trainings. None: train."""
    repeats: int = 2
    """Times the benchmark's 140 starts for one goal are drawn anew."""
    pair_starts: int = 3
    """Starts of each of the 80 pairs of gaits."""
    timed: int = 40
    """Starts at which decisions are timed, one walker at a time."""
    samples: int = 10_000
    """Fresh states inside the learned regions, for the bound on those that fall."""
    watched: int = 30
    """Walks that the monitor watches, for each training."""
    table: bool = True
    """Make the reachability table, too: some minutes."""
    rl_methods: tuple[Literal["sac", "ppo"], ...] = ("sac", "ppo")
    """Learners of torques to train and test, too."""
    rl_seeds: int = 2
    """Trainings of each of them; 0: leave them out."""
    rl_steps: int = 100_000
    """Environment steps of each of them."""
    work: Path = Path("runs/walker")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> WalkerStudy:
    """Train whatever is not in the work folder yet, and walk.

    Raises
    ------
    UserError
        A number is out of range, a training fails, or the run is not one of the walker's networks.
    """
    numbers = (options.seeds, options.repeats, options.pair_starts, options.timed, options.samples, options.watched)
    if min(numbers) < 1 or min(options.rl_seeds, options.rl_steps) < 0:
        raise UserError(
            "seeds, repeats, starts, samples and walks must be at least 1, and what concerns RL not less than 0"
        )
    conditions = Conditions.now(1)
    torch.set_num_threads(1)
    trainings = _trainings(options, on_progress)
    models = [_networks(run) for run in trainings]
    starts = _starts(options)
    controllers = _controllers(models, options, on_progress)
    walks = []
    for name, trained in controllers.items():
        for experiment, drawn in starts.items():
            if isinstance(trained[0], ReachingWalker) and experiment != ONE:
                continue
            walks.append(_walk(name, experiment, trained, drawn))
            on_progress(f"{name}, {experiment}: {walks[-1].reached.mean():.3f} reached")
    decisions = [_time(name, trained[0], starts[ONE], options.timed) for name, trained in controllers.items()]
    on_progress("decisions timed")
    trained = []
    for run, model in zip(trainings, models, strict=True):
        trained.append(_judge(run, model, starts[MANY], options))
        on_progress(f"seed {trained[-1].seed}: {trained[-1].regions.failures} of {options.samples} fall from inside")
    left_out = []
    if not options.table:
        left_out.append("reachability table: it was left out with --no-table")
    for method in ("sac", "ppo"):
        if method not in options.rl_methods or not options.rl_seeds:
            left_out.append(f"{method.upper()}: it was left out by --rl-methods or --rl-seeds")
    minutes = _rl_minutes(options)
    return WalkerStudy(
        name="walker",
        title="A compass walker that changes its gait",
        command=command_line("walker", options),
        walks=walks,
        decisions=decisions,
        trained=trained,
        slice=_slice(models[0]),
        conditions=conditions,
        settings={
            "seeds of the networks' trainings": ", ".join(str(one.seed) for one in trained),
            "gradient steps of each": ", ".join(str(run.info.config["total_steps"]) for run in trainings),
            "seeds of the starts": f"{ONE}: {EVALUATION_SEED} and following; {MANY}: {EVALUATION_SEED + 500}",
            "trainings of torques": f"{options.rl_seeds} each, {options.rl_steps} environment steps",
            "minutes they took": minutes,
            "planner": str(PlannerSettings()),
            **_table_settings(controllers),
            "alpha of the monitor": DECREASE,
        },
        left_out=tuple(left_out),
    )


def _trainings(options: Options, on_progress: Callable[[str], None]) -> list[Run]:
    from rlstab.runs.run import Run

    if options.run is not None:
        return [Run.open(options.run)]
    options.work.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(options.seeds):
        flags = {"env": TASK, "seed": seed}
        found.append(Run.open(runs.train(options.work / f"roa-seed{seed}", "roa", flags, f"networks, seed {seed}")))
        on_progress(f"networks, seed {seed}: trained")
    return found


def _networks(run: Run) -> WalkerModel:
    from rlstab.policies.roa.walker import WalkerModel

    module = load_policy(run, "last").module
    if not isinstance(module, WalkerModel):
        raise UserError(f"{run.path} holds no networks of the walker: give a run of rlstab train roa --env {TASK}")
    return module.eval()


def _starts(options: Options) -> dict[str, Starts]:
    parts = [draw_starts(np.random.default_rng(EVALUATION_SEED + part), 20) for part in range(options.repeats)]
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "source", "goal", "goal_q1"))
    pairs = draw_pairs(np.random.default_rng(EVALUATION_SEED + 500), options.pair_starts)
    return {ONE: Starts(*joined), MANY: pairs}


def _controllers(
    models: list[WalkerModel], options: Options, on_progress: Callable[[str], None]
) -> dict[str, list[Walking]]:
    """Each controller by its name, one for each training."""

    def planned(*planners: GaitPlanner) -> list[Walking]:
        return [PlannedGaits(planner) for planner in planners]

    plain, descent = PlannerSettings(bridge_gaits=0), PlannerSettings(refinement=Refinement(5, 0.002))
    # Its roll-outs are those of no evaluation.
    by_hand = OrbitDistance(models[0], np.random.default_rng(EVALUATION_SEED + 700))
    found: dict[str, list[Walking]] = {
        OURS: planned(*(RoaPlanner(model) for model in models)),
        f"{OURS}, descent": planned(*(RoaPlanner(model, descent) for model in models)),
        f"{OURS}, no bridges": planned(*(RoaPlanner(model, plain) for model in models)),
        "planner, orbit distance": planned(RoaPlanner(by_hand)),
        "planner, simulated": planned(RoaPlanner(SimulatedRegions())),
        "planner, simulated, no bridges": planned(RoaPlanner(SimulatedRegions(), plain)),
        RIVAL: planned(LookAhead()),
        "MPC, simulated": planned(SimulatedMpc()),
        "CLF-QP, goal at once": planned(GoalAtOnce()),
    }
    if options.table:
        goal = float(draw_starts(np.random.default_rng(0), 1).goal[0])
        found["reachability table"] = [ReachingWalker(goal)]
        on_progress("reachability table: made")
    for method in options.rl_methods:
        for seed in range(options.rl_seeds):
            flags = {"env": TASK, "seed": seed, "total_steps": options.rl_steps}
            run = runs.train(_rl_path(options, method, seed), method, flags, f"{method}, seed {seed}")
            found.setdefault(method.upper(), []).append(_learned(run))
            on_progress(f"{method}, seed {seed}: trained")
    return found


def _table_settings(controllers: dict[str, list[Walking]]) -> dict[str, str]:
    """How the reachability table was made, if it was."""
    for controller in (one for trained in controllers.values() for one in trained):
        if isinstance(controller, ReachingWalker):
            table = controller.table
            size = " x ".join(str(count) for count in table.grid.points)
            return {"reachability table": f"{size} states, {table.sweeps} sweeps, last change {table.change:.2g} s"}
    return {}


def _rl_minutes(options: Options) -> str:
    """How long trainings of torques took by the clock, in words."""
    from rlstab.runs.run import Run

    found = []
    for method in options.rl_methods:
        for seed in range(options.rl_seeds):
            run = Run.open(_rl_path(options, method, seed))
            found.append(f"{method.upper()} {_seconds(run) / 60.0:.1f}")
    return ", ".join(found) or "-"


def _rl_path(options: Options, method: str, seed: int) -> Path:
    return options.work / f"{method}-{options.rl_steps}-seed{seed}"


def _seconds(run: Run) -> float:
    """How long a run trained by the clock."""
    return float(run.read_metrics()["time/elapsed_s"].to_numpy()[-1])


def _learned(path: Path) -> LearnedTorque:
    from rlstab.runs.run import Run

    return LearnedTorque(load_policy(Run.open(path), "last"))


def _walk(name: str, experiment: str, trained: list[Walking], starts: Starts) -> Walks:
    found = [walk(controller, starts) for controller in trained]
    return Walks(
        name,
        experiment,
        *(
            np.stack([getattr(one, part) for one in found])
            for part in ("reached", "first_step", "lasting", "seconds", "error")
        ),
    )


def _time(name: str, controller: Walking, starts: Starts, count: int) -> Decisions:
    """Time decisions for one walker: at starts, and where those stand that do a step towards the goal."""
    rows = np.random.default_rng(0).permutation(len(starts.x))[:count]
    landed = swing(starts.x[rows], starts.goal[rows])
    on = landed.struck & landed.upright
    states = np.concatenate([starts.x[rows], landed.x[on]])
    goals = np.concatenate([starts.goal[rows], starts.goal[rows][on]])
    periods, controls = float(landed.periods[on].mean()) if on.any() else 1.0, np.zeros(0)
    if isinstance(controller, PlannedGaits):
        decide: Callable[[np.ndarray, np.ndarray], object] = controller.planner.plan
        controls = _clock(gait_torque, states, goals)
    elif isinstance(controller, ReachingWalker):
        decide, periods = (lambda x, goal: controller.decide(x)), float(HELD)
    else:
        decide, periods = cast(LearnedTorque, controller).torque, 1.0
    return Decisions(name, _clock(decide, states, goals), controls, periods)


def _clock(decide: Callable[[np.ndarray, np.ndarray], object], states: np.ndarray, goals: np.ndarray) -> np.ndarray:
    decide(states[:1], goals[:1])
    seconds = np.empty(len(states))
    for row in range(len(states)):
        begun = time.thread_time()
        decide(states[row : row + 1], goals[row : row + 1])
        seconds[row] = time.thread_time() - begun
    return seconds


def _judge(run: Run, model: WalkerModel, starts: Starts, options: Options) -> Trained:
    seed = run.info.seed
    rng = np.random.default_rng([EVALUATION_SEED + 900, seed])
    calibration = float(run.info.config["calibration"])
    said = state_regions(model, rng, samples=options.samples, alpha=DECREASE, calibration=calibration)
    planner = RoaPlanner(model)
    rows = rng.permutation(len(starts.x))[: options.watched]
    seen = [watch(planner, starts, int(row), DECREASE) for row in rows]
    modes = [mode for one in seen for mode in one.report.modes]
    dwells = [one.report.needed_dwell for one in seen if np.isfinite(one.report.jump)]
    monitored = Monitored(
        walks=len(seen),
        modes=len(modes),
        inside=sum(mode.inside for mode in modes),
        falling=sum(mode.first_rise is None for mode in modes),
        bridges=sum(one.bridges for one in seen),
        clean=sum(one.report.first_failure is None and not one.fell for one in seen),
        longest_needed_dwell=max(dwells, default=float("nan")),
    )
    return Trained(seed, _seconds(run), said, monitored)


def _slice(model: WalkerModel, gait: float = 0.13) -> Slice:
    centre = gait_states(np.array([gait]))[0]
    first = np.linspace(centre[2] - 0.75, centre[2] + 0.35, _SIDE)
    second = np.linspace(centre[3] - 1.0, centre[3] + 1.0, _SIDE)
    across, up = np.meshgrid(first, second)
    x = np.tile(centre, (_SIDE**2, 1))
    x[:, 2], x[:, 3] = across.ravel(), up.ravel()
    drawn = judge(x, np.full(len(x), gait))
    values = values_of(model, drawn).reshape(_SIDE, _SIDE)
    level = float(model.level(torch.tensor([[gait]]))[0])
    return Slice(gait, first, second, values, drawn.stable.reshape(_SIDE, _SIDE), level)
