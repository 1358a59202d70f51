"""`rlstab bench robustness`: which way of training holds when pushed, with equal steps for all."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.battery_report import BatteryReport, against
from rlstab.analysis.robustness.comparison import RobustnessComparison, compare
from rlstab.bench import runs
from rlstab.bench.conditions import Conditions, command_line, markdown_table
from rlstab.bench.study import Table, page_name
from rlstab.bench.trainings import finish_all
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HINF, RARL, RANDOM, RANDOMISED, PPO = "H-infinity", "adversary", "random forces", "randomisation", "PPO"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    HINF: ("hinf", {}),
    RARL: ("rarl", {}),
    RANDOM: ("random_force", {}),
    RANDOMISED: ("ppo", {"disturbances": "mass=0.7:1.3,friction=0.5:1.5,gain=0.85:1.15"}),
    PPO: ("ppo", {}),
}
"""Name in the table to method and what is set beside its preset."""

NOMINAL, CVAR = "nominal return", "CVaR10 over worlds"
CRITICAL, SURVIVED = "critical push, worst direction (m/s)", "pushes survived"
_LOSS = 0.9  # of PPO's nominal return must be left.


@dataclass(frozen=True)
class Options:
    """What to train and test."""

    env: str = "Hopper-v5"
    """Task: a robot that runs forward."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Methods, by their name in the table."""
    seeds: int = 5
    """Trainings of each, with seeds 0, 1, ..."""
    steps: int = 1_000_000
    """Environment steps of each training."""
    adversary_steps: int = 100_000
    """Steps of each of three adversaries, trained from scratch against each policy, at each force."""
    adversary_forces: tuple[float, ...] = (0.03, 0.075, 0.15)
    """Longest forces of the adversaries, in weights of the robot."""
    episodes: int = 5
    """Episodes in each changed world."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings and tests that run at the same time, each on one core."""
    work: Path = Path("runs/robustness")
    """Folder of the runs; those that are finished are used again, the others gone on with."""


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessStudy(Result):
    """Batteries of every method on one task."""

    kind: ClassVar[str] = "robustness_study"
    labels: ClassVar[tuple[str, ...]] = ("measure",)

    name: str
    title: str
    command: str
    comparison: RobustnessComparison
    conditions: Conditions
    settings: dict[str, Any]

    @property
    def _worst(self) -> list[str]:
        """Measures against adversaries."""
        first = next(iter(self.comparison.reports.values()))[0]
        return [against(part.max_force) for part in first.adversaries]

    @functools.cached_property
    def findings(self) -> dict[str, str]:
        """Say whether each part of the claim holds: better than each other method when disturbed, and little loss."""
        comparison = self.comparison
        methods = list(comparison.reports)
        pairs = itertools.combinations(methods, 2) if HINF not in methods else ((HINF, m) for m in methods if m != HINF)
        found: dict[str, str] = {}
        for better, other in pairs:
            for measure in (*self._worst, SURVIVED, CVAR):
                chance = comparison.improvement(better, other, measure)
                held = "yes" if chance.low > 0.5 else "no" if chance.high < 0.5 else "not shown"
                found[f"{measure}: {better} above {other}"] = (
                    f"{held} (probability {chance.probability:.2f} [{chance.low:.2f}, {chance.high:.2f}])"
                )
        if HINF in methods and PPO in methods:
            own, plain = comparison.interval(HINF, NOMINAL)[0], comparison.interval(PPO, NOMINAL)[0]
            share = own / plain
            found[f"nominal return of {HINF} at least {_LOSS:.0%} of that of {PPO}"] = (
                f"{'yes' if share >= _LOSS else 'no'} ({share:.0%})"
            )
        return found

    def summary(self) -> dict[str, Scalar]:
        """Whether the claims hold."""
        return dict(self.findings)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw survival of pushes."""
        return self.comparison.plot(ax)

    def figure(self, path: Path) -> Path:
        """Draw worlds, pushes and adversaries."""
        return self.comparison.figure(path)

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def tables(self) -> list[Table]:
        """Lay out every measure of every method, and the worst case of each training."""
        columns, rows = self.comparison.table()
        methods = list(self.comparison.reports)
        seeds = range(max(len(runs) for runs in self.comparison.reports.values()))
        each = [
            [f"{name}, {measure}", *(f"{value:.4g}" for value in self.comparison.values(name, measure))]
            for measure in (NOMINAL, *self._worst, SURVIVED, CRITICAL)
            for name in methods
        ]
        return [
            ("Interquartile mean over seeds, with 95 % interval", columns, rows),
            ("Each training", ["method, measure", *(f"seed {seed}" for seed in seeds)], each),
        ]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", ABOUT.strip(), "", f"Made by `{self.command}`.", ""]
        lines += [*(f"* {name}: {value}." for name, value in self.findings.items()), ""]
        lines += [
            f"![Returns in changed worlds, pushes survived, returns against adversaries]({self.name}.png)",
            "",
        ]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])


ABOUT = """
The last policy of every training, by the mode of its actions, in the battery of `rlstab robustness`: changed worlds,
pushes of 0.1 s from four sides at eight moments, and adversaries trained from scratch against each frozen policy: for
each longest force, PPO at three learning rates, of which the strongest counts. All methods have the same learner,
settings and number of environment steps; those that push do it up to 0.15 of the robot's weight, with a quarter of the
worlds undisturbed. *H-infinity*: a disturber that pays for its force, and a constraint. *Adversary*: a disturber that
does not pay, and no constraint (RARL-like). *Random forces*: of random direction, held for 25 control steps in the
mean. *Randomisation*: mass, friction and actuator strength drawn each episode. In the figure a bar or band is the range
over trainings.
"""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> RobustnessStudy:
    """Train and test whatever is not in the work folder yet.

    Raises
    ------
    UserError
        A number is out of range, a method is unknown, or a training or test fails.
    """
    if min(options.seeds, options.steps, options.jobs, options.adversary_steps, options.episodes) < 1:
        raise UserError("seeds, steps, jobs, adversary steps and episodes must be at least 1")
    unknown = sorted(set(options.methods) - set(METHODS))
    if unknown or not options.methods:
        raise UserError(f"no method {', '.join(unknown) or 'is given'}: choose from {', '.join(METHODS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    # Seed by seed: an unfinished study has something of every method.
    wanted = [(name, seed) for seed in range(options.seeds) for name in METHODS if name in options.methods]

    def finish(job: tuple[str, int]) -> BatteryReport:
        name, seed = job
        run = _train(options, name, seed)
        report = _test(options, run)
        worst = ", ".join(f"{part.returns.mean():.4g}" for part in report.adversaries)
        on_progress(f"{name}, seed {seed}: return {report.nominal_return:.4g}, against adversaries {worst}")
        return report

    found = dict(zip(wanted, finish_all(wanted, finish, options.jobs), strict=True))
    reports = {
        name: [found[name, seed] for seed in range(options.seeds)] for name in METHODS if name in options.methods
    }
    return RobustnessStudy(
        name=page_name("robustness", (options.env,), ()),
        title=f"What holds when pushed: {options.env}",
        command=command_line("robustness", options),
        comparison=compare(reports),
        conditions=Conditions.now(1),
        settings={
            "environment steps": options.steps,
            "seeds": options.seeds,
            "steps of each adversary": options.adversary_steps,
            "episodes in each world": options.episodes,
            **{name: _spell(*METHODS[name]) for name in reports},
        },
    )


def _train(options: Options, name: str, seed: int) -> Path:
    """Make the run of a method, or go on with it."""
    method, settings = METHODS[name]
    label = "".join(letter if letter.isalnum() else "_" for letter in name)
    path = options.work / f"{options.env.replace('/', '-')}-{label}-{options.steps}-seed{seed}"
    flags = {"env": options.env, "seed": seed, "total_steps": options.steps} | settings
    return runs.train(path, method, flags, f"{name}, seed {seed}")


def _test(options: Options, run: Path) -> BatteryReport:
    """Put a run through the battery, with adversaries."""
    steps, episodes = str(options.adversary_steps), str(options.episodes)
    forces = ("--adversary-forces", *(f"{force:g}" for force in options.adversary_forces))
    attacks = ("--attacks", "adversary", "--adversary-steps", steps, *forces)
    return runs.battery(run, (*attacks, "--episodes", episodes, "--processes", "1"))


def _spell(method: str, settings: Mapping[str, Any]) -> str:
    return " ".join([f"rlstab train {method}", *(f"--{key} {value}" for key, value in settings.items())])
