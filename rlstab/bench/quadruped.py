"""`rlstab bench quadruped`: how well a quadruped trained with its preset follows commands, and what makes it fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rlstab.analysis.robustness.battery_report import BatteryReport
from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line, describe_commit
from rlstab.bench.quadruped_result import QuadrupedStudy, Trained
from rlstab.bench.tracking import TASK, TrackingReport, measure_tracking
from rlstab.controllers.registry import load_preset
from rlstab.controllers.runs import configure
from rlstab.errors import UserError
from rlstab.runs.config import to_json
from rlstab.runs.provenance import usable_cores
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.runs.run import Run

_CHECKPOINTS = 10
_NOT_LEARNING = {"num_threads", "checkpoint_every", "keep", "device"}


@dataclass(frozen=True)
class Options:
    """What to train and test."""

    seeds: int = 1
    """Trainings, with seeds 0, 1, ..."""
    steps: int = 4_000_000
    """Environment steps of each training. The learning rate falls to zero over them."""
    episodes: int = 64
    """Episodes of 20 s in which each checkpoint's tracking is measured."""
    battery_episodes: int = 5
    """Episodes in each changed world of the battery."""
    threads: int = field(default_factory=usable_cores)
    """Threads that step the worlds of a training, and processes of a battery."""
    work: Path = Path("runs/quadruped")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> QuadrupedStudy:
    """Train and test whatever is not in the work folder yet.

    Raises
    ------
    UserError
        A number is out of range, a training or test fails, or a run in the work folder was trained with other settings.
    """
    numbers = (options.seeds, options.steps, options.episodes, options.battery_episodes, options.threads)
    if min(numbers) < 1:
        raise UserError("seeds, steps, episodes and threads must be at least 1")
    options.work.mkdir(parents=True, exist_ok=True)
    from rlstab.runs.run import Run

    found, described = [], []
    for seed in range(options.seeds):
        load = None if _path(options, seed).exists() else Conditions.now(options.threads).load
        run = Run.open(_train(options, seed))
        _check_settings(run, options, seed)
        on_progress(f"seed {seed}: trained")
        battery = _test(options, run)
        on_progress(f"seed {seed}: battery done")
        trained = Trained(seed, _minutes(run), _track(run, options), battery)
        found.append(trained)
        on_progress(f"seed {seed}: {trained.last.share:.0%} of the tracking reward, {trained.last.fell.sum()} falls")
        described.append(_conditions(run, options.threads, load))
    standing = measure_tracking(None, 0, episodes=options.episodes, seed=EVALUATION_SEED, num_threads=options.threads)
    preset = load_preset("ppo", TASK).values
    return QuadrupedStudy(
        name="quadruped",
        title="A quadruped that follows commands",
        command=command_line("quadruped", options),
        trained=found,
        standing=standing,
        conditions=described[0],
        settings={
            "environment steps": options.steps,
            "seeds of the trainings": options.seeds,
            "episodes of each checkpoint": f"{options.episodes}, seed {EVALUATION_SEED}",
            "episodes in each world of the battery": f"{options.battery_episodes}, seed {found[0].battery.seed}",
            "preset": ", ".join(f"{name} {value}" for name, value in preset.items() if name != "total_steps"),
        },
    )


def _path(options: Options, seed: int) -> Path:
    return options.work / f"{TASK.partition('/')[2]}-{options.steps}-seed{seed}"


def _train(options: Options, seed: int) -> Path:
    """Make a run, or go on with it."""
    often = max(1, options.steps // _CHECKPOINTS)
    flags = {"env": TASK, "seed": seed, "total_steps": options.steps, "checkpoint_every": often, "keep": 100}
    return runs.train(_path(options, seed), "ppo", flags, f"seed {seed}", options.threads)


def _check_settings(run: Run, options: Options, seed: int) -> None:
    """Refuse a run of other settings, such as those of an earlier preset."""
    wanted = to_json(configure("ppo", TASK, seed=seed, total_steps=options.steps))
    config = run.info.config
    differing = [name for name in wanted if name not in _NOT_LEARNING and config.get(name) != wanted[name]]
    if differing:
        raise UserError(f"{run.path} was trained with other settings ({', '.join(differing)}): give another --work")


def _test(options: Options, run: Run) -> BatteryReport:
    episodes, processes = str(options.battery_episodes), str(options.threads)
    return runs.battery(run.path, ("--episodes", episodes, "--processes", processes))


def _track(run: Run, options: Options) -> list[TrackingReport]:
    """Tracking of every checkpoint that is kept."""
    from rlstab.policies.loading import load_policy

    return [
        measure_tracking(
            load_policy(run, step),
            step,
            episodes=options.episodes,
            seed=EVALUATION_SEED,
            num_threads=options.threads,
            env_kwargs=run.info.config["env_kwargs"],
        )
        for step in run.checkpoints.steps()
    ]


def _minutes(run: Run) -> float:
    """How long a run trained by the clock, all its parts together."""
    elapsed = run.read_metrics()["time/elapsed_s"].to_numpy()
    return float(elapsed[-1]) / 60.0


def _conditions(run: Run, threads: int, load: float | None) -> Conditions:
    """Those of a training, which may have been long before now, and then nobody knows the load."""
    info = run.info
    return Conditions(
        machine=info.machine,
        threads=threads,
        load=load,
        versions={"rlstab": info.versions},
        git=info.git,
        date=info.created[:10],
        commits=(describe_commit(info.git),),
    )
