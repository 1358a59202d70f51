from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.learning.training import Progress, resume, resume_command, train
from rlstab.runs import checkpoint as checkpoint_module
from rlstab.runs.atomic import DiskError
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.metrics import read_lines
from rlstab.runs.run import Run, list_runs
from rlstab.runs.tensors import digest_file

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


def test_training_leaves_metrics_checkpoints_and_a_status(runs_root: Path) -> None:
    run = new_run(runs_root)
    seen: list[Progress] = []
    summary = train(ToyLearner(), run, total_steps=205, checkpoint_every=50, on_progress=seen.append)
    assert (summary.status, summary.step) == ("finished", 210)
    assert [line["step"] for line in read_lines(run.path / "metrics.jsonl")] == list(range(10, 220, 10))
    assert set(run.checkpoints.steps()) >= {150, 200, 210}
    info = Run.open(run.path).info
    assert (info.status, info.step, info.total_steps) == ("finished", 210, 205)
    assert [entry["event"] for entry in info.history] == ["started", "finished"]
    assert [progress.step for progress in seen] == list(range(10, 220, 10))
    assert seen[-1].remaining_s == 0
    assert summary.last_checkpoint == run.checkpoints.at(210)
    assert summary.best_checkpoint == run.checkpoints.best()
    assert summary.warnings == ()


def test_the_best_checkpoint_has_the_highest_mean_return(runs_root: Path) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=400, checkpoint_every=20)
    lines = {line["step"]: line.get("rollout/return_mean") for line in read_lines(run.path / "metrics.jsonl")}
    scores = [(lines[step], step) for step in range(20, 401, 20) if lines[step] is not None]
    assert run.checkpoints.best() == run.checkpoints.at(max(scores)[1])


@given(stops=st.lists(st.integers(1, 20).map(lambda units: units * 10), max_size=3, unique=True))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_interruptions_change_nothing(tmp_path_factory: pytest.TempPathFactory, stops: list[int]) -> None:
    root = tmp_path_factory.mktemp("runs")
    reference = uninterrupted(root, total_steps=205, checkpoint_every=45)
    run = new_run(root)
    for step in sorted(stops):
        learner, stop = ToyLearner(), threading.Event()
        resume(learner, run)
        summary = train(at_step(learner, step, stop.set), run, total_steps=205, checkpoint_every=45, stop=stop)
        assert summary.status == "interrupted"
        assert summary.last_checkpoint == run.checkpoints.at(step)
        run = Run.open(run.path)
    learner = ToyLearner()
    resume(learner, run)
    train(learner, run, total_steps=205, checkpoint_every=45)
    assert outcome(run) == reference


def test_the_elapsed_time_and_the_return_outlive_an_interruption(runs_root: Path) -> None:
    run = new_run(runs_root)
    stop = threading.Event()
    first = train(at_step(ToyLearner(unit_s=0.01), 200, stop.set), run, total_steps=300, stop=stop)
    learner = ToyLearner()
    resume(learner, run)
    seen: list[Progress] = []
    train(learner, run, total_steps=300, on_progress=seen.append)
    assert first.elapsed_s >= 0.2
    assert seen[0].elapsed_s >= 0.2
    assert first.return_mean is not None
    # Done already: nothing is left to do, and the summary says what was reached.
    learner = ToyLearner()
    resume(learner, run)
    again = train(learner, run, total_steps=300)
    assert again.status == "finished"
    assert again.return_mean is not None


def test_a_finished_run_can_be_trained_further(runs_root: Path) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=200, checkpoint_every=50)
    learner = ToyLearner()
    resume(learner, run)
    train(learner, run, total_steps=400, checkpoint_every=50)
    assert outcome(run) == uninterrupted(runs_root, total_steps=400, checkpoint_every=50)


def test_ctrl_c_finishes_the_unit_and_says_how_to_go_on(runs_root: Path) -> None:
    run = new_run(runs_root)
    learner = at_step(ToyLearner(), 50, lambda: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    summary = train(learner, run, total_steps=300)
    assert signal.getsignal(signal.SIGINT) is before
    assert (summary.status, summary.step) == ("interrupted", 50)
    assert summary.message == f"interrupted (Ctrl-C) at step 50 of 300; go on with: {resume_command(run)}"
    info = Run.open(run.path).info
    assert (info.status, info.reason, info.step) == ("interrupted", "Ctrl-C", 50)
    assert read_checkpoint(run.checkpoints.at(50)).state["num_timesteps"] == 50


def test_a_second_ctrl_c_aborts_at_once_and_keeps_the_last_checkpoint(runs_root: Path) -> None:
    run = new_run(runs_root)

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(at_step(ToyLearner(), 50, twice), run, total_steps=300, checkpoint_every=20)
    info = Run.open(run.path).info
    assert (info.status, info.reason) == ("interrupted", "aborted at step 50")
    assert run.checkpoints.steps() == [20, 40]
    learner = ToyLearner()
    resume(learner, run)
    train(learner, run, total_steps=300, checkpoint_every=20)
    assert outcome(run) == uninterrupted(runs_root, total_steps=300, checkpoint_every=20)


def test_the_command_to_resume_quotes_the_path(runs_root: Path) -> None:
    run = new_run(runs_root / "my runs")
    assert resume_command(run).endswith(f" train --resume '{run.path}'")


def start(run: Run) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(PROGRAM), str(run.path), "1500", "30"]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_units(process: subprocess.Popen[str], units: int) -> None:
    """Until the process has done so many units of work."""
    assert process.stdout is not None
    for _ in range(units):
        line = process.stdout.readline()
        assert line.strip().isdecimal(), line + process.stdout.read()


def test_kill_9_at_ten_random_moments_changes_nothing(runs_root: Path) -> None:
    reference = new_run(runs_root, "reference")
    train(ToyLearner(size=20_000), reference, total_steps=1500, checkpoint_every=30)
    run, moments = new_run(runs_root), random.Random(4)
    for attempt in range(10):
        with start(run) as process:
            if attempt == 0:  # Before it has written anything.
                time.sleep(0.05)
            else:
                wait_for_units(process, moments.randint(1, 12))
                time.sleep(moments.uniform(0.0, 0.008))
            finished_before = run.checkpoints.steps()
            process.kill()
            assert process.wait() == -signal.SIGKILL
        # No checkpoint is lost, and whatever stands under a checkpoint's name is whole.
        steps = run.checkpoints.steps()
        assert max(steps, default=0) >= max(finished_before, default=0)
        assert all(read_checkpoint(run.checkpoints.at(step)).step == step for step in steps)
        assert [(listed.info.status, listed.info.reason) for listed in list_runs(runs_root)][-1] == (
            "interrupted",
            "killed",
        )
    with start(run) as process:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert outcome(run) == outcome(reference)
    assert [entry["event"] for entry in Run.open(run.path).info.history].count("started") >= 8


def test_sigterm_in_a_process_of_its_own_writes_a_checkpoint(runs_root: Path) -> None:
    run = new_run(runs_root)
    with start(run) as process:
        wait_for_units(process, 2)
        process.terminate()
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "interrupted (SIGTERM)" in output
    info = Run.open(run.path).info
    assert info.status == "interrupted"
    assert info.step == run.checkpoints.steps()[-1] == read_lines(run.path / "metrics.jsonl")[-1]["step"]


def damage(path: Path) -> None:
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def test_resuming_skips_damaged_checkpoints_and_says_so(runs_root: Path) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=400, checkpoint_every=50)
    damage(run.checkpoints.at(400))
    damage(run.checkpoints.at(350))
    learner = ToyLearner()
    resumption = resume(learner, run)
    assert resumption.step == learner.num_timesteps == 300
    assert [path.name for path in resumption.damaged] == ["damaged-step-000000000400", "damaged-step-000000000350"]
    assert all(path.exists() for path in resumption.damaged)
    assert len(resumption.messages) == 3
    assert "its checksum is" in resumption.messages[0]
    assert "renamed damaged-step-000000000400" in resumption.messages[0]
    assert resumption.messages[-1].startswith("going on at step 300")
    train(learner, run, total_steps=400, checkpoint_every=50)
    for path in resumption.damaged:
        (path / "meta.json").unlink()
        (path / "tensors.safetensors").unlink()
        path.rmdir()
    result, reference = outcome(run), uninterrupted(runs_root, total_steps=400, checkpoint_every=50)
    assert result["metrics"] == reference["metrics"]
    assert result["tensors"]["step-000000000400"] == reference["tensors"]["step-000000000400"]


def test_resuming_goes_back_behind_a_checkpoint_that_cannot_be_read(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=200, checkpoint_every=50)
    broken = run.checkpoints.at(200)

    def digest(path: Path) -> Any:
        if path.parent == broken:
            raise OSError(errno.EIO, "Input/output error")
        return digest_file(path)

    monkeypatch.setattr(checkpoint_module, "digest_file", digest)
    learner = ToyLearner()
    resumption = resume(learner, run)
    assert (resumption.step, learner.num_timesteps) == (150, 150)
    assert "Input/output error; it was renamed damaged-step-000000000200" in resumption.messages[0]
    assert train(learner, run, total_steps=200, checkpoint_every=50).status == "finished"


def test_resuming_with_nothing_intact_changes_nothing(runs_root: Path) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=100, checkpoint_every=50)
    for step in run.checkpoints.steps():
        damage(run.checkpoints.at(step))
    before = sorted(os.listdir(run.checkpoints.folder))
    with pytest.raises(UserError, match=r"no checkpoint of .* is intact; the newest: .*checksum"):
        resume(ToyLearner(), run)
    assert sorted(os.listdir(run.checkpoints.folder)) == before
    assert len(read_lines(run.path / "metrics.jsonl")) == 10


def test_a_run_killed_before_its_first_checkpoint_starts_over(runs_root: Path) -> None:
    run = new_run(runs_root)
    run.metrics.write(10, {"train/loss_value": 1.0})
    run.close()
    learner = ToyLearner()
    resumption = resume(learner, run)
    assert (resumption.step, resumption.checkpoint) == (0, None)
    assert "starting at step 0" in resumption.messages[0]
    train(learner, run, total_steps=100, checkpoint_every=50)
    assert outcome(run) == uninterrupted(runs_root, total_steps=100, checkpoint_every=50)


def test_training_over_another_ones_checkpoints_is_refused(runs_root: Path) -> None:
    run = new_run(runs_root)
    train(ToyLearner(), run, total_steps=100, checkpoint_every=50)
    with pytest.raises(UserError, match=r"the learner is at step 0, but the newest checkpoint .* of step 100: resume"):
        train(ToyLearner(), run, total_steps=200)
    assert run.checkpoints.steps() == [50, 100]
    assert len(read_lines(run.path / "metrics.jsonl")) == 10


def test_two_processes_cannot_train_one_run(runs_root: Path) -> None:
    run = new_run(runs_root)
    with run.lock(), pytest.raises(UserError, match="in use by another process"):
        train(ToyLearner(), Run.open(run.path), total_steps=100)
    assert Run.open(run.path).info.status == "running"


def test_a_learner_that_stands_still_is_an_error(runs_root: Path) -> None:
    learner = ToyLearner()
    learner.iterate = dict
    with pytest.raises(RuntimeError, match="must advance"):
        train(learner, new_run(runs_root), total_steps=100)


@pytest.mark.parametrize(("total_steps", "checkpoint_every"), [(0, 10), (10, 0)])
def test_steps_must_be_positive(runs_root: Path, total_steps: int, checkpoint_every: int) -> None:
    with pytest.raises(UserError, match="must be positive"):
        train(ToyLearner(), new_run(runs_root), total_steps=total_steps, checkpoint_every=checkpoint_every)


def test_a_full_disk_is_told_once_and_loses_no_checkpoint(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, learner = new_run(runs_root), ToyLearner()

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        fill = at_step(learner, 120, lambda: patch.setattr(os, "fsync", refuse))
        with pytest.raises(DiskError) as caught:
            train(fill, run, total_steps=300, checkpoint_every=50)
    message = str(caught.value)
    assert "the disk is full: free some space" in message
    assert message.endswith(f"then go on with: {resume_command(run)}")
    assert "\n" not in message
    assert run.checkpoints.steps() == [50, 100]
    learner = ToyLearner()
    resume(learner, run)
    train(learner, run, total_steps=300, checkpoint_every=50)
    assert outcome(run) == uninterrupted(runs_root, total_steps=300, checkpoint_every=50)


def test_a_really_full_disk_is_told_once_and_loses_no_checkpoint(small_disk: Path) -> None:
    run = new_run(small_disk)

    def fill() -> None:
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))

    with pytest.raises(DiskError, match="the disk is full") as caught:
        train(at_step(ToyLearner(), 120, fill), run, total_steps=100_000, checkpoint_every=50)
    assert "\n" not in str(caught.value)
    steps = run.checkpoints.steps()
    assert {50, 100} <= set(steps)
    assert all(read_checkpoint(run.checkpoints.at(step)).step == step for step in steps)
    assert read_lines(run.path / "metrics.jsonl")[-1]["step"] >= steps[-1]
    (small_disk / "filler").unlink()
    learner = ToyLearner()
    assert resume(learner, run).step == steps[-1]
    assert train(learner, run, total_steps=steps[-1] + 50).status == "finished"


def test_a_run_on_a_disk_that_became_read_only(small_disk: Path) -> None:
    run = new_run(small_disk)
    train(ToyLearner(), run, total_steps=100, checkpoint_every=50)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskError, match="the file system is read-only: choose another folder"):
        resume(ToyLearner(), run)
    assert read_checkpoint(run.checkpoints.at(100)).step == 100
    assert len(run.read_metrics()) == 10
