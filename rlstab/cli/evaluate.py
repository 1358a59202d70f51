"""`rlstab evaluate RUN...`: how good policies are, with intervals; optionally a video."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from rlstab.cli.checkpoints import Which, which_checkpoint
from rlstab.cli.console import note, only_results_on_stdout, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.errors import UserError
from rlstab.runs.config import validate

if TYPE_CHECKING:
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.analysis.stats import Aggregate
    from rlstab.policies.base import Policy
    from rlstab.runs.run import Run

# rlstab.analysis.evaluation.DEFAULT_SEED, which importing would cost seconds; a test holds them equal.
_DEFAULT_SEED = 10_000


@dataclass(frozen=True)
class EvaluateOptions:
    """Play whole episodes with one or several policies; episode i starts from (seed, i) whatever else is evaluated."""

    policies: Positional[tuple[Path, ...]]
    """Runs, exported .onnx files, or Stable-Baselines3 .zip files (these with --allow-pickle). Several are compared,
    and aggregated as runs of one method."""

    env: str | None = None
    """Environment. None: that of training; .zip files do not name theirs."""

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
    """Record episode 0 of each run as MP4 in RUN/videos; of other files, beside them."""

    allow_pickle: bool = False
    """Read .zip files: they hold pickles, which run whatever code their author put in, with your rights."""

    json: bool = False
    """Print one JSON document instead of tables."""


@dataclass(frozen=True)
class Subject:
    """A policy with what is needed to evaluate it."""

    path: Path
    policy: Policy
    env_id: str
    max_episode_steps: int | None = None
    env_kwargs: dict[str, Any] | None = None
    run: Run | None = None


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = parse(EvaluateOptions, argv, "evaluate")
    validate(options)
    if not options.policies:
        raise UserError("which policy? rlstab evaluate RUN..., where RUN is a folder that rlstab train made")
    which = which_checkpoint(options.checkpoint)
    with only_results_on_stdout(options.json):
        if options.video:
            _choose_renderer()
        subjects = [_load(path, which, options) for path in options.policies]
        evaluations = [_evaluate(subject, options) for subject in subjects]
        videos = [_record(subject, options) if options.video else None for subject in subjects]
        aggregate = _aggregate(evaluations)
    if options.json:
        entries = zip(subjects, evaluations, videos, strict=True)
        document: dict[str, Any] = {
            "evaluations": [
                {"path": subject.path, **evaluation.to_dict(), "summary": evaluation.summary(), "video": video}
                for subject, evaluation, video in entries
            ],
            "aggregate": None if aggregate is None else aggregate.to_dict(),
        }
        print_json(document)
        return 0
    for subject, evaluation, video in zip(subjects, evaluations, videos, strict=True):
        rows: dict[str, Any] = dict(evaluation.summary())
        if video is not None:
            rows["video"] = video
        print_table(str(subject.path), ("what", "value"), rows.items())
    if aggregate is not None:
        print_table(f"{len(evaluations)} runs together", ("what", "value"), aggregate.summary().items())
    return 0


def _load(path: Path, which: Which, options: EvaluateOptions) -> Subject:
    from rlstab.policies.sb3_zip import is_sb3_zip, load_sb3_zip

    if path.suffix == ".onnx":
        from rlstab.sim2real.policy_onnx import OnnxPolicy

        policy = OnnxPolicy.load(path)
        training = policy.contract.training
        env_kwargs = training.env_kwargs if options.env is None else None
        return Subject(path, policy, options.env or training.env_id, training.max_episode_steps, env_kwargs)
    if is_sb3_zip(path):
        loaded = load_sb3_zip(path, allow_pickle=options.allow_pickle)
        if options.env is None:
            raise UserError(f"{path} does not say which environment it is for: add --env ID")
        return Subject(path, loaded, options.env)
    from rlstab.policies.loading import load_policy
    from rlstab.runs.run import Run

    opened = Run.open(path)
    info = opened.info
    limit = info.config.get("max_episode_steps")
    env_kwargs = info.config.get("env_kwargs") if options.env is None else None
    return Subject(path, load_policy(opened, which), options.env or info.env_id, limit, env_kwargs, opened)


def _evaluate(subject: Subject, options: EvaluateOptions) -> Evaluation:
    from rlstab.analysis.evaluation import evaluate
    from rlstab.envs.disturbance.serialization import parse as parse_disturbances

    note(f"evaluating {subject.path} on {subject.env_id}: {options.episodes} episodes")
    evaluation = evaluate(
        subject.policy,
        subject.env_id,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.stochastic,
        disturbances=parse_disturbances(options.disturbances),
        max_episode_steps=subject.max_episode_steps,
        env_kwargs=subject.env_kwargs,
    )
    if subject.run is not None:
        how = "stochastic" if options.stochastic else "deterministic"
        name = f"{options.checkpoint}-{how}-{options.episodes}-episodes-seed{options.seed}"
        if options.disturbances:
            name += "-" + re.sub(r"[^0-9A-Za-z.=]+", "_", options.disturbances)
        evaluation.save(subject.run.folder("evaluations") / name)
    return evaluation


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


def _record(subject: Subject, options: EvaluateOptions) -> str | None:
    from rlstab.analysis.video import record

    folder = subject.path.parent if subject.run is None else subject.run.folder("videos")
    recording = record(
        subject.policy,
        subject.env_id,
        folder / f"{subject.path.stem}-seed{options.seed}.mp4",
        seed=options.seed,
        deterministic=not options.stochastic,
        max_episode_steps=subject.max_episode_steps,
    )
    if not recording.path:
        # The numbers are there; a machine without rendering libraries must not lose them.
        note(f"no video: {recording.notice}; `rlstab doctor` says what is missing")
        return None
    return recording.path
