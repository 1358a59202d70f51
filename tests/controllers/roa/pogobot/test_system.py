"""Training: repeatable, resumed bit for bit, and better than before; roll-outs and levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import make_learner
from rlstab.controllers.roa.pogobot import domain, level_stage, stance_stage, system
from rlstab.controllers.roa.pogobot.control_stage import ControlStage
from rlstab.controllers.roa.pogobot.handmade import exact_hop
from rlstab.controllers.roa.pogobot.stance_stage import StanceStage
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.policies.roa.pogobot import PogobotModel

ID = "rlstab/Pogobot-v0"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stance_stage, "HOPS", 2000)
    for name, value in (("REFERENCES", 20), ("STARTS", 60), ("CALIBRATION", 20)):
        monkeypatch.setattr(level_stage, name, value)


def config(**changes) -> RoaConfig:
    settings = {"env": ID, "total_steps": 60, "batch_size": 64, "steps_per_iteration": 10, "hidden_sizes": (16, 16)}
    return RoaConfig(**(settings | changes))


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_resumed_training_is_the_same_training() -> None:
    whole = make_learner(config(), make_vec(ID, 1))
    half = make_learner(config(), make_vec(ID, 1))
    metrics = [whole.iterate() for _ in range(3)]
    for _ in range(3):
        half.iterate()
    resumed = make_learner(config(seed=0), make_vec(ID, 1))
    resumed.load_state_dict(half.state_dict())
    while whole.num_timesteps < 60:
        metrics.append(whole.iterate())
        assert resumed.iterate().keys() == metrics[-1].keys()
    assert torch.equal(weights(whole.policy.module), weights(resumed.policy.module))
    assert {name for line in metrics for name in line} >= {
        "train/stance_loss",
        "train/control_loss",
        "train/level_loss",
    }
    assert float(whole.policy.module.margin) != 0.0
    other = make_learner(config(seed=1), make_vec(ID, 1))
    assert not torch.equal(weights(other.policy.module)[:10], weights(whole.policy.module)[:10])


def _train(stage, steps: int, rate: float = 3e-3) -> None:
    stage.draw(np.random.default_rng(0))
    optimiser = torch.optim.Adam(list(stage.parameters()), rate)
    for step in range(steps):
        loss, _ = stage.loss(np.random.default_rng([1, step]), step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _errors(model: PogobotModel) -> float:
    """Of the next apex, root mean square, on hops that were not trained on."""
    rng = np.random.default_rng(7)
    apices = rng.uniform([0.0, 1.2], [2.5, 2.5], (300, 2))
    controls = np.stack([0.08 * apices[:, 0], rng.uniform(-2000.0, 2000.0, 300)], -1)
    after, dx, _, failed = domain.take_hops(apices, controls)
    with torch.no_grad():
        hops = model.predict(torch.tensor(apices).float(), torch.tensor(controls).float())
    seen = torch.stack([hops.xdot, hops.y, hops.dx], -1).numpy()
    return float(np.sqrt(((seen - np.concatenate([after, dx[:, None]], 1))[~failed] ** 2).mean()))


def test_stages_train_what_they_are_for_and_nothing_else() -> None:
    torch.manual_seed(0)
    model = PogobotModel((32, 32))
    before = {name: value.clone() for name, value in model.named_parameters()}
    first = _errors(model)
    _train(StanceStage(model, config(batch_size=256)), 400)
    assert _errors(model) < 0.5 * first
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"stance"}
    x, c = (part[:, 0] if part.ndim == 3 else part for part in system.sample(np.random.default_rng(3), 300, 1))
    rises = []
    for _ in range(2):
        values = system.roll_out(model, x, c, 1).values
        rises.append(float((values[1] > 0.5 * values[0]).mean()))
        _train(ControlStage(model, config(batch_size=256)), 200)
    assert rises[1] < rises[0] - 0.2
    moved = {name.split(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"stance", "actor", "shape"}


class Weak(PogobotModel):
    """Exact deadbeat within a small force and angle: it fails where much is to be changed."""

    def control(self, x, configuration):
        error = (x - configuration).double()
        return torch.stack(
            [0.08 * x[:, 0] + 0.08 * error[:, 0].clamp(-0.5, 0.5), 500.0 * error[:, 1].sign()], -1
        ).float()


def test_levels_of_a_weak_controller_are_found_and_hold() -> None:
    torch.manual_seed(0)
    model = Weak()
    references, levels, found = level_stage.measure_levels(model, np.random.default_rng(0), 10, 200)
    assert references.shape == (10, 2)
    assert found.mean() > 0.8
    assert (levels < 0.2).all()
    with pytest.raises(UserError, match="more than 5 starts"):
        level_stage.measure_levels(model, np.random.default_rng(0), 3, 5)


def test_the_level_network_learns_levels_and_its_margin_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(model, rng, references, starts):
        c = domain.draw_references(rng, references)
        levels = np.exp(-0.5 * c[:, 0] + 0.3 * c[:, 1] + rng.normal(0.0, 0.1, references))
        return c, levels, np.ones(references, bool)

    monkeypatch.setattr(level_stage, "measure_levels", planted)
    monkeypatch.setattr(level_stage, "REFERENCES", 500)
    monkeypatch.setattr(level_stage, "CALIBRATION", 200)
    torch.manual_seed(0)
    model = PogobotModel()
    stage = level_stage.LevelStage(model, config(batch_size=256, calibration=0.1))
    _train(stage, 300)
    stage.conclude(np.random.default_rng(5))
    c, levels, _ = planted(model, np.random.default_rng(6), 1000, 1)
    with torch.no_grad():
        claimed = model.level(torch.tensor(c).float()).numpy()
    assert np.abs(np.log(claimed / levels) + float(model.margin)).mean() < 0.15
    assert 0.84 < (claimed <= levels).mean() < 0.96
    assert float(model.margin) > 0.0


def test_roll_outs_are_exact_and_end_where_a_hop_fails() -> None:
    torch.manual_seed(0)
    model = PogobotModel()
    x = torch.tensor([[1.0, 1.5], [2.0, 2.0]])
    c = torch.tensor([[1.0, 1.5], [1.5, 1.8]])
    rolled = system.roll_out(model, x, c, 2)
    with torch.no_grad():
        hops = exact_hop(x.double(), model.control(x, c).double())
    np.testing.assert_allclose(rolled.states[1], np.stack([hops.xdot, hops.y], -1), atol=1e-12)
    assert rolled.values.shape == (3, 2)
    low = system.roll_out(model, torch.tensor([[3.0, 0.9]]), c[:1], 1)
    assert np.isinf(low.values[1]).all()


def test_samples_are_within_the_domain_and_its_rim_around_them() -> None:
    x, c = system.sample(np.random.default_rng(0), 50, 20)
    assert (x[..., 1] >= domain.LOWEST - 1e-6).all()
    assert ((x - c[:, None]).abs() <= torch.tensor(domain.REACH) + 1e-6).all()
    rim = domain.rim(c.double().numpy())
    reached = np.abs(rim - c[:, None].numpy()) / domain.REACH
    np.testing.assert_allclose(reached.max(-1), 1.0, atol=1e-6)


def test_limits_of_the_environment_are_those_of_the_model() -> None:
    model = system.make_model(config(env_kwargs={"largest_angle": 0.4}))
    assert (model.largest_angle, model.largest_force) == (0.4, 5000.0)
