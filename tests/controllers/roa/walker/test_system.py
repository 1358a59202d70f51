"""The walker's training: what it changes, that it can be stopped, and what its level says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstab.cli.main import main
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import RoaLearner
from rlstab.controllers.roa.walker import system
from rlstab.controllers.roa.walker.certificate import state_regions
from rlstab.controllers.roa.walker.data import gait_states, judge, sample_gaits, sample_states
from rlstab.controllers.roa.walker.value_stage import ValueStage, values_of
from rlstab.controllers.runs import begin, configure, go_on
from rlstab.errors import UserError
from rlstab.policies.loading import load_policy
from rlstab.policies.roa.walker import WalkerModel
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.run import Run
from rlstab.sim2real.policy_onnx import OnnxPolicy

SMALL: dict[str, Any] = {
    "total_steps": 12,
    "batch_size": 64,
    "steps_per_iteration": 4,
    "checkpoint_every": 4,
    "hidden_sizes": (8,),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "STATES", 300)
    monkeypatch.setattr(system, "HELD_OUT", 10)
    monkeypatch.setattr(system, "STARTS", 20)


def weights(run: Run) -> dict[str, np.ndarray]:
    newest = run.checkpoints.latest()
    assert newest is not None
    return read_checkpoint(newest, branch="policy").state["policy"]["weights"]


@pytest.mark.usefixtures("small")
def test_a_run_that_was_stopped_and_resumed_equals_one_that_was_not(tmp_path: Path, monkeypatch: Any) -> None:
    config = configure("roa", "rlstab/Walker-v0", preset="none", **SMALL)
    whole, _ = begin("roa", config, tmp_path, name="whole", tell=lambda line: None)
    iterate, calls = RoaLearner.iterate, iter(range(100))

    def dies(self: RoaLearner) -> dict[str, float]:
        if next(calls) == 2:
            raise SystemExit
        return iterate(self)

    monkeypatch.setattr(RoaLearner, "iterate", dies)
    with pytest.raises(SystemExit):
        begin("roa", config, tmp_path, name="stopped", tell=lambda line: None)
    monkeypatch.setattr(RoaLearner, "iterate", iterate)
    stopped = Run.open(tmp_path / "stopped")
    assert 0 < max(stopped.checkpoints.steps()) < 12
    assert go_on(stopped, tell=lambda line: None).status == "finished"
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(stopped)[name], err_msg=name)
    assert weights(whole)["margin"] != 0.0


@pytest.mark.usefixtures("small")
def test_the_command_line_trains_evaluates_and_exports(tmp_path: Path) -> None:
    where = ["--env", "rlstab/Walker-v0", "--run-dir", str(tmp_path), "--name", "run", "--num-threads", "1"]
    assert main(["train", "roa", *where, "--total-steps", "4", "--batch-size", "64", "--hidden-sizes", "8"]) == 0
    run = tmp_path / "run"
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert main(["export", str(run)]) == 0
    gait = np.linspace(0.05, 0.17, 4)
    observations = np.concatenate([gait_states(gait) + 0.02, gait[:, None]], 1).astype(np.float32)
    exported, _ = OnnxPolicy.load(run / "exports" / "policy.onnx").predict(observations, deterministic=True)
    np.testing.assert_allclose(exported, load_policy(run).predict(observations, deterministic=True)[0], atol=1e-5)


def test_training_tells_states_that_stay_from_those_that_fall() -> None:
    torch.manual_seed(0)
    model = system.make_model(RoaConfig(hidden_sizes=(32, 32)))
    stage = ValueStage(model, 256, 0.05, 0.1, states=2000, gaits=12, starts=40)
    stage.draw(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    fresh = judge(sample_states(rng, 600), sample_gaits(rng, 600))

    def misjudged() -> float:
        return float(((values_of(model, fresh) <= 1.0) != fresh.stable).mean())

    before, optimiser = misjudged(), torch.optim.Adam(stage.parameters(), 5e-3)
    orbits = model.orbits.clone()
    for step in range(220):
        loss, _ = stage.loss(np.random.default_rng(step), 0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert misjudged() < min(0.15, 0.5 * before)
    torch.testing.assert_close(model.orbits, orbits)
    stage.conclude(np.random.default_rng(2))
    assert 0.0 < float(model.level(torch.tensor([[0.1]]))[0]) < 1.5
    said = state_regions(model, rng, samples=100, alpha=0.05, calibration=0.1, gaits=4, starts=40)
    assert 0.0 < said.acceptance < 1.0
    assert said.failure_bound > said.failures / said.samples
    assert said.rise_bound > said.rises / said.samples


def test_nothing_inside_is_refused() -> None:
    model = WalkerModel((8,), 4)
    model.margin.fill_(40.0)
    with pytest.raises(UserError, match="are inside the level"):
        state_regions(model, np.random.default_rng(0), samples=10, alpha=0.05, calibration=0.1)


def test_roll_outs_are_infinite_once_a_walker_falls() -> None:
    model = system.make_model(RoaConfig(hidden_sizes=(8,)))
    x = torch.as_tensor(np.concatenate([gait_states(np.array([0.13])) + 0.01, [[0.13, -0.26, -0.1, 0.3]]])).float()
    found = system.roll_out(model, x, torch.tensor([[0.13], [0.13]]), 3)
    assert found.values.shape == (4, 2)
    assert np.isfinite(found.values[:, 0]).all()
    assert np.isinf(found.values[1:, 1]).all()
    states, configurations = system.sample(np.random.default_rng(0), 3, 5)
    assert states.shape == (3, 5, 4)
    assert configurations.shape == (3, 1)
