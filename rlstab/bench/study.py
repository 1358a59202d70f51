"""Returns of trainings over tasks, learners and seeds: what the studies of learning have in common."""

from __future__ import annotations

import functools
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.analysis.curves import LearningCurve, learning_curve
from rlstab.analysis.result import Result
from rlstab.analysis.stats import aggregate
from rlstab.bench.conditions import Conditions, markdown_table
from rlstab.bench.reports import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = tuple[str, list[str], list[list[str]]]
"""Title, columns, rows of text."""


@dataclass(frozen=True, eq=False, repr=False)
class Study(Result):
    """Returns and learning curves of each learner on each task."""

    labels: ClassVar[tuple[str, ...]] = ("task",)
    about: ClassVar[str]
    """What was done, in Markdown."""

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

    def description(self) -> str:
        """Say what was done, in Markdown."""
        return self.about.strip()

    @abstractmethod
    def verdict(self) -> str:
        """One sentence: what came out."""

    @abstractmethod
    def comparison(self) -> Table:
        """Lay out what the study is made for, a row a task."""

    def interval(self, env: str, learner: str) -> tuple[float, float, float]:
        """Mean over seeds with its 95 % interval."""
        return _mean_interval(tuple(self.returns[env][learner]))

    def interval_text(self, env: str, learner: str) -> str:
        """Spell the mean with its interval, which a single seed lacks."""
        mean, low, high = self.interval(env, learner)
        return f"{mean:.0f} [{low:.0f}, {high:.0f}]" if np.isfinite([low, high]).all() else f"{mean:.0f}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the learning curves of the first task."""
        from rlstab.analysis import plots

        env = self.envs[0]
        return plots.learning_curves(list(self.curves[env].values()), ax)

    def figure(self, path: Path) -> Path:
        """Draw the learning curves of all tasks side by side."""
        import matplotlib.pyplot as plt

        from rlstab.analysis import plots

        figure, axes = plt.subplots(
            1, len(self.envs), figsize=(max(5.0, 3.4 * len(self.envs)), 3.1), squeeze=False, layout="constrained"
        )
        for ax, env in zip(axes[0], self.envs, strict=True):
            plots.learning_curves(list(self.curves[env].values()), ax)
            ax.set_title(env, fontsize=9)
            ax.get_legend().remove()
        # Learners are the same everywhere: one legend for all.
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * len(self.envs), fontsize=8
        )
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def tables(self) -> list[Table]:
        """Lay the numbers out as ``(title, columns, rows of text)``."""
        per_seed = [
            [env, learner, *(f"{value:.0f}" for value in self.returns[env][learner])]
            for env in self.envs
            for learner in self.learners
        ]
        seeds = [f"seed {seed}" for seed in range(len(per_seed[0]) - 2)]
        return [self.comparison(), ("Return of each seed", ["task", "learner", *seeds], per_seed)]

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", self.description(), "", f"Made by `{self.command}`.", ""]
        lines += [f"**{self.verdict()}**", ""]
        lines += [f"![Training return against environment steps, for each task and learner]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])


def mean_returns(reports: Sequence[Report]) -> list[float]:
    """Mean deterministic return of each training."""
    return [float(np.mean(report["eval_returns"])) for report in reports]


def training_curve(reports: Sequence[Report], label: str) -> LearningCurve:
    """Training return of several seeds: the mean of the last hundred episodes, at each episode's end."""
    return learning_curve([_smoothed(report) for report in reports], label=label, points=60)


def page_name(stem: str, envs: Sequence[str], every: Sequence[str]) -> str:
    """Name of a study's page: one of some of the tasks does not replace that of all."""
    if tuple(envs) == tuple(every):
        return stem
    return "_".join([stem, *(re.sub(r"[^0-9a-z]+", "_", env.removeprefix("rlstab/").lower()) for env in envs)])


def by_task(
    envs: Sequence[str], learners: Sequence[str], reports: Mapping[tuple[str, str], Sequence[Report]]
) -> dict[str, Any]:
    """Arrange reports, found under ``(env, learner)``, as the fields ``returns`` and ``curves`` of a `Study`."""
    return {
        "returns": {env: {name: mean_returns(reports[env, name]) for name in learners} for env in envs},
        "curves": {env: {name: training_curve(reports[env, name], name) for name in learners} for env in envs},
    }


@functools.lru_cache(maxsize=256)
def _mean_interval(returns: tuple[float, ...]) -> tuple[float, float, float]:
    # A page asks for the same interval several times, and resampling takes a while.
    return aggregate(returns).get("mean")


def _smoothed(report: Report) -> tuple[np.ndarray, np.ndarray]:
    steps, returns = np.array(report["episodes"]).T
    window = min(100, len(returns))
    means = np.convolve(returns, np.full(window, 1.0 / window), mode="valid")
    return steps[window - 1 :], means
