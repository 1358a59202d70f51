"""The method from its configuration: kept, resumed, loaded and exported like the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.cli.main import main
from rlstab.controllers.runs import begin, configure, go_on
from rlstab.controllers.sa_ppo.state_adversarial import StateAdversarialLearner
from rlstab.policies.loading import load_policy
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.run import Run
from rlstab.sim2real.policy_onnx import OnnxPolicy

SMALL: dict[str, Any] = {
    "preset": "none",
    "num_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 2,
    "hidden_sizes": (8,),
    "checkpoint_every": 64,
    "ramp": 0.25,
}


def weights(run: Run) -> dict[str, np.ndarray]:
    newest = run.checkpoints.latest()
    assert newest is not None
    return read_checkpoint(newest, branch="policy").state["policy"]["weights"]


def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(tmp_path: Path, monkeypatch: Any) -> None:
    config = configure("sa_ppo", "InvertedPendulum-v5", total_steps=384, **SMALL)
    whole, _ = begin("sa_ppo", config, tmp_path, name="whole", tell=lambda line: None)
    collect, calls = StateAdversarialLearner.collect, iter(range(100))

    def dies(self: StateAdversarialLearner, watcher: Any = None) -> bool:
        if next(calls) == 4:
            raise SystemExit
        return collect(self, watcher)

    monkeypatch.setattr(StateAdversarialLearner, "collect", dies)
    with pytest.raises(SystemExit):
        begin("sa_ppo", config, tmp_path, name="stopped", tell=lambda line: None)
    monkeypatch.setattr(StateAdversarialLearner, "collect", collect)
    stopped = Run.open(tmp_path / "stopped")
    assert 0 < max(stopped.checkpoints.steps()) < 384
    assert go_on(stopped, tell=lambda line: None).status == "finished"
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(stopped)[name], err_msg=name)


def test_the_command_line_trains_resumes_evaluates_and_exports(tmp_path: Path) -> None:
    small = ["--num-envs", "2", "--n-steps", "32", "--batch-size", "32", "--n-epochs", "2", "--num-threads", "1"]
    where = ["--env", "InvertedPendulum-v5", "--run-dir", str(tmp_path), "--name", "run"]
    assert main(["train", "sa_ppo", *where, *small, "--total-steps", "128", "--kappa", "1.5", "--inner", "pgd"]) == 0
    run = tmp_path / "run"
    assert main(["train", "--resume", str(run), "--total-steps", "192"]) == 0
    assert Run.open(run).read_metrics()["train/divergence"].iloc[-1] > 0.0
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert main(["export", str(run)]) == 0
    observations = np.zeros((3, 4), np.float32)
    exported, _ = OnnxPolicy.load(run / "exports" / "policy.onnx").predict(observations, deterministic=True)
    np.testing.assert_allclose(exported, load_policy(run).predict(observations, deterministic=True)[0], atol=1e-6)


def test_presets_are_those_of_ppo_with_the_authors_radius() -> None:
    config: Any = configure("sa_ppo", "Walker2d-v5")
    assert (config.epsilon, config.kappa, config.learning_rate_schedule) == (0.05, 0.2, "linear")
    assert configure("sa_ppo", "Ant-v5").epsilon == 0.15
