"""`rlstab evaluate RUN...`: how good policies are, with intervals and figures; optionally a video."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from rlstab.cli.console import note, only_results_on_stdout, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.errors import UserError, command
from rlstab.runs.config import validate

if TYPE_CHECKING:
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.analysis.stats import Aggregate
    from rlstab.envs.disturbance import Disturbance
    from rlstab.policies.base import Policy
    from rlstab.runs.environment import EnvSettings
    from rlstab.runs.run import Run
    from rlstab.runs.store import Which

# rlstab.analysis.evaluation.DEFAULT_SEED, which importing would cost seconds; a test holds them equal.
_DEFAULT_SEED = 10_000


@dataclass(frozen=True)
class EvaluateOptions:
    """Play whole episodes with one or several policies; episode i starts from (seed, i) whatever else is evaluated.

    Of a run, the numbers are kept in RUN/evaluations, and the returns and the learning curve drawn in RUN/figures.
    """

    policies: Positional[tuple[Path, ...]]
    """Runs, exported .onnx files, or Stable-Baselines3 .zip files (these with --allow-pickle). Several are compared,
    and aggregated as runs of one method."""

    env: str | None = None
    """Environment. None: that of training; .zip files do not name theirs. Another one than that of training has its
    own time limit and no constructor arguments."""

    episodes: int = field(default=20, metadata={"min": 1})
    """Episodes for each policy."""

    seed: int = field(default=_DEFAULT_SEED, metadata={"min": 0})
    """Base seed of the episodes; far from the seeds training usually has."""

    disturbances: str = ""
    """What the world does to the robot, for native environments: gain=0.8,latency=1,mass=0.5:2 (see rlstab train
    ppo --help). Those of training are not applied."""

    stochastic: bool = False
    """Sample actions instead of taking the mode."""

    checkpoint: str = "best"
    """Which checkpoint of a run: best (by training return), last, or a step number."""

    video: bool = False
    """Record episode 0 of each run as MP4 in RUN/videos; of other files, beside them. It is the same episode as that
    of the evaluation, disturbances included."""

    allow_pickle: bool = False
    """Read .zip files: they hold pickles, which run whatever code their author put in, with your rights."""

    json: bool = False
    """Print one JSON document instead of tables."""


@dataclass(frozen=True)
class Subject:
    """A policy with what is needed to evaluate it."""

    path: Path
    policy: Policy
    settings: EnvSettings
    """Where it plays."""
    elsewhere: bool = False
    """Whether that is another environment than that of training."""
    run: Run | None = None

    @property
    def env_id(self) -> str:
        """The environment's id."""
        return str(self.settings.env_id)


@dataclass(frozen=True)
class Findings:
    """What came of one policy."""

    subject: Subject
    evaluation: Evaluation
    video: str | None
    figures: tuple[Path, ...]

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        summary, files = self.evaluation.summary(), {"video": self.video, "figures": self.figures}
        return {"path": self.subject.path, **self.evaluation.to_dict(), "summary": summary, **files}

    def rows(self) -> dict[str, Any]:
        """For the table."""
        rows: dict[str, Any] = dict(self.evaluation.summary())
        if self.video is not None:
            rows["video"] = self.video
        return rows | {f"figure {number}": path for number, path in enumerate(self.figures, 1)}


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(EvaluateOptions, argv, "evaluate")
    validate(options)
    if not options.policies:
        usage = command("evaluate", "RUN")
        raise UserError(f"which policy? {usage}, where RUN is a folder that rlstab train made; or several of them")
    from rlstab.envs.disturbance.serialization import parse as parse_disturbances
    from rlstab.runs.store import which_checkpoint

    which = which_checkpoint(options.checkpoint)
    disturbances = parse_disturbances(options.disturbances)
    with only_results_on_stdout(options.json):
        if options.video:
            _choose_renderer()
        # All are loaded first: a mistake in the last name must not cost the evaluation of the others.
        subjects = [_load(path, which, options) for path in options.policies]
        found = [_find(subject, options, disturbances) for subject in subjects]
        aggregate = _aggregate([entry.evaluation for entry in found])
    if options.json:
        together = None if aggregate is None else aggregate.to_dict()
        print_json({"evaluations": [entry.document() for entry in found], "aggregate": together})
        return 0
    for entry in found:
        print_table(str(entry.subject.path), ("what", "value"), entry.rows().items())
    if aggregate is not None:
        print_table(f"{len(found)} runs together", ("what", "value"), aggregate.summary().items())
    return 0


def _load(path: Path, which: Which, options: EvaluateOptions) -> Subject:
    from rlstab.policies.sb3_zip import is_sb3_zip, load_sb3_zip
    from rlstab.runs.environment import EnvSettings

    if path.suffix == ".onnx":
        from rlstab.sim2real.policy_onnx import OnnxPolicy

        policy = OnnxPolicy.load(path)
        training = policy.contract.training
        trained_in = EnvSettings(training.env_id, training.max_episode_steps, training.env_kwargs)
        return Subject(path, policy, trained_in.elsewhere(options.env), not trained_in.is_in(options.env))
    if is_sb3_zip(path):
        loaded = load_sb3_zip(path, allow_pickle=options.allow_pickle)
        if options.env is None:
            raise UserError(f"{path} does not say which environment it is for: add --env ID")
        return Subject(path, loaded, EnvSettings(options.env), elsewhere=True)
    from rlstab.policies.loading import load_policy
    from rlstab.runs.run import Run

    opened = Run.open(path)
    trained_in = EnvSettings.of_run(opened.info)
    settings = trained_in.elsewhere(options.env)
    return Subject(path, load_policy(opened, which), settings, not trained_in.is_in(options.env), opened)


def _find(subject: Subject, options: EvaluateOptions, disturbances: Sequence[Disturbance]) -> Findings:
    from rlstab.analysis.evaluation import evaluate
    from rlstab.runs.failure import FAILURE_FOLDER

    note(f"evaluating {subject.path} on {subject.env_id}: {options.episodes} episodes")
    failures = FAILURE_FOLDER if subject.run is None else subject.run.path / FAILURE_FOLDER
    evaluation = evaluate(
        subject.policy,
        subject.env_id,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.stochastic,
        disturbances=disturbances,
        max_episode_steps=subject.settings.max_episode_steps,
        env_kwargs=subject.settings.env_kwargs,
        failure_folder=failures,
    )
    figures: tuple[Path, ...] = ()
    if subject.run is not None:
        name = _name(subject, options)
        evaluation.save(subject.run.folder("evaluations") / name)
        figures = _draw(subject.run, evaluation, name)
    video = _record(subject, options, disturbances) if options.video else None
    return Findings(subject, evaluation, video, figures)


def _name(subject: Subject, options: EvaluateOptions) -> str:
    """Name of the files of an evaluation: whatever changes its numbers is in it."""
    how = "stochastic" if options.stochastic else "deterministic"
    name = f"{options.checkpoint}-{how}-{options.episodes}-episodes-seed{options.seed}"
    return name + _circumstances(subject, options)


def _circumstances(subject: Subject, options: EvaluateOptions) -> str:
    parts = (subject.env_id if subject.elsewhere else "", options.disturbances)
    return "".join("-" + re.sub(r"[^0-9A-Za-z.=+-]+", "_", part) for part in parts if part)


def _draw(opened: Run, evaluation: Evaluation, name: str) -> tuple[Path, ...]:
    from rlstab.analysis import plots
    from rlstab.analysis.curves import learning_curve

    folder = opened.folder("figures")
    # Axes of their own: those that the plots make are kept by pyplot for a notebook to show.
    returns = plots.return_distribution({"": evaluation.returns}, plots.new_axes(aspect=0.42))
    figures = [plots.save(returns, folder / f"{name}.png")]
    metrics = opened.read_metrics()
    # A training so short that no episode ended has no curve.
    if "rollout/return_mean" in metrics:
        curve = learning_curve([metrics])
        figures.append(plots.save(plots.learning_curves([curve], plots.new_axes()), folder / "learning-curve.png"))
    return tuple(figures)


def _aggregate(evaluations: list[Evaluation]) -> Aggregate | None:
    from rlstab.analysis.evaluation import aggregate_runs

    if len(evaluations) < 2:
        return None
    if len({evaluation.env_id for evaluation in evaluations}) > 1:
        note("no aggregate: returns of different environments have no common scale")
        return None
    return aggregate_runs(evaluations)


def _choose_renderer() -> None:
    # Before anything imports mujoco, which reads its choice of renderer once.
    from rlstab.envs.rendering import choose_backend

    # If none works, the recording says so.
    with contextlib.suppress(UserError):
        choose_backend()


def _record(subject: Subject, options: EvaluateOptions, disturbances: Sequence[Disturbance]) -> str | None:
    from rlstab.analysis.video import record

    if subject.run is not None:
        path = subject.run.folder("videos") / f"{_name(subject, options)}.mp4"
    else:
        name = f"{subject.path.stem}-seed{options.seed}{_circumstances(subject, options)}"
        path = subject.path.parent / f"{name}.mp4"
    recording = record(
        subject.policy,
        subject.env_id,
        path,
        seed=options.seed,
        deterministic=not options.stochastic,
        disturbances=disturbances,
        max_episode_steps=subject.settings.max_episode_steps,
        env_kwargs=subject.settings.env_kwargs,
    )
    if not recording.path:
        # The numbers are there; a machine without rendering libraries must not lose them.
        note(f"no video: {recording.notice}; what is missing: {command('doctor')}")
        return None
    return recording.path
