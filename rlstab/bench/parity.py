"""`rlstab bench parity`: whether our PPO learns as well as Stable-Baselines3's with the same hyper-parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.analysis.curves import LearningCurve, learning_curve
from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.stats import aggregate
from rlstab.bench.common import Conditions, markdown_table, usable_cores
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MODULES = {"rlstab": "rlstab.bench.rlstab_ppo", "SB3": "rlstab.bench.sb3_ppo"}
# Mean and spread of deterministic returns after one million steps (one training each), RL Baselines3 Zoo, v3 tasks,
# tuned hyper-parameters; and of training returns after eight million steps, CleanRL, v4 tasks.
PUBLISHED = {
    "Hopper-v5": ("2410 +- 10", "2741 +- 269"),
    "Walker2d-v5": ("3479 +- 822", "2873 +- 691"),
    "HalfCheetah-v5": ("5819 +- 664", "2637 +- 1068"),
    "Ant-v5": ("1327 +- 452", "1824 +- 906"),
}

ABOUT = """
Return of PPO after training with identical hyper-parameters (below) for equally many environment steps, one line a
training seed. *Return* is the mean of 20 deterministic episodes of the final policy; intervals are 95 % percentile
bootstraps over seeds by rliable. rlstab trains on its own batched tasks, SB3 on gymnasium's.
"""


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
    """Folder that keeps one file a finished training; those found there are not run again."""


@dataclass(frozen=True, eq=False, repr=False)
class ParityResult(Result):
    """Returns and learning curves of each learner on each task."""

    kind: ClassVar[str] = "parity"
    labels: ClassVar[tuple[str, ...]] = ("task",)

    name: str
    title: str
    command: str
    envs: tuple[str, ...]
    learners: tuple[str, ...]
    returns: dict[str, dict[str, list[float]]]
    """Task to learner to the mean deterministic return of each seed."""
    curves: dict[str, dict[str, LearningCurve]]
    """Task to learner to training return (mean of the last 100 episodes) against steps."""
    conditions: Conditions
    settings: dict[str, Any]

    def interval(self, env: str, learner: str) -> tuple[float, float, float]:
        """Mean over seeds with its 95 % interval."""
        return aggregate(self.returns[env][learner]).get("mean")

    def overlap(self, env: str) -> bool:
        """Whether our interval overlaps SB3's or lies above it."""
        return self.interval(env, "rlstab")[2] >= self.interval(env, "SB3")[1]

    def summary(self) -> dict[str, Scalar]:
        """Tasks on which our interval overlaps SB3's or is better."""
        held = [env for env in self.envs if self.overlap(env)]
        return {"tasks": len(self.envs), "overlapping or better": len(held), "on": ", ".join(held)}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the learning curves of the first task."""
        from rlstab.analysis import plots

        env = self.envs[0]
        return plots.learning_curves(list(self.curves[env].values()), ax)

    def figure(self, path: Path) -> Path:
        """Draw the learning curves of all tasks side by side."""
        import matplotlib.pyplot as plt

        from rlstab.analysis import plots

        figure, axes = plt.subplots(1, len(self.envs), figsize=(3.4 * len(self.envs), 2.7), squeeze=False)
        for ax, env in zip(axes[0], self.envs, strict=True):
            plots.learning_curves(list(self.curves[env].values()), ax)
            ax.set_title(env, fontsize=9)
        figure.tight_layout()
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Lay the numbers out as ``(title, columns, rows of text)``."""
        rows = []
        for env in self.envs:
            cells = []
            for learner in self.learners:
                mean, low, high = self.interval(env, learner)
                cells.append(f"{mean:.0f} [{low:.0f}, {high:.0f}]")
            rows.append([env, *cells, *PUBLISHED.get(env, ("-", "-"))])
        columns = ["task", *self.learners, "published: zoo, 1 M", "published: CleanRL, 8 M"]
        per_seed = [
            [env, learner, *(f"{value:.0f}" for value in self.returns[env][learner])]
            for env in self.envs
            for learner in self.learners
        ]
        seeds = [f"seed {seed}" for seed in range(len(per_seed[0]) - 2)]
        return [
            ("Mean return over seeds, with 95 % interval", columns, rows),
            ("Return of each seed", ["task", "learner", *seeds], per_seed),
        ]

    def missing(self) -> list[str]:
        """Nothing: a parity study is whole or not made."""
        return []

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", ABOUT.strip(), "", f"Made by `{self.command}`.", ""]
        lines += [f"**Our interval overlaps SB3's or lies above it on {self.summary()['on'] or 'no task'}.**", ""]
        lines += [f"![Training return against environment steps, for each task and learner]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        where = self.conditions
        facts = {
            "date": where.date,
            "processor": f"{where.machine.get('processor')}, {where.machine.get('cores')} cores usable",
            "commit": where.git.get("commit", "unknown")[:12],
            **self.settings,
        }
        lines += ["## Conditions", "", *markdown_table(["what", "value"], [[k, str(v)] for k, v in facts.items()]), ""]
        return "\n".join(lines)


def measure(options: Options, on_progress: Callable[[str], None] = print) -> ParityResult:
    """Run the trainings that are not in the work folder yet, and compare.

    Raises
    ------
    UserError
        A number is out of range, or a training fails.
    """
    if min(options.seeds, options.steps, options.jobs) < 1:
        raise UserError("seeds, steps and jobs must be at least 1")
    options.work.mkdir(parents=True, exist_ok=True)
    jobs = [(env, name, seed) for seed in range(options.seeds) for env in options.envs for name in _MODULES]

    def finish(job: tuple[str, str, int]) -> dict[str, Any]:
        report = _train(*job, options)
        on_progress(f"{job[1]} on {job[0]}, seed {job[2]}: return {np.mean(report['eval_returns']):.0f}")
        return report

    with ThreadPoolExecutor(options.jobs) as pool:
        reports = dict(zip(jobs, pool.map(finish, jobs), strict=True))
    seeds = range(options.seeds)
    return ParityResult(
        name="ppo_parity",
        title="PPO against Stable-Baselines3's, same hyper-parameters",
        command="rlstab bench parity --docs",
        envs=options.envs,
        learners=tuple(_MODULES),
        returns={
            env: {
                name: [float(np.mean(reports[env, name, seed]["eval_returns"])) for seed in seeds] for name in _MODULES
            }
            for env in options.envs
        },
        curves={
            env: {
                name: learning_curve(
                    [_training_curve(reports[env, name, seed]) for seed in seeds], label=name, points=60
                )
                for name in _MODULES
            }
            for env in options.envs
        },
        conditions=Conditions.now(1),
        settings={"environment steps": options.steps, "seeds": options.seeds, **PARITY_HYPERPARAMETERS},
    )


def _train(env: str, learner: str, seed: int, options: Options) -> dict[str, Any]:
    path = options.work / f"{learner.lower()}-{env}-{seed}.json"
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"hyperparameters": PARITY_HYPERPARAMETERS}
        if report["total_steps"] >= options.steps and wanted.items() <= report.items():
            return report
    command = [
        *(sys.executable, "-m", _MODULES[learner], "--env", env, "--seed", str(seed)),
        *("--steps", str(options.steps), "--out", str(options.work)),
    ]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"{learner} on {env}, seed {seed} failed: {reason}")
    return json.loads(path.read_text(encoding="utf-8"))


def _training_curve(report: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the last hundred episodes at each episode's end."""
    steps, returns = np.array(report["episodes"]).T
    window = min(100, len(returns))
    means = np.convolve(returns, np.full(window, 1.0 / window), mode="valid")
    return steps[window - 1 :], means
