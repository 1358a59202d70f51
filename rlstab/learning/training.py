"""The driver of every training: iterate, record, checkpoint, and end well however it ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlstab.errors import DivergedError, NonFiniteState, UserError, command, first_line
from rlstab.learning.interruption import Interruption
from rlstab.learning.learner import Learner
from rlstab.learning.non_finite import refuse_non_finite, save_non_finite
from rlstab.runs.atomic import DiskError
from rlstab.runs.checkpoint import Checkpoint, DamagedCheckpointError, read_checkpoint, read_info
from rlstab.runs.failure import add_clause
from rlstab.runs.run import Run
from rlstab.runs.state import StateTree

SCORE = "rollout/return_mean"
"""The metric that decides which checkpoint is the best."""

_ELAPSED = "time/elapsed_s"
_STATUS_PERIOD_S = 10.0


@dataclass(frozen=True)
class Progress:
    """How far training is."""

    step: int
    """Environment steps done."""
    total_steps: int
    """Environment steps asked for."""
    steps_per_second: float
    """Mean rate since training began or was resumed."""
    elapsed_s: float
    """Time trained, sessions before a resumption included, s."""
    remaining_s: float
    """Time left at the mean rate, s."""
    metrics: Mapping[str, float]
    """What the last unit of work reported."""


@dataclass(frozen=True)
class TrainingSummary:
    """How training ended."""

    status: Literal["finished", "interrupted"]
    """Whether all steps were done."""
    step: int
    """Environment steps done."""
    elapsed_s: float
    """Time trained, s."""
    return_mean: float | None
    """Mean return of the episodes that ended last, as the learner reports it; None if none ended."""
    last_checkpoint: Path | None
    """Newest checkpoint."""
    best_checkpoint: Path | None
    """Checkpoint with the highest mean return."""
    message: str
    """One line for the user; after an interruption it says how to go on."""
    warnings: tuple[str, ...] = ()
    """What else the user should know, a line each."""


@dataclass(frozen=True)
class Resumption:
    """Where training goes on."""

    step: int
    """Environment steps restored; 0 if the run had no checkpoint yet."""
    checkpoint: Path | None
    """What was loaded."""
    damaged: tuple[Path, ...]
    """Checkpoints that were not intact and were renamed, so that they are not offered again."""
    messages: tuple[str, ...]
    """Lines for the user: one for each damaged checkpoint, then where training goes on."""


def train(
    learner: Learner,
    run: Run,
    *,
    total_steps: int,
    checkpoint_every: int = 100_000,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> TrainingSummary:
    """Train until the steps are done or somebody interrupts.

    A checkpoint is written whenever the step count passes a multiple of `checkpoint_every`, and at the end. That
    depends on nothing but the steps, so a run that was interrupted, killed or moved in between leaves the same weights
    and the same checkpoints as one that was not; an interruption only adds a checkpoint, which goes with the next.

    A failure adds one too: the state at the end of the last whole unit of work, from which `resume` goes on as if the
    failed unit had not begun. Native environments then take the same steps again, others begin new episodes.

    Parameters
    ----------
    learner : Learner
        Fresh, or restored by `resume`.
    run : Run
        Its metrics, checkpoints and status are written; nobody else may write it meanwhile.
    total_steps : int
        Environment steps to reach, those done before included.
    checkpoint_every : int
        Environment steps between checkpoints.
    on_progress : callable, optional
        Called after each unit of work.
    stop : threading.Event, optional
        Set it, from another thread, to interrupt.

    Returns
    -------
    TrainingSummary
        Also after an interruption: Ctrl-C, SIGTERM, SIGHUP or `stop` finish the unit of work at hand.

    Raises
    ------
    UserError
        The disk is full or read-only, a metric or a state is not finite, the environment is broken, or another process
        writes the run. The run is marked failed with the reason; its checkpoints are intact, and the message says how
        to go on.
    KeyboardInterrupt
        A second signal. What was done since the last checkpoint is lost.
    """
    if checkpoint_every < 1 or total_steps < 1:
        raise UserError(
            f"steps must be positive, not {total_steps} in total with a checkpoint every {checkpoint_every}"
        )
    with run.lock():
        session = _Session(learner, run, total_steps, checkpoint_every)
        try:
            with Interruption(stop) as interruption:
                return session.work(interruption, on_progress)
        except KeyboardInterrupt:
            _record_end(run, "interrupted", f"aborted at step {learner.num_timesteps}", learner.num_timesteps)
            raise
        except NonFiniteState as error:
            located = save_non_finite(error, run, learner.num_timesteps)
            reason = str(located)
            session.rescue(located)
            _record_end(run, "failed", reason, learner.num_timesteps)
            raise located from error
        except DiskError as error:
            _record_end(run, "failed", str(error), learner.num_timesteps)
            raise DiskError(f"{error}; then go on with: {resume_command(run)}") from error
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            session.rescue(error)
            _record_end(run, "failed", reason, learner.num_timesteps)
            raise
        finally:
            run.close()


def resume(learner: Learner, run: Run) -> Resumption:
    """Restore a learner from the newest intact checkpoint of a run; call `train` afterwards.

    Checkpoints that are truncated, changed or unreadable are renamed ``damaged-...`` and older ones tried. The metrics
    that were written after the checkpoint are dropped by `train`, which writes them again.

    Parameters
    ----------
    learner : Learner
        Made from the run's configuration. If the run was killed before its first checkpoint, it stays as it is.
    run : Run
        The run to go on with.

    Raises
    ------
    UserError
        No checkpoint is intact, one is from a newer version, or another process writes the run. Nothing is changed.
    """
    with run.lock():
        run.checkpoints.recover()
        checkpoint, damaged, messages = _newest_intact(run)
        step = checkpoint.step if checkpoint else 0
        if checkpoint is None:
            messages.append(f"{run.path} has no checkpoint yet: starting at step 0")
        else:
            learner.load_state_dict(checkpoint.state)
            messages.append(f"going on at step {step} from {checkpoint.path}")
        if damaged:
            run.update(history=run.note("damaged", step=step, checkpoints=[path.name for path in damaged]))
    return Resumption(step, checkpoint.path if checkpoint else None, tuple(damaged), tuple(messages))


def resume_command(run: Run) -> str:
    """Command line that goes on with a run."""
    return command("train", "--resume", run.path)


@dataclass(frozen=True)
class _Boundary:
    """Where the last whole unit of work ended, with all that a checkpoint of it holds.

    Taken after every unit, because nothing can be taken once the next one has failed halfway: that costs tenths of a
    millisecond where a unit takes tenths of a second.
    """

    step: int
    state: StateTree
    score: float | None
    meta: dict[str, Any]


class _Session:
    """One process's part of a training."""

    def __init__(self, learner: Learner, run: Run, total_steps: int, checkpoint_every: int) -> None:
        self._learner = learner
        self._run = run
        self._total_steps = total_steps
        self._checkpoint_every = checkpoint_every
        self._started = time.monotonic()
        self._first_step = learner.num_timesteps
        self._status_due = self._started + _STATUS_PERIOD_S
        self._metrics: dict[str, float] = {}
        # What a session before this one knew and the learner does not.
        self._elapsed_before_s = 0.0
        self._return_mean: float | None = None
        self._score: float | None = None
        self._saved: Literal["no", "extra", "regular"] = "no"
        self._boundary: _Boundary | None = None

    def work(self, interruption: Interruption, on_progress: Callable[[Progress], None] | None) -> TrainingSummary:
        """Train from where the learner stands."""
        learner, run = self._learner, self._run
        run.checkpoints.recover()
        self._join_last_checkpoint()
        self._boundary = self._take_boundary()
        run.update(
            status="running",
            reason="",
            total_steps=self._total_steps,
            step=learner.num_timesteps,
            history=run.note("started", step=learner.num_timesteps),
        )
        while learner.num_timesteps < self._total_steps and not interruption.requested:
            self._iterate()
            if on_progress is not None:
                on_progress(self._progress())
        finished = learner.num_timesteps >= self._total_steps
        if finished and self._saved != "regular":
            self._save(self._boundary, extra=False)
        elif not finished and self._saved == "no":
            self._save(self._boundary, extra=True)
        return self._conclude(finished, interruption.reason)

    def rescue(self, error: Exception) -> None:
        """Keep what was learned before a failure in a checkpoint, and let the error say so and how to go on."""
        boundary = self._boundary
        if boundary is None:
            return
        again = resume_command(self._run)
        # Resuming keeps every setting, and what diverged would do so again.
        diverged = isinstance(error, DivergedError)
        if boundary.step == 0:
            if diverged:
                add_clause(error, "nothing had been learned yet")
                return
            add_clause(error, f"nothing had been learned yet; once this is mended, start again with: {again}")
            return
        if self._saved == "no":
            try:
                self._save(boundary, extra=True)
            except Exception as refusal:
                # The failure on its way is the one to report.
                add_clause(error, f"what was learned up to step {boundary.step} is lost: {first_line(refusal)}")
                return
        kept = f"what was learned up to step {boundary.step} is kept in {self._run.checkpoints.at(boundary.step).name}"
        if diverged:
            add_clause(error, f"{kept}, which can be used: {command('evaluate', self._run.path)}")
            return
        # The same seed, weights and worlds lead to the same failure.
        repeats = getattr(self._learner.env, "resumes_exactly", False)
        once = "once this is mended (the same steps would follow)" if repeats else "once this is mended"
        add_clause(error, f"{kept}; {once}, go on with: {again}")

    def _join_last_checkpoint(self) -> None:
        """Go on behind the newest checkpoint: drop the metrics written after it, recall what it remembers."""
        learner, run = self._learner, self._run
        newest = run.checkpoints.latest()
        if newest is None:
            run.metrics.truncate_to(0)
            return
        info = read_info(newest)
        if info.step != learner.num_timesteps:
            raise UserError(
                f"the learner is at step {learner.num_timesteps}, but the newest checkpoint of {run.path} is of step "
                f"{info.step}: resume the run, or train in a new one"
            )
        run.metrics.truncate_to(int(info.meta["metrics_offset"]))
        self._elapsed_before_s = float(info.meta["elapsed_s"])
        self._return_mean = info.meta["return_mean"]
        self._score = info.meta["score"]
        self._saved = "extra" if info.extra else "regular"

    def _iterate(self) -> None:
        learner, run = self._learner, self._run
        before = learner.num_timesteps
        metrics = learner.iterate()
        step = learner.num_timesteps
        if step <= before:
            raise RuntimeError(f"the learner's step count went from {before} to {step}: iterate() must advance it")
        self._saved = "no"
        self._metrics = {**metrics, _ELAPSED: self._elapsed_s()}
        run.metrics.write(step, self._metrics)
        refuse_non_finite(metrics, step)
        self._score = metrics.get(SCORE)
        self._return_mean = self._return_mean if self._score is None else self._score
        self._boundary = self._take_boundary()
        if step // self._checkpoint_every > before // self._checkpoint_every:
            self._save(self._boundary, extra=False)
        if time.monotonic() >= self._status_due:
            run.update(step=step)
            self._status_due = time.monotonic() + _STATUS_PERIOD_S

    def _take_boundary(self) -> _Boundary:
        meta = {
            "metrics_offset": self._run.metrics.offset(),
            "elapsed_s": round(self._elapsed_s(), 3),
            "return_mean": self._return_mean,
            "score": self._score,
        }
        return _Boundary(self._learner.num_timesteps, self._learner.state_dict(), self._score, meta)

    def _save(self, boundary: _Boundary, *, extra: bool) -> None:
        # An extra checkpoint competes with none: which one is the best must not depend on when somebody interrupted.
        score = None if extra else boundary.score
        self._run.checkpoints.save(boundary.step, boundary.state, score=score, meta=boundary.meta, extra=extra)
        self._saved = "extra" if extra else "regular"

    def _conclude(self, finished: bool, reason: str) -> TrainingSummary:
        run, step = self._run, self._learner.num_timesteps
        if finished:
            message = f"finished {step} steps; the run is {run.path}"
            run.update(status="finished", reason="", step=step, history=run.note("finished", step=step))
        else:
            message = f"interrupted ({reason}) at step {step} of {self._total_steps}; go on with: {resume_command(run)}"
            history = run.note("interrupted", step=step, reason=reason)
            run.update(status="interrupted", reason=reason, step=step, history=history)
        problem = run.metrics.tensorboard_problem
        return TrainingSummary(
            status="finished" if finished else "interrupted",
            step=step,
            elapsed_s=self._elapsed_s(),
            return_mean=self._return_mean,
            last_checkpoint=run.checkpoints.latest(),
            best_checkpoint=run.checkpoints.best(),
            message=message,
            warnings=(problem,) if problem else (),
        )

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._started

    def _progress(self) -> Progress:
        step = self._learner.num_timesteps
        rate = (step - self._first_step) / max(time.monotonic() - self._started, 1e-9)
        remaining_s = max(self._total_steps - step, 0) / rate
        return Progress(step, self._total_steps, rate, self._elapsed_s(), remaining_s, self._metrics)


def _record_end(run: Run, status: Literal["interrupted", "failed"], reason: str, step: int) -> None:
    # On a full disk this fails too; the error that is on its way says more.
    with contextlib.suppress(UserError):
        history = run.note(status, step=step, reason=reason)
        run.update(status=status, reason=reason, step=step, history=history)


def _newest_intact(run: Run) -> tuple[Checkpoint | None, list[Path], list[str]]:
    """Newest checkpoint that is intact; those that are not, set aside, with a line about each."""
    damaged: list[tuple[Path, str]] = []
    for step in reversed(run.checkpoints.steps()):
        path = run.checkpoints.at(step)
        try:
            found = read_checkpoint(path)
        except (DamagedCheckpointError, DiskError) as error:
            # What the disk does not give back is as lost as what was changed.
            damaged.append((path, str(error)))
            continue
        return found, *_set_aside(run, damaged)
    if damaged:
        # Nothing to go on with: leave the files as they are.
        raise UserError(f"no checkpoint of {run.path} is intact; the newest: {damaged[0][1]}")
    return None, [], []


def _set_aside(run: Run, damaged: list[tuple[Path, str]]) -> tuple[list[Path], list[str]]:
    renamed = [run.checkpoints.set_aside(path) for path, _ in damaged]
    lines = [f"{reason}; it was renamed {path.name}" for path, (_, reason) in zip(renamed, damaged, strict=True)]
    return renamed, lines
