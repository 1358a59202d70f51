from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstab.controllers.runs import begin, configure, go_on, is_complete
from rlstab.errors import UserError
from rlstab.learning import training
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.run import Run

SMALL: dict[str, Any] = {"preset": "none", "num_envs": 2, "n_steps": 64, "batch_size": 32, "n_epochs": 1}


def small(**changes: Any) -> Any:
    settings = {**SMALL, "hidden_sizes": (8,), "total_steps": 256, "checkpoint_every": 128, "keep": 2, **changes}
    return configure("ppo", "InvertedPendulum-v5", **settings)


@pytest.fixture
def trained(runs_root: Path) -> Run:
    run, summary = begin("ppo", small(), runs_root, name="run", tell=lambda line: None)
    assert summary.status == "finished"
    return run


def weights(run: Run) -> dict[str, np.ndarray]:
    newest = run.checkpoints.latest()
    assert newest is not None
    return read_checkpoint(newest, branch="policy").state["policy"]["weights"]


def damage(run: Run, step: int) -> None:
    file = run.checkpoints.at(step) / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def test_settings_override_the_preset_and_the_preset_the_defaults() -> None:
    config = configure("sac", "Swimmer-v5", learning_starts=7)
    assert (config.env, config.gamma, config.learning_starts) == ("Swimmer-v5", 0.9999, 7)
    assert configure("sac", "Swimmer-v5", preset="none").gamma == 0.99
    assert configure("ppo", preset="quickstart").env == "Hopper-v5"
    assert small().hidden_sizes == (8,)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"gamme": 0.9}, "gamme"), ({"gamma": 1.5}, "at most 1"), ({"num_envs": "four"}, "num_envs")],
)
def test_wrong_settings_are_named(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        configure("ppo", "Hopper-v5", **settings)


def test_an_environment_without_version_is_the_latest_one_everywhere(runs_root: Path) -> None:
    assert configure("sac", "Swimmer").env == "Swimmer-v5"
    assert configure("sac", "Swimmer").gamma == 0.9999, "the preset of Swimmer-v5"
    config = dataclasses.replace(small(), env="InvertedPendulum", total_steps=128)
    run, _ = begin("ppo", config, runs_root, tell=lambda line: None)
    assert run.info.env_id == run.info.config["env"] == "InvertedPendulum-v5"
    assert "InvertedPendulum-v5" in run.path.name


def test_a_name_is_looked_at_before_anything_else(runs_root: Path) -> None:
    with pytest.raises(UserError, match="an empty name cannot name a run"):
        begin("ppo", dataclasses.replace(small(), env="Nothing-v0"), runs_root, name="")


def test_begin_heeds_the_whole_configuration_and_records_what_computed(trained: Run) -> None:
    assert trained.checkpoints.steps() == [128, 256]
    assert trained.checkpoints.keep_last == 2
    info = Run.open(trained.path).info
    assert (info.device, info.torch_threads) == ("cpu", torch.get_num_threads())
    assert info.command


def test_the_device_that_was_chosen_is_recorded(runs_root: Path) -> None:
    run, _ = begin("ppo", small(device="auto"), runs_root, tell=lambda line: None)
    assert run.info.device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_mistake_leaves_no_folder(runs_root: Path) -> None:
    for config in (small(device="meta"), dataclasses.replace(small(), gamma=2.0)):
        with pytest.raises(UserError):
            begin("ppo", config, runs_root)
    assert not runs_root.exists()


def test_a_run_is_complete_when_it_says_so_and_its_last_checkpoint_is_intact(trained: Run) -> None:
    assert is_complete(trained)
    assert not is_complete(trained, total_steps=512)
    trained.update(status="running")
    assert not is_complete(trained)
    trained.update(status="finished")
    damage(trained, 256)
    assert not is_complete(trained)


def test_a_complete_run_is_refused(trained: Run) -> None:
    with pytest.raises(UserError, match="has done its 256 steps; to train further, give a larger --total-steps"):
        go_on(trained)


def test_a_run_killed_before_its_conclusion_is_concluded(trained: Run) -> None:
    before = weights(trained)
    trained.update(status="running")
    assert go_on(trained, tell=lambda line: None).status == "finished"
    assert Run.open(trained.path).info.status == "finished"
    assert all(np.array_equal(value, before[name]) for name, value in weights(trained).items())


def test_a_damaged_last_checkpoint_is_trained_again(trained: Run) -> None:
    before = weights(trained)
    damage(trained, 256)
    told: list[str] = []
    assert go_on(trained, tell=told.append).status == "finished"
    assert any("renamed damaged-step-000000000256" in line for line in told)
    assert all(np.array_equal(value, before[name]) for name, value in weights(trained).items())


def test_what_another_process_did_meanwhile_counts(trained: Run) -> None:
    stale = Run.open(trained.path)
    go_on(trained, total_steps=384, tell=lambda line: None)
    with pytest.raises(UserError, match="has done its 384 steps"):
        go_on(stale)
    assert stale.info.total_steps == 384


def test_nobody_else_can_write_from_the_first_look_on(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    resume = training.resume

    def look(learner: Any, run: Run) -> Any:
        with pytest.raises(UserError, match="in use"), Run.open(run.path).lock():
            pass
        seen.append("resume")
        return resume(learner, run)

    monkeypatch.setattr(training, "resume", look)
    go_on(trained, total_steps=384, tell=lambda line: None)
    assert seen == ["resume"]


def test_a_new_length_is_kept_only_where_the_run_could_be_resumed(trained: Run) -> None:
    for step in trained.checkpoints.steps():
        damage(trained, step)
    with pytest.raises(UserError, match=r"no checkpoint of .* is intact"):
        go_on(trained, total_steps=512)
    assert Run.open(trained.path).info.config["total_steps"] == 256


def test_a_schedule_over_the_training_is_told(runs_root: Path) -> None:
    run, _ = begin("ppo", small(learning_rate_schedule="linear"), runs_root, tell=lambda line: None)
    told: list[str] = []
    go_on(run, total_steps=384, tell=told.append)
    assert any(
        "schedule of the learning rate was laid over 256 steps and is now laid over 384" in line for line in told
    )


def test_without_a_schedule_there_is_nothing_to_tell(trained: Run) -> None:
    told: list[str] = []
    go_on(trained, total_steps=384, tell=told.append)
    assert not any("laid over" in line for line in told)
