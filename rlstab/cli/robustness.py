"""`rlstab robustness RUN...`: what makes policies fail, with equal budgets for all, in one table and one figure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from rlstab.cli.console import note, only_results_on_stdout, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.cli.subjects import Subject, load_subject
from rlstab.errors import UserError, command
from rlstab.runs.provenance import usable_cores
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.analysis.robustness.battery import BatteryConfig
    from rlstab.analysis.robustness.battery_report import BatteryReport
    from rlstab.analysis.robustness.comparison import RobustnessComparison

AttackName = Literal["adversary", "gain", "observation"]

# What differs between trainings of one method without making them another one.
_NOT_THE_METHOD = {
    *("seed", "num_threads", "worker_processes", "device", "checkpoint_every", "keep", "env", "env_kwargs"),
    "max_episode_steps",
}


@dataclass(frozen=True)
class RobustnessOptions:
    """Put policies through a battery: changed worlds, pushes, and on demand searched gains and learned adversaries.

    Nothing it finds is a proof: the table says what was tried and how long. Parts that are done are kept, so a command
    that was stopped goes on where it was. Of a run, the report is kept in RUN/evaluations, and drawn in RUN/figures.
    """

    policies: Positional[tuple[Path, ...]]
    """Runs, exported .onnx files, or Stable-Baselines3 .zip files (these with --allow-pickle), of one native
    environment. Several are compared: trainings that differ in their seed alone count as one method."""

    battery: Literal["quick", "full"] = "quick"
    """quick: minutes a policy; full: the grids of the literature, an hour or more."""

    attacks: tuple[AttackName, ...] = ()
    """adversary: forces that PPO learns against the frozen policy, from scratch; gain: the largest answer to forces of
    equal energy; observation: changes of what the policy sees, by chance and along gradients of its network."""

    episodes: int = field(default=5, metadata={"min": 1})
    """Episodes in each changed world."""

    seed: int = field(default=EVALUATION_SEED, metadata={"min": 0})
    """Base seed of the episodes; far from the seeds training usually has."""

    adversary_steps: int = field(default=100_000, metadata={"min": 1, "unit": "environment steps"})
    """Steps that each adversary is trained for: a tenth to a fifth of what the policy had."""

    adversary_seeds: int = field(default=1, metadata={"min": 1})
    """Adversaries at each of three learning rates; the strongest of all counts."""

    adversary_forces: tuple[float, ...] = (0.15,)
    """Longest forces of the adversaries, in weights of the robot; for each, adversaries of their own are trained."""

    body: str = ""
    """Body that is pushed. Empty: the one that suits the robot."""

    speed: float | None = field(default=None, metadata={"above": 0.0, "unit": "m/s"})
    """Speed at which a robot does its task. None: by the robot."""

    env: str | None = None
    """Environment. None: that of training; .zip files do not name theirs."""

    checkpoint: str = "last"
    """Which checkpoint of a run: last, best (by training return), or a step number."""

    processes: int = field(default_factory=usable_cores, metadata={"min": 1, "max": 1024})
    """Processes that share the work."""

    out: Path | None = None
    """Folder for the comparison of several policies: robustness.json and robustness.png. None: it is only printed."""

    allow_pickle: bool = False
    """Read .zip files: they hold pickles, which run whatever code their author put in, with your rights."""

    json: bool = False
    """Print one JSON document instead of tables."""


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(RobustnessOptions, argv, "robustness")
    if not options.policies:
        usage = command("robustness", "RUN")
        raise UserError(f"which policy? {usage}, where RUN is a folder that rlstab train made; or several of them")
    from rlstab.analysis.robustness.comparison import compare
    from rlstab.runs.store import which_checkpoint

    which = which_checkpoint(options.checkpoint)
    config = _config(options)
    with only_results_on_stdout(options.json):
        # All are loaded first: a mistake in the last name must not cost the battery of the others.
        subjects = [
            load_subject(path, which, env=options.env, allow_pickle=options.allow_pickle) for path in options.policies
        ]
        _check(subjects, options)
        tested = [_test(subject, options, config) for subject in subjects]
        reports = [report for report, _ in tested]
        grouped: dict[str, list[BatteryReport]] = {}
        for label, report in zip(labels(subjects), reports, strict=True):
            grouped.setdefault(label, []).append(report)
        comparison = compare(grouped)
        files = _keep(comparison, options)
    _show(subjects, tested, comparison, files, options.json)
    return 0


def labels(subjects: Sequence[Subject]) -> list[str]:
    """Name what each policy was trained by: the method, with the settings in which trainings of it differ."""
    configs = [{} if subject.run is None else _of_method(subject.run.info.config) for subject in subjects]
    found = []
    for subject, config in zip(subjects, configs, strict=True):
        peers = [other for s, other in zip(subjects, configs, strict=True) if s.method == subject.method]
        differing = [key for key in config if any(peer.get(key) != config[key] for peer in peers)]
        settings = " ".join(f"{key}={config[key]}" for key in differing)
        name = subject.method if subject.run is not None else f"{subject.method} {subject.path.stem}"
        found.append(f"{name} {settings}".strip())
    return found


def _of_method(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_THE_METHOD}


def _config(options: RobustnessOptions) -> BatteryConfig:
    from rlstab.analysis.robustness.battery import BatteryConfig

    return BatteryConfig(
        level=options.battery,
        episodes=options.episodes,
        seed=options.seed,
        gain="gain" in options.attacks,
        observations="observation" in options.attacks,
        adversary_steps=options.adversary_steps if "adversary" in options.attacks else 0,
        adversary_seeds=options.adversary_seeds,
        adversary_forces=options.adversary_forces,
    )


def _check(subjects: Sequence[Subject], options: RobustnessOptions) -> None:
    """Refuse what could not be played or compared, before anything is."""
    from rlstab.analysis.robustness.forced import Plant

    envs = sorted({str(subject.env_id) for subject in subjects})
    if len(envs) > 1:
        raise UserError(f"policies of different environments do not compare ({', '.join(envs)}): one at a time")
    Plant.of(subjects[0].settings, body=options.body, speed=options.speed)


def _test(subject: Subject, options: RobustnessOptions, config: BatteryConfig) -> tuple[BatteryReport, Path | None]:
    """Report on a policy, and where it is kept."""
    from rlstab.analysis.robustness import plots
    from rlstab.analysis.robustness.battery import run_battery

    parts = None if subject.run is None else subject.run.folder("evaluations") / _name(subject, options, config)
    note(f"testing {subject.path} on {subject.env_id}")
    report = run_battery(
        subject.policy,
        subject.settings,
        config,
        body=options.body,
        speed=options.speed,
        processes=options.processes,
        keep=parts,
        on_progress=lambda done, total, name: note(f"{done} of {total} parts done: {name}"),
    )
    if parts is None or subject.run is None:
        return report, None
    from rlstab.analysis.plots import save

    kept = report.save(parts.parent / f"{parts.name}.json")
    save(plots.comparison({subject.run.info.name: [report]}), subject.run.folder("figures") / f"{parts.name}.png")
    return report, kept


def _name(subject: Subject, options: RobustnessOptions, config: BatteryConfig) -> str:
    """Folder of the parts: whatever changes their numbers is in it."""
    what = {**dataclasses.asdict(config), "body": options.body, "speed": options.speed, "env": subject.env_id}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"robustness-step{subject.step}-{config.level}-{digest}"


def _keep(comparison: RobustnessComparison, options: RobustnessOptions) -> dict[str, Path]:
    if options.out is None:
        return {}
    saved = comparison.save(options.out / "robustness.json")
    return {"numbers": saved, "figure": comparison.figure(options.out / "robustness.png")}


def _show(
    subjects: Sequence[Subject],
    tested: Sequence[tuple[BatteryReport, Path | None]],
    comparison: RobustnessComparison,
    files: dict[str, Path],
    as_json: bool,
) -> None:
    if as_json:
        each = [
            {"path": subject.path, "method": label, "report": kept, "summary": report.summary()}
            for subject, label, (report, kept) in zip(subjects, labels(subjects), tested, strict=True)
        ]
        print_json({"reports": each, "comparison": comparison.summary(), "files": files})
        return
    if len(tested) == 1:
        print_table(str(subjects[0].path), ("what", "value"), tested[0][0].summary().items())
    else:
        columns, rows = comparison.table()
        print_table(f"{comparison.env_id}, interquartile means over trainings", columns, rows)
    for name, path in files.items():
        note(f"{name}: {path}")
