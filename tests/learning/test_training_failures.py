"""How training ends when something fails, and what is left of it then."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.errors import DivergedError, NonFiniteState, UserError, command
from rlstab.learning.training import Progress, resume, resume_command, train
from rlstab.runs.atomic import DiskError
from rlstab.runs.metrics import read_lines
from rlstab.runs.run import Run

PROGRAM = Path(__file__).with_name("toy_learner.py")


def load_program() -> Any:
    spec = importlib.util.spec_from_file_location("toy_learner", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_toy = load_program()
ToyLearner, new_run, outcome = _toy.ToyLearner, _toy.new_run, _toy.outcome
uninterrupted, at_step = _toy.uninterrupted, _toy.at_step


def test_a_metric_that_is_nan_stops_training_and_names_the_step(runs_root: Path) -> None:
    run, learner = new_run(runs_root), ToyLearner()
    iterate = learner.iterate
    learner.iterate = lambda: {**iterate(), **({"train/loss_policy": np.nan} if learner.num_timesteps == 70 else {})}
    with pytest.raises(DivergedError, match=r"^train/loss_policy became NaN or infinite at step 70: ") as caught:
        train(learner, run, total_steps=300, checkpoint_every=20)
    # What is said can be done: a run cannot be resumed with another learning rate or seed.
    told = str(caught.value)
    assert "start a new run with a lower learning rate or another seed" in told
    kept = "what was learned up to step 60 is kept in step-000000000060"
    assert told.endswith(f"{kept}, which can be used: {command('evaluate', run.path)}")
    assert "--resume" not in told
    info = Run.open(run.path).info
    assert info.status == "failed"
    assert "train/loss_policy" in info.reason
    assert run.checkpoints.steps() == [20, 40, 60]
    assert read_lines(run.path / "metrics.jsonl")[-1]["train/loss_policy"] is None


def test_what_diverges_at_once_is_not_to_be_resumed(runs_root: Path) -> None:
    run, learner = new_run(runs_root), ToyLearner()
    iterate = learner.iterate
    learner.iterate = lambda: {**iterate(), "train/loss_policy": np.inf}
    with pytest.raises(DivergedError, match=r"as a resumed one keeps both; nothing had been learned yet$"):
        train(learner, run, total_steps=300)


def test_a_state_that_is_nan_is_saved(runs_root: Path) -> None:
    run = new_run(runs_root)
    arrays = {"qpos": np.array([[0.0, np.nan]]), "action": np.array([[1e9]])}

    def explode() -> None:
        raise NonFiniteState("Hopper-v5 produced NaN in world(s) [3]", step=12, worlds=[3], arrays=arrays)

    with pytest.raises(NonFiniteState) as caught:
        train(at_step(ToyLearner(), 70, explode), run, total_steps=300, checkpoint_every=20)
    path = run.path / "failure" / "step-000000000070.npz"
    where = "Hopper-v5 produced NaN in world(s) [3]; training stopped after step 70, counted over all worlds"
    kept = "what was learned up to step 60 is kept in step-000000000060"
    again = f"once this is mended, go on with: {resume_command(run)}"
    assert str(caught.value) == f"{where}; the state is saved in {path}; {kept}; {again}"
    saved = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(saved["qpos"], arrays["qpos"])
    assert (saved["worlds"].tolist(), int(saved["environment_step"]), int(saved["training_step"])) == ([3], 12, 70)
    info = Run.open(run.path).info
    assert (info.status, info.reason) == ("failed", f"{where}; the state is saved in {path}")
    assert run.checkpoints.steps() == [20, 40, 60]


def test_any_other_failure_is_recorded_and_comes_through(runs_root: Path) -> None:
    run = new_run(runs_root)

    def fail() -> None:
        raise ZeroDivisionError("in the environment")

    with pytest.raises(ZeroDivisionError):
        train(at_step(ToyLearner(), 50, fail), run, total_steps=300, checkpoint_every=20)
    info = Run.open(run.path).info
    assert (info.status, info.reason) == ("failed", "ZeroDivisionError: in the environment")
    learner = ToyLearner()
    resume(learner, run)
    train(learner, run, total_steps=300, checkpoint_every=20)
    assert outcome(run) == uninterrupted(runs_root, total_steps=300, checkpoint_every=20)


@pytest.mark.parametrize("error", [ZeroDivisionError("in the environment"), UserError("step() raised: no")])
def test_a_failure_loses_only_the_unit_at_hand(runs_root: Path, error: Exception) -> None:
    run = new_run(runs_root)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        train(at_step(ToyLearner(), 90, fail), run, total_steps=300, checkpoint_every=50)
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "what was learned up to step 80 is kept in step-000000000080" in told
    assert told.endswith(f"go on with: {resume_command(run)}")
    assert run.checkpoints.steps() == [50, 80]
    assert Run.open(run.path).info.reason.endswith(str(error).partition(";")[0])
    learner = ToyLearner()
    assert resume(learner, run).step == 80
    train(learner, run, total_steps=300, checkpoint_every=50)
    assert outcome(run) == uninterrupted(runs_root, total_steps=300, checkpoint_every=50)


def test_a_failure_of_whoever_watches_loses_nothing(runs_root: Path) -> None:
    run = new_run(runs_root)

    def watch(progress: Progress) -> None:
        assert progress.step < 70

    with pytest.raises(AssertionError):
        train(ToyLearner(), run, total_steps=300, checkpoint_every=50, on_progress=watch)
    assert run.checkpoints.steps() == [50, 70]


def test_a_failure_in_the_first_unit_leaves_nothing_to_go_on_from(runs_root: Path) -> None:
    run = new_run(runs_root)

    def fail() -> None:
        raise UserError("step() raised")

    with pytest.raises(
        UserError, match=r"nothing had been learned yet; once this is mended, start again with: .*resume"
    ):
        train(at_step(ToyLearner(), 10, fail), run, total_steps=300)
    assert run.checkpoints.steps() == []


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_failure(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(runs_root)

    def fail() -> None:
        monkeypatch.setattr(run.checkpoints, "save", refuse)
        raise UserError("step() raised")

    def refuse(*_: Any, **__: Any) -> None:
        raise DiskError("the disk is full")

    with pytest.raises(UserError, match="raised; what was learned up to step 20 is lost: the disk is full"):
        train(at_step(ToyLearner(), 30, fail), run, total_steps=300)
