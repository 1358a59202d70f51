"""`rlstab evaluate RUN...`: how good policies are, with intervals and figures; optionally a video."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from rlstab.cli.console import EpisodesView, note, only_results_on_stdout, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.cli.subjects import Subject, load_subject
from rlstab.errors import UserError, command
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.analysis.stats import Aggregate
    from rlstab.envs.disturbance import Disturbance
    from rlstab.runs.run import Run


@dataclass(frozen=True)
class EvaluateOptions:
    """Play whole episodes with one or several policies; episode i starts from (seed, i) whatever else is evaluated.

    Of a run, the numbers are kept in RUN/evaluations, and the returns and the learning curve drawn in RUN/figures.
    """

    policies: Positional[tuple[Path, ...]]
    """Runs, exported .onnx files, or Stable-Baselines3 .zip files (these with --allow-pickle). Several are compared,
    and aggregated where they are trainings of one method, evaluated alike."""

    env: str | None = None
    """Environment. None: that of training; .zip files do not name theirs. Another one than that of training has its
    own time limit and no constructor arguments."""

    episodes: int = field(default=20, metadata={"min": 1})
    """Episodes for each policy."""

    seed: int = field(default=EVALUATION_SEED, metadata={"min": 0})
    """Base seed of the episodes; far from the seeds training usually has."""

    disturbances: str = ""
    """What the world does to the robot, for native environments: gain=0.8,latency=1,mass=0.5:2 (see rlstab train
    ppo --help). Those of training are not applied."""

    stochastic: bool = False
    """Sample actions instead of taking the mode."""

    max_episode_steps: int | None = field(default=None, metadata={"min": 1, "unit": "environment steps"})
    """Time limit of an episode. None: that of training, or the environment's own."""

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
class Findings:
    """What came of one policy."""

    subject: Subject
    evaluation: Evaluation
    video: str | None
    figures: tuple[Path, ...]
    unkept: UserError | None
    """Why the numbers or figures could not be written."""

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
    if not options.policies:
        usage = command("evaluate", "RUN")
        raise UserError(f"which policy? {usage}, where RUN is a folder that rlstab train made; or several of them")
    from rlstab.envs.disturbance.serialization import parse as parse_disturbances
    from rlstab.envs.gym_make import resolve_id
    from rlstab.runs.store import which_checkpoint

    if options.env is not None:
        options = dataclasses.replace(options, env=resolve_id(options.env))
    which = which_checkpoint(options.checkpoint)
    disturbances = parse_disturbances(options.disturbances)
    with only_results_on_stdout(options.json):
        if options.video:
            _choose_renderer()
        # All are loaded first: a mistake in the last name must not cost the evaluation of the others.
        subjects = [
            load_subject(
                path,
                which,
                env=options.env,
                max_episode_steps=options.max_episode_steps,
                allow_pickle=options.allow_pickle,
            )
            for path in options.policies
        ]
        found, problem = _find_all(subjects, options, disturbances)
        aggregate = _aggregate(found)
    _show(found, aggregate, options.json)
    if problem is not None:
        raise problem
    return 0


def _find_all(
    subjects: Sequence[Subject], options: EvaluateOptions, disturbances: Sequence[Disturbance]
) -> tuple[list[Findings], UserError | None]:
    """Evaluate one after the other, until something is wrong: what there is then is shown before the error."""
    found: list[Findings] = []
    problems: list[UserError] = []
    for subject in subjects:
        try:
            found.append(_find(subject, options, disturbances))
        except UserError as error:
            if not found:
                raise
            problems.append(error)
            break
        problems += [entry.unkept for entry in found[-1:] if entry.unkept is not None]
    # The last one ends the command, with its line.
    for problem in problems[:-1]:
        note(f"not kept: {problem}")
    return found, problems[-1] if problems else None


def _show(found: Sequence[Findings], aggregate: Aggregate | None, as_json: bool) -> None:
    if as_json:
        together = None if aggregate is None else aggregate.to_dict()
        print_json({"evaluations": [entry.document() for entry in found], "aggregate": together})
        return
    for entry in found:
        print_table(str(entry.subject.path), ("what", "value"), entry.rows().items())
    if aggregate is not None:
        print_table(f"{len(found)} runs together", ("what", "value"), aggregate.summary().items())


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
        on_step=EpisodesView(),
        failure_folder=failures,
    )
    evaluation = dataclasses.replace(evaluation, checkpoint_step=subject.step, checkpoint_rule=subject.rule)
    figures: tuple[Path, ...] = ()
    unkept: UserError | None = None
    if subject.run is not None:
        name = _name(subject, options)
        try:
            evaluation.save(subject.run.folder("evaluations") / name)
            figures = _draw(subject.run, evaluation, name)
        except UserError as error:
            # The numbers are there, and took a while.
            unkept = error
    video = None
    if options.video and unkept is None:
        video = _record(subject, options, disturbances)
    return Findings(subject, evaluation, video, figures, unkept)


def _name(subject: Subject, options: EvaluateOptions) -> str:
    """Name of the files of an evaluation: whatever changes its numbers is in it."""
    return f"step{subject.step}-{_how(options)}-{options.episodes}-episodes{_circumstances(subject, options)}"


def _how(options: EvaluateOptions) -> str:
    return "stochastic" if options.stochastic else "deterministic"


def _circumstances(subject: Subject, options: EvaluateOptions) -> str:
    limit = "" if options.max_episode_steps is None else f"limit{options.max_episode_steps}"
    parts = (f"seed{options.seed}", subject.env_id if subject.elsewhere else "", limit, options.disturbances)
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


def _aggregate(found: Sequence[Findings]) -> Aggregate | None:
    """All policies together, where they are several trainings of one method under the same conditions."""
    from rlstab.analysis.evaluation import aggregate_runs

    if len(found) < 2:
        return None
    subjects = [entry.subject for entry in found]
    for what, values in (
        ("they are of different methods", {subject.method for subject in subjects}),
        ("returns of different environments have no common scale", {subject.env_id for subject in subjects}),
        ("their time limits differ", {subject.settings.max_episode_steps for subject in subjects}),
        ("their environments' settings differ", {repr(subject.settings.env_kwargs) for subject in subjects}),
    ):
        if len(values) > 1:
            note(f"no aggregate: {what} ({', '.join(sorted(map(str, values)))})")
            return None
    if len({subject.training for subject in subjects}) < len(subjects):
        note("no aggregate: several of these come from one training")
        return None
    return aggregate_runs([entry.evaluation for entry in found])


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
        name = f"{subject.path.stem}-{_how(options)}{_circumstances(subject, options)}"
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
