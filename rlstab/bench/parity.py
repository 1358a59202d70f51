"""`rlstab bench parity`: whether our PPO learns as well as Stable-Baselines3's with the same hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rlstab.analysis.result import Scalar
from rlstab.bench import published, rlstab_ppo, sb3_ppo
from rlstab.bench.conditions import command_line
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.bench.study import Study, Table, by_task, page_name
from rlstab.bench.trainings import Training, collect, conditions_of
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

OURS, THEIRS = "rlstab", "SB3"
LEARNERS = (OURS, THEIRS)


@dataclass(frozen=True)
class Options:
    """What to train."""

    envs: tuple[str, ...] = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5")
    """Tasks."""
    seeds: int = 5
    """Trainings of each learner on each task, with seeds 0, 1, ..."""
    steps: int = 1_000_000
    """Environment steps of each training."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings that run at the same time, each on one core."""
    work: Path = Path("runs/parity")
    """Folder that keeps one report a finished training; those of equal steps and hyper-parameters are used again."""


@dataclass(frozen=True, eq=False, repr=False)
class ParityResult(Study):
    """Returns of both learners with the same hyper-parameters."""

    kind: ClassVar[str] = "parity"
    about: ClassVar[str] = f"""
Return of PPO after training with identical hyper-parameters (below) for equally many environment steps. *Return* is the
mean of 20 deterministic episodes of the final policy; intervals are 95 % percentile bootstraps over seeds by rliable.
rlstab trains on its own batched tasks, SB3 on gymnasium's. Published returns, of tuned hyper-parameters, are for
orientation.{published.ABOUT}"""

    def overlap(self, env: str) -> bool:
        """Whether our interval overlaps SB3's or lies above it."""
        return self.interval(env, OURS)[2] >= self.interval(env, THEIRS)[1]

    def summary(self) -> dict[str, Scalar]:
        """Tasks on which our interval overlaps SB3's or is better."""
        held = [env for env in self.envs if self.overlap(env)]
        return {"tasks": len(self.envs), "overlapping or better": len(held), "on": ", ".join(held)}

    def verdict(self) -> str:
        """Name the tasks on which we are as good."""
        return f"Our interval overlaps SB3's or lies above it on {self.summary()['on'] or 'no task'}."

    def comparison(self) -> Table:
        """Lay out both intervals and the published numbers."""
        sources = (published.ZOO, published.CLEANRL)
        rows = []
        for env in self.envs:
            others = published.PUBLISHED.get(env, {})
            cells = [self.interval_text(env, learner) for learner in self.learners]
            rows.append([env, *cells, *(str(others.get(source, "-")) for source in sources)])
        columns = ["task", *self.learners, *(f"published: {source}" for source in sources)]
        return "Mean return over seeds, with 95 % interval", columns, rows


def measure(options: Options, on_progress: Callable[[str], None] = print) -> ParityResult:
    """Run the trainings that are not in the work folder yet, and compare.

    Raises
    ------
    UserError
        A number is out of range, or a training fails.
    """
    if min(options.seeds, options.steps, options.jobs) < 1 or not options.envs:
        raise UserError("seeds, steps and jobs must be at least 1, and there must be a task")
    seeds = range(options.seeds)
    # Seed by seed: an unfinished study has something of every task.
    trainings = {
        (env, name, seed): _training(name, env, seed, options.steps)
        for seed in seeds
        for env in options.envs
        for name in LEARNERS
    }
    found = collect(trainings, options.work, options.jobs, on_progress)
    reports = {(env, name): [found[env, name, seed] for seed in seeds] for env in options.envs for name in LEARNERS}
    return ParityResult(
        name=page_name("ppo_parity", options.envs, Options.envs),
        title="PPO against Stable-Baselines3's, same hyper-parameters",
        command=command_line("parity", options),
        envs=options.envs,
        learners=LEARNERS,
        **by_task(options.envs, LEARNERS, reports),
        conditions=conditions_of(
            {name: [report for env in options.envs for report in reports[env, name]] for name in LEARNERS}, ours=OURS
        ),
        settings={"environment steps": options.steps, "seeds": options.seeds, **PARITY_HYPERPARAMETERS},
    )


def _training(name: str, env: str, seed: int, steps: int) -> Training:
    if name == OURS:
        hyper = rlstab_ppo.hyperparameters(rlstab_ppo.parity_config(env, seed, steps))
        return Training("rlstab", rlstab_ppo.__name__, env, seed, steps, hyper)
    return Training("sb3", sb3_ppo.__name__, env, seed, steps, PARITY_HYPERPARAMETERS)
