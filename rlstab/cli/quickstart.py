"""`rlstab quickstart`: the whole way from nothing to a running controller, and a page that shows it."""

from __future__ import annotations

import dataclasses
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlstab.cli.console import EpisodesView, note, only_results_on_stdout, out, print_json, print_table
from rlstab.cli.parsing import parse
from rlstab.cli.progress import ProgressView, clock
from rlstab.controllers import registry
from rlstab.controllers.config import BaseConfig
from rlstab.controllers.runs import begin, configure, go_on, is_complete
from rlstab.envs.gym_make import resolve_id
from rlstab.errors import UserError, command
from rlstab.runs.config import to_json

if TYPE_CHECKING:
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.analysis.video import Recording
    from rlstab.runs.run import Run
    from rlstab.sim2real.contract import Contract
    from rlstab.sim2real.deploy import DeployReport

METHOD = "ppo"
PRESET = "quickstart"
_PACED_SECONDS = 3.0


@dataclass(frozen=True)
class QuickstartOptions:
    """Train, evaluate, export and deploy a policy, and write one self-contained page about it.

    Two to five minutes on two processors, by how busy they are. Interrupted, the same command goes on where it stopped.
    """

    env: str = "Hopper-v5"
    """Environment. Its actions are real numbers, or one or several choices; its observation one array or number."""

    seed: int = field(default=0, metadata={"min": 0})
    """Seed of the training."""

    total_steps: int | None = field(default=None, metadata={"min": 1, "unit": "environment steps"})
    """Length of training, in environment steps. None: that of the preset."""

    episodes: int = field(default=20, metadata={"min": 1})
    """Episodes of the evaluation, and of the deployment on the same starts."""

    max_episode_steps: int | None = field(default=None, metadata={"min": 1, "unit": "environment steps"})
    """Time limit of an episode. None: the environment's own."""

    out: Path = Path("quickstart")
    """Folder for the run and the page."""

    json: bool = False
    """Print one JSON document instead of a table."""


@dataclass(frozen=True)
class Outcome:
    """What quickstart found, for the page, the table and the JSON document."""

    run: Run
    evaluation: Evaluation
    deployment: DeployReport
    paced: DeployReport
    """A few seconds in real time; where the environment has no control period, the deployment again."""
    recording: Recording
    train_seconds: float
    report: Path
    seconds: float

    def document(self) -> dict[str, Any]:
        """The numbers, JSON-able."""
        evaluated = float(self.evaluation.returns.mean())
        deployed = self.deployment.mean_return
        difference = None if deployed is None else abs(deployed - evaluated) / max(abs(evaluated), 1e-9)
        return {
            "env": self.evaluation.env_id,
            "seed": self.run.info.seed,
            "steps": self.run.info.step,
            "checkpoint_step": self.evaluation.checkpoint_step,
            "checkpoint_rule": self.evaluation.checkpoint_rule,
            "mean_return": evaluated,
            "episodes": len(self.evaluation.returns),
            "deployed_mean_return": deployed,
            "relative_difference": difference,
            "latency_ms": self.paced.latency.to_dict(),
            "paced": self.paced.realtime,
            "control_dt_s": self.paced.control_dt,
            "train_seconds": self.train_seconds,
            "seconds": self.seconds,
            "peak_memory_bytes": peak_memory_bytes(),
            "run": self.run.path,
            "policy": self.deployment.policy,
            "video": self.recording.path or None,
            "report": self.report,
        }


def run(argv: list[str]) -> int:
    """Run the command; returns the exit code, 130 when it was interrupted."""
    options = parse(QuickstartOptions, argv, "quickstart")
    # Presets and folders go by the full name.
    options = dataclasses.replace(options, env=resolve_id(options.env))
    with only_results_on_stdout(options.json):
        outcome = _quickstart(options, argv)
    if outcome is None:
        note(f"interrupted; to go on: {command('quickstart', *argv)}")
        return 130
    if options.json:
        print_json(outcome.document())
    else:
        _print(outcome)
    return 0


def _quickstart(options: QuickstartOptions, argv: list[str]) -> Outcome | None:
    from rlstab.analysis.evaluation import evaluate
    from rlstab.analysis.video import record
    from rlstab.policies.loading import choose_checkpoint, load_policy
    from rlstab.runs.failure import FAILURE_FOLDER
    from rlstab.sim2real.deploy import deploy
    from rlstab.sim2real.export import export_run

    began = time.monotonic()
    _require_exportable(options)
    _stage(1, f"training {METHOD} on {options.env}")
    trained = _trained(options, ["rlstab", "quickstart", *argv])
    if trained is None:
        return None
    opened, train_seconds = trained
    _stage(2, f"evaluating {options.episodes} episodes")
    # Named once, so that what is evaluated, exported and filmed is one and the same policy.
    step, rule = choose_checkpoint(opened)
    note(f"checkpoint of step {step:,}, {rule}")
    policy = load_policy(opened, step)
    failures = opened.path / FAILURE_FOLDER
    limit = options.max_episode_steps
    evaluation = evaluate(
        policy,
        options.env,
        episodes=options.episodes,
        max_episode_steps=limit,
        on_step=EpisodesView(),
        failure_folder=failures,
    )
    evaluation = dataclasses.replace(evaluation, checkpoint_step=step, checkpoint_rule=rule)
    evaluation.save(opened.folder("evaluations") / "quickstart")
    _stage(3, "exporting to ONNX")
    artefact = export_run(opened, which=step)
    has_period = artefact.contract.layout.control_dt is not None
    _stage(4, "deploying the exported file: the same episodes" + ", then a few seconds in real time" * has_period)
    common: dict[str, Any] = {"seed": evaluation.seed, "failure_folder": failures}
    deployment = deploy(artefact.path, episodes=options.episodes, realtime=False, **common)
    paced = deployment
    if has_period and not deployment.interrupted:
        paced = deploy(artefact.path, duration=_PACED_SECONDS, **common)
    if deployment.interrupted or paced.interrupted:
        return None
    _stage(5, "filming an episode and writing the page")
    film = opened.folder("videos") / "quickstart.mp4"
    recording = record(policy, options.env, film, seed=evaluation.seed, max_episode_steps=limit)
    if recording.notice:
        note(f"no video: {recording.notice}; what is missing: {command('doctor')}")
    outcome = Outcome(
        run=opened,
        evaluation=evaluation,
        deployment=deployment,
        paced=paced,
        recording=recording,
        train_seconds=train_seconds,
        report=options.out / "report.html",
        seconds=0.0,
    )
    _write_page(outcome, artefact.contract)
    return dataclasses.replace(outcome, seconds=time.monotonic() - began)


def _require_exportable(options: QuickstartOptions) -> None:
    """Refuse before training what could not be exported after it, and say what may go on without end.

    Raises
    ------
    UserError
        There is no such environment, or its spaces are not for one tensor each.
    """
    from rlstab.analysis.episodes import time_limit
    from rlstab.envs.registry import make_vec
    from rlstab.sim2real.layout import layout_of

    env = make_vec(options.env, max_episode_steps=options.max_episode_steps)
    try:
        layout_of(env, options.env)
        limit = time_limit(env, options.env, options.max_episode_steps)
    finally:
        env.close()
    if limit is None:
        note(f"{options.env} has no time limit: if its episodes do not end by themselves, add --max-episode-steps")


def _write_page(outcome: Outcome, contract: Contract) -> None:
    from rlstab.analysis.curves import learning_curve
    from rlstab.analysis.report import ReportData, picture, write

    opened, info = outcome.run, outcome.run.info
    metrics = opened.read_metrics()
    # A training so short that no episode ended has no curve.
    curve = learning_curve([metrics]) if "rollout/return_mean" in metrics else None
    paced = outcome.paced
    pace = (
        f"paced at {1 / paced.control_dt:.0f} Hz for {_PACED_SECONDS:g} s" if paced.control_dt else "not in real time"
    )
    checkpoint, earlier = outcome.evaluation.checkpoint, outcome.evaluation.checkpoint_step != info.step
    deployment = ["deploy", paced.policy, *([] if paced.realtime else ["--no-realtime"])]
    fields = contract.layout.observation.fields
    data = ReportData(
        title=f"{METHOD.upper()} on {info.env_id}",
        subtitle=f"Trained for {info.step:,} steps in {clock(outcome.train_seconds)}. Evaluated, exported and deployed "
        f"is the checkpoint of {checkpoint}.",
        evaluation=outcome.evaluation,
        facts=[("Training", clock(outcome.train_seconds), f"{info.step:,} environment steps")],
        curve=curve,
        curve_caption="Mean return of the episodes that ended last during training. Their actions were sampled, "
        "exploration noise included. The returns beside it are of the most likely actions of one policy: the "
        f"checkpoint of {checkpoint}, which is {'not ' if earlier else ''}the end of the curve.",
        deployed_returns=[value for value in outcome.deployment.returns if value is not None],
        deployment_note=f"{paced.policy} on the {paced.backend} backend, {pace}: {paced.latency.overruns} overruns.",
        latency=paced.latency.rows(),
        recording=outcome.recording,
        contract={
            "File": str(paced.policy),
            "SHA-256": contract.sha256,
            "Observation": ", ".join(f"{entry.name} ({entry.dim})" for entry in fields),
            "Action": f"{contract.layout.action.kind}, shape {contract.layout.action.shape}",
            "Test vectors": str(len(contract.test_vectors)),
        },
        commands=[command(*info.command[1:]), command("evaluate", opened.path), command(*deployment)],
        reproduction={
            "Training seed": str(info.seed),
            "Source revision": str(info.git.get("commit", "unknown")),
            "Run": str(opened.path),
        },
        versions=info.versions,
    )
    write(data, outcome.report)
    picture(data, outcome.report.with_suffix(".png"))


def _stage(number: int, what: str) -> None:
    note(f"[{number}/5] {what}")


def _trained(options: QuickstartOptions, typed: list[str]) -> tuple[Run, float] | None:
    """Train, go on with, or find finished the run of these options; None where it was interrupted."""
    from rlstab.runs.run import Run

    config = _config(options)
    name = f"{METHOD}-{options.env.replace('/', '-').replace(':', '-')}-seed{options.seed}"
    path = options.out / name
    if not path.exists():
        with ProgressView() as view:
            opened, summary = begin(METHOD, config, options.out, name=name, command=typed, on_progress=view, tell=note)
    else:
        opened = Run.open(path)
        if opened.info.method != METHOD or opened.info.config != to_json(config):
            raise UserError(f"{path} was trained with other settings; give another --out, or delete that folder")
        if is_complete(opened):
            note(f"{path} is trained already")
            frame = opened.read_metrics()
            return opened, float(frame["time/elapsed_s"].iloc[-1])
        with ProgressView() as view:
            summary = go_on(opened, on_progress=view, tell=note)
    return (opened, summary.elapsed_s) if summary.status == "finished" else None


def _config(options: QuickstartOptions) -> BaseConfig:
    recipe = registry.load_preset(METHOD, options.env, PRESET).values
    preset = PRESET if recipe.get("env") == options.env else None
    asked = {"total_steps": options.total_steps, "max_episode_steps": options.max_episode_steps}
    given = {name: value for name, value in asked.items() if value is not None}
    return configure(METHOD, options.env, preset=preset, seed=options.seed, **given)


def peak_memory_bytes() -> int:
    """Most memory this process has held so far."""
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _print(outcome: Outcome) -> None:
    document = outcome.document()
    summary = outcome.evaluation.summary()
    rows: list[tuple[str, object]] = [("environment", document["env"])]
    rows += [("trained", f"{document['steps']:,} steps in {clock(outcome.train_seconds)}")]
    rows += [("checkpoint", f"{outcome.evaluation.checkpoint}: what follows is of this policy")]
    rows += [("mean return", f"{summary['mean return']} over {document['episodes']} episodes")]
    if document["deployed_mean_return"] is not None:
        difference = f"{100 * document['relative_difference']:.2g} % from evaluation"
        rows += [("deployed ONNX", f"{document['deployed_mean_return']:.1f} on the same starts, {difference}")]
    inference = outcome.paced.latency.inference
    rows += [("inference", f"{inference.p50:.3f} ms median, {inference.p99:.3f} ms at the 99th percentile")]
    rows += [("peak memory", f"{document['peak_memory_bytes'] / 2**30:.2f} GiB")]
    rows += [("time", clock(outcome.seconds)), ("run", outcome.run.path), ("policy", document["policy"])]
    print_table("", ("what", "value"), rows)
    out().print(f"open {outcome.report.resolve().as_uri()}", markup=False)
