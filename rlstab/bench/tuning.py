"""`rlstab bench tuning`: equally many settings of each memory on a task, before `rlstab bench memory` compares them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.analysis.bootstrap import FloatArray
from rlstab.analysis.result import Result, Scalar
from rlstab.bench import memory
from rlstab.bench.conditions import Conditions, command_line, markdown_table
from rlstab.bench.memory import FIRST_TUNING_SEED, LSTM, SIGMOID, SOFTMAX, TASKS
from rlstab.bench.study import Table, page_name
from rlstab.bench.trainings import collect, conditions_of
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEARNERS = (SIGMOID, SOFTMAX, LSTM)

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "rlstab/PassiveTMaze-v0": {"learning_rate": (1e-3, 3e-3), "ent_coef": (0.01, 0.03), "n_epochs": (4, 8)},
    "rlstab/RepeatPreviousEasy-v0": {"learning_rate": (1e-3, 3e-3, 1e-2), "ent_coef": (0.01, 0.03)},
}
"""Task to what is tried of each setting; every combination is."""


@dataclass(frozen=True)
class Options:
    """What to train."""

    env: str = "rlstab/PassiveTMaze-v0"
    """Task: one that has a grid of settings."""
    seeds: int = 2
    """Trainings of each learner with each setting, with seeds 100, 101, ..., which are not those of the comparison."""
    steps: int | None = None
    """Environment steps of each training. None: as the task needs."""
    points: int | None = None
    """How many settings of the grid are tried, the first ones. None: all. One with --seeds 1 --steps 2000 is a trial of
    the benchmark itself."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings that run at the same time, each on one core."""
    work: Path = Path("runs/tuning")
    """Folder that keeps one report a finished training; those of equal steps and hyper-parameters are used again."""


@dataclass(frozen=True, eq=False, repr=False)
class TuningResult(Result):
    """Returns of each learner with each setting."""

    kind: ClassVar[str] = "tuning"
    labels: ClassVar[tuple[str, ...]] = ("learner",)

    name: str
    title: str
    command: str
    env: str
    points: tuple[dict[str, Any], ...]
    """The settings."""
    returns: dict[str, FloatArray] = field(metadata={"unit": "return"})
    """Learner to ``(points, seeds)``: mean deterministic return of the final policy."""
    earned: dict[str, FloatArray] = field(metadata={"unit": "return"})
    """Learner to ``(points, seeds)``: mean return of all training episodes, which tells equal policies apart."""
    conditions: Conditions
    settings: dict[str, Any]

    def best(self, learner: str) -> int:
        """Index of the setting with the best mean return; among equals, of that which earned most in training."""
        score = zip(self.returns[learner].mean(1), self.earned[learner].mean(1), strict=True)
        return max(enumerate(score), key=lambda entry: entry[1])[0]

    def summary(self) -> dict[str, Scalar]:
        """Best setting of each learner."""
        return {f"best of {name}": _spell(self.points[self.best(name)]) for name in self.returns}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every training's return, setting by setting."""
        from rlstab.analysis import plots

        ax = ax if ax is not None else plots.new_axes()
        shifts = np.linspace(-0.2, 0.2, len(self.returns))
        rows = np.arange(len(self.points))
        for number, ((name, returns), shift) in enumerate(zip(self.returns.items(), shifts, strict=True)):
            ax.plot(returns, rows + shift, "o", color=f"C{number}", markersize=4)
            ax.plot(returns.mean(1), rows + shift, "|", color=f"C{number}", markersize=12, label=name)
        ax.set_yticks(rows, [_spell(point) for point in self.points], fontsize=7)
        ax.invert_yaxis()
        ax.set_xlabel("return (a dot a seed, a bar their mean)")
        return ax

    def figure(self, path: Path) -> Path:
        """Draw `plot` with a legend beside it."""
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=(8.0, 1.2 + 0.35 * len(self.points)), layout="constrained")
        self.plot(ax)
        figure.legend(loc="outside upper center", ncols=len(self.returns), fontsize=8)
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def tables(self) -> list[Table]:
        """Lay the numbers out as ``(title, columns, rows of text)``; the best setting of each learner is in bold."""
        digits = TASKS[self.env].digits
        chosen = {name: self.best(name) for name in self.returns}

        def cell(values: FloatArray, row: int, best: int) -> str:
            seeds = f" ({', '.join(f'{value:.{digits}f}' for value in values[row])})" if values.shape[1] > 1 else ""
            text = f"{values[row].mean():.{digits}f}{seeds}"
            return f"**{text}**" if best == row else text

        def rows(values: Mapping[str, FloatArray]) -> list[list[str]]:
            return [
                [_spell(point), *(cell(values[name], row, chosen[name]) for name in values)]
                for row, point in enumerate(self.points)
            ]

        columns = ["setting", *self.returns]
        return [
            ("Return of the final policy: mean, and that of each seed", columns, rows(self.returns)),
            ("Return of all training episodes", columns, rows(self.earned)),
        ]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", ABOUT.strip(), "", f"Made by `{self.command}`.", ""]
        lines += [*(f"* {name}: {value}." for name, value in self.summary().items()), ""]
        lines += [f"![Return of every training, setting by setting]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        seeds = next(iter(self.returns.values())).shape[1]
        return "\n".join([*lines, *self.conditions.section({**self.settings, "seeds": _spell_seeds(seeds)})])


ABOUT = """
What `rlstab bench memory` compares has been tuned here: the same settings for each memory, equally often, with seeds
that the comparison does not use. All else is as there. The best mean return of the final policy (20 deterministic
episodes a seed) is in bold; among equals, that which earned most in training.
"""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> TuningResult:
    """Run the trainings that are not in the work folder yet.

    Raises
    ------
    UserError
        A number is out of range, the task has no grid, or a training fails.
    """
    if min(options.seeds, *(1 if n is None else n for n in (options.steps, options.points)), options.jobs) < 1:
        raise UserError("seeds, steps, points and jobs must be at least 1")
    if options.env not in GRIDS:
        raise UserError(f"no grid of settings for {options.env}: choose from {', '.join(GRIDS)}")
    grid = GRIDS[options.env]
    points = tuple(dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    points = points[: options.points]
    steps = TASKS[options.env].steps if options.steps is None else options.steps
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + options.seeds)
    trainings = {
        (learner, row, seed): memory.training(learner, options.env, seed, steps, point, _report_name(learner, point))
        for seed in seeds
        for row, point in enumerate(points)
        for learner in LEARNERS
    }
    found = collect(trainings, options.work, options.jobs, on_progress)

    def table(value: Callable[[Mapping[str, Any]], float]) -> dict[str, FloatArray]:
        rows = range(len(points))
        return {
            name: np.array([[value(found[name, row, seed]) for seed in seeds] for row in rows]) for name in LEARNERS
        }

    return TuningResult(
        # A trial with some settings does not replace the page of all.
        name=page_name("tuning", (options.env,), ()) + ("" if options.points is None else "_part"),
        title=f"Settings for {options.env.removeprefix('rlstab/')}",
        command=command_line("tuning", options),
        env=options.env,
        points=points,
        returns=table(lambda report: float(np.mean(report["eval_returns"]))),
        earned=table(lambda report: float(np.mean([value for _, value in report["episodes"]]))),
        conditions=conditions_of(_by_learner(found), ours=SIGMOID),
        settings={"environment steps": steps, "seeds": ", ".join(map(str, seeds))},
    )


def _by_learner(found: Mapping[tuple[str, int, int], Any]) -> dict[str, Sequence[Any]]:
    return {name: [report for key, report in found.items() if key[0] == name] for name in LEARNERS}


def _report_name(learner: str, point: Mapping[str, Any]) -> str:
    return "_".join([learner.rpartition(" ")[2], *(f"{key}_{value:g}" for key, value in point.items())])


def _spell_seeds(count: int) -> str:
    if count == 1:
        return f"seed {FIRST_TUNING_SEED} (one training a setting)"
    return f"seeds {FIRST_TUNING_SEED} to {FIRST_TUNING_SEED + count - 1} ({count} trainings a setting)"


def _spell(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in point.items())
