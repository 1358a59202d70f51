"""`rlstab bench presets`: whether PPO with its presets reaches the returns that others have published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rlstab.analysis.result import Scalar
from rlstab.bench import published, rlstab_ppo
from rlstab.bench.conditions import command_line
from rlstab.bench.study import Study, Table, by_task
from rlstab.bench.trainings import Training, collect, conditions_of
from rlstab.controllers.registry import load_preset
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

OURS = "rlstab"


@dataclass(frozen=True)
class Options:
    """What to train."""

    envs: tuple[str, ...] = tuple(published.PUBLISHED)
    """Tasks, of which there must be published returns."""
    seeds: int = 5
    """Trainings on each task, with seeds 0, 1, ..."""
    steps: int = 1_000_000
    """Environment steps of each training, whatever the preset's own length."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings that run at the same time, each on one core."""
    work: Path = Path("runs/presets")
    """Folder that keeps one report a finished training; those of equal steps and hyper-parameters are used again."""


@dataclass(frozen=True, eq=False, repr=False)
class PresetsResult(Study):
    """Returns with the presets."""

    kind: ClassVar[str] = "presets"
    about: ClassVar[str] = f"""
Return of `rlstab train ppo` with its preset for each task (below: what it changes of the defaults), for equally many
environment steps, against published returns. *Return* is the mean of 20 deterministic episodes of the final policy;
intervals are 95 % percentile bootstraps over seeds by rliable. A published mean counts as reached if ours is no more
than 15 % below it.{published.ABOUT}"""

    def reached(self, env: str, source: str) -> bool:
        """Whether our mean is within 15 % of a published one, or better."""
        return published.PUBLISHED[env][source].reached_by(self.interval(env, OURS)[0])

    def summary(self) -> dict[str, Scalar]:
        """Tasks on which the published returns are reached."""
        facts: dict[str, Scalar] = {"tasks": len(self.envs)}
        for source in (published.ZOO, published.CLEANRL):
            facts[f"within 15 % of {source}, or better"] = ", ".join(
                env for env in self.envs if self.reached(env, source)
            )
        return facts

    def verdict(self) -> str:
        """Name the tasks on which each source is reached."""
        parts = []
        for source in (published.ZOO, published.CLEANRL):
            held = [env for env in self.envs if self.reached(env, source)]
            where = f"on {', '.join(held)}" if held else "on no task"
            parts.append(f"{source}: {where} ({len(held)} of {len(self.envs)})")
        return f"Within 15 % of the published mean or better, {'; '.join(parts)}."

    def comparison(self) -> Table:
        """Lay out our interval, each published return, the ratio of the means and whether it is reached."""
        sources = (published.ZOO, published.CLEANRL)
        rows = []
        for env in self.envs:
            row = [env, self.interval_text(env, OURS)]
            for source in sources:
                other = published.PUBLISHED[env][source]
                ratio = self.interval(env, OURS)[0] / other.mean
                row += [str(other), f"{ratio:.2f}", "yes" if self.reached(env, source) else "no"]
            rows.append(row)
        columns = ["task", OURS]
        for source in sources:
            columns += [f"published: {source}", "ratio", "within 15 % or better"]
        return "Mean return over seeds, with 95 % interval", columns, rows


def measure(options: Options, on_progress: Callable[[str], None] = print) -> PresetsResult:
    """Run the trainings that are not in the work folder yet, and compare.

    Raises
    ------
    UserError
        A number is out of range, a task has no published return, or a training fails.
    """
    if min(options.seeds, options.steps, options.jobs) < 1 or not options.envs:
        raise UserError("seeds, steps and jobs must be at least 1, and there must be a task")
    for env in options.envs:
        if env not in published.PUBLISHED:
            raise UserError(f"no published return of {env} is known: choose from {', '.join(published.PUBLISHED)}")
    seeds = range(options.seeds)
    # Seed by seed: an unfinished study has something of every task.
    trainings = {(env, seed): _training(env, seed, options.steps) for seed in seeds for env in options.envs}
    found = collect(trainings, options.work, options.jobs, on_progress)
    reports = {(env, OURS): [found[env, seed] for seed in seeds] for env in options.envs}
    return PresetsResult(
        name="ppo_presets",
        title="PPO with its presets, against published returns",
        command=command_line("presets", options),
        envs=options.envs,
        learners=(OURS,),
        **by_task(options.envs, (OURS,), reports),
        conditions=conditions_of({OURS: [report for several in reports.values() for report in several]}, ours=OURS),
        settings={
            "environment steps": options.steps,
            "seeds": options.seeds,
            **{f"preset of {env}": _describe_preset(env) for env in options.envs},
        },
    )


def _training(env: str, seed: int, steps: int) -> Training:
    hyper = rlstab_ppo.hyperparameters(rlstab_ppo.preset_config(env, seed, steps))
    return Training("preset", rlstab_ppo.__name__, env, seed, steps, hyper, arguments=("--preset",))


def _describe_preset(env: str) -> str:
    values = {name: value for name, value in load_preset("ppo", env).values.items() if name != "total_steps"}
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the defaults"
