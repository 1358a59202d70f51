"""Each stage learns what it is for, the level is calibrated, and a training that stopped goes on bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.controllers.registry import load_preset
from rlstab.controllers.roa.car import closed_loop, stages, system
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import RoaLearner, make_learner
from rlstab.controllers.roa.levels import measured_level
from rlstab.envs.hybrid.car_lqr import car_lqr
from rlstab.errors import UserError
from rlstab.policies.roa.car import DOMAIN, STARTS, CarModel

ENV = "rlstab/CarTracking-v0"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that take a second."""
    monkeypatch.setattr(stages, "_REGULATORS", 48)
    monkeypatch.setattr(stages, "_LOOPS", 64)
    monkeypatch.setattr(stages, "_HORIZON", 12)
    for name, value in (("training", 24), ("calibrating", 24), ("starts", 64)):
        monkeypatch.setattr(stages.Level, name, value)


def config(**changes: object) -> RoaConfig:
    settings = {"env": ENV, "total_steps": 20, "steps_per_iteration": 3, "learning_rate": 2e-3, "hidden_sizes": (32,)}
    return RoaConfig(**(settings | changes))  # pyright: ignore[reportArgumentType]


def weights(learner: RoaLearner) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in learner.policy.module.state_dict().items()}


def train(stage: stages.Stage, steps: int, rate: float) -> list[float]:
    optimiser = torch.optim.Adam(list(stage.parameters()), rate)
    stage.draw(np.random.default_rng(0))
    losses = []
    for step in range(steps):
        loss, _ = stage.loss(np.random.default_rng(step), step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.usefixtures("small")
def test_a_training_that_stopped_anywhere_goes_on_bit_for_bit() -> None:
    whole = make_learner(config())
    while whole.num_timesteps < 20:
        whole.iterate()
    # In the first, at the end of the first, in the second, and in the last stage.
    for pause in (3, 8, 9, 15):
        first = make_learner(config())
        while first.num_timesteps < pause:
            first.iterate()
        again = make_learner(config(seed=0))
        again.load_state_dict(first.state_dict())
        while again.num_timesteps < 20:
            again.iterate()
        for name, value in weights(whole).items():
            assert np.array_equal(weights(again)[name], value), (pause, name)
    assert float(whole.policy.module.margin) != 0.0


@pytest.fixture(scope="module")
def imitated() -> tuple[CarModel, list[float]]:
    """Networks that have become linear regulators."""
    torch.manual_seed(0)
    model = CarModel(hidden_sizes=(64, 64), state_sizes=(32,))
    patch = pytest.MonkeyPatch()
    patch.setattr(stages, "_REGULATORS", 192)
    losses = train(stages.Imitation(model), 700, 4e-3)
    patch.undo()
    return model, losses


def test_imitation_learns_regulators_that_it_was_not_shown(imitated: tuple[CarModel, list[float]]) -> None:
    model, losses = imitated
    assert losses[-1] < 0.02 * losses[0]
    for mode in ((1.0, 5.0), (0.1, 7.0), (0.5, 10.0)):
        design = car_lqr(*mode, control_weight=stages.CONTROL_WEIGHT)
        told = torch.tensor([mode])
        gain, factor = model.gain(told)[0].detach().numpy(), model.factor(told)[0].detach().double().numpy()
        wanted = design.gain * STARTS
        assert np.linalg.norm(gain * STARTS - wanted) < 0.1 * np.linalg.norm(wanted)
        x = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 7)) * STARTS
        value = 0.5 * np.square(x @ factor.T).sum(1)
        exact = 0.5 * np.einsum("ni,ij,nj->n", x, design.p, x)
        # Small networks and a short training, here.
        assert np.median(np.abs(value / exact - 1.0)) < 0.2


def test_growth_makes_more_starts_stable_without_losing_accuracy(imitated: tuple[CarModel, list[float]]) -> None:
    model = CarModel(**imitated[0].settings())
    model.load_state_dict(imitated[0].state_dict())
    rng = np.random.default_rng(7)
    x = closed_loop.draw_states(rng, 400)
    modes = torch.tensor([[0.1, 6.0], [1.0, 6.0]]).repeat(200, 1)

    def measured() -> tuple[float, float]:
        loops = closed_loop.roll_out(model, x, modes, closed_loop.STEPS)
        return float(closed_loop.stable(loops.values).mean()), float(np.square(loops.states).sum(2).mean())

    before = measured()
    patch = pytest.MonkeyPatch()
    patch.setattr(stages, "_LOOPS", 96)
    patch.setattr(stages, "_HORIZON", 30)
    train(stages.Growth(model, closed_loop.DECREASE), 30, 3e-3)
    patch.undo()
    after = measured()
    assert after[0] > before[0] + 0.05
    assert after[1] < 1.05 * before[1]


def test_the_level_is_learned_and_its_margin_covers_new_configurations(
    imitated: tuple[CarModel, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("training", 96), ("calibrating", 48), ("starts", 96)):
        monkeypatch.setattr(stages.Level, name, value)
    stage = stages.Level(imitated[0], closed_loop.DECREASE, 0.2)
    losses = train(stage, 150, 5e-3)
    assert losses[-1] < 0.5 * losses[0]
    stage.conclude(np.random.default_rng(1))
    modes, level = stage.measure(np.random.default_rng(2), 48)
    assert float((level > 0.0).float().mean()) > 0.5
    covered = imitated[0].level(modes) <= level
    # 80 % on average over calibrations; this is one of them.
    assert float(covered.float().mean()) > 0.6


def test_stages_train_their_own_weights_only(imitated: tuple[CarModel, list[float]]) -> None:
    model = imitated[0]
    imitation, growth, level = system.make_stages(model, config())
    names = {id(parameter): name.split(".")[0] for name, parameter in model.named_parameters()}
    trained = [{names[id(parameter)] for parameter in stage.parameters()} for stage in (imitation, growth, level)]
    assert trained[0] == {"gain_network", "factor_network"}
    assert trained[1] == {"gain_network", "factor_network", "state_network"}
    assert trained[2] == {"level_network"}


def test_a_roll_out_that_leaves_the_domain_is_not_stable() -> None:
    torch.manual_seed(0)
    model = CarModel()
    x, modes = closed_loop.sample(np.random.default_rng(0), 3, 50)
    loops = closed_loop.roll_out(model, x.flatten(0, 1), modes.repeat_interleave(50, 0), 60)
    left = (np.abs(loops.states) > DOMAIN).any((0, 2))
    assert left.any()
    assert not left.all()
    assert np.array_equal(np.isinf(loops.values).any(0), left)
    stable = closed_loop.stable(loops.values)
    assert not stable[left].any()
    level, _ = measured_level(loops.values[0].reshape(3, 50), stable.reshape(3, 50))
    assert (level >= 0.0).all()


def test_samples_are_spread_over_starts_and_modes() -> None:
    x, modes = closed_loop.sample(np.random.default_rng(0), 400, 5)
    assert x.shape == (400, 5, 7)
    assert modes.shape == (400, 2)
    assert bool((x.abs() <= torch.tensor(STARTS)).all())
    share = float((modes[:, 0] == 0.1).float().mean())
    assert 0.18 < share < 0.32
    assert 3.0 <= float(modes[:, 1].min()) < 3.5
    assert 26.0 < float(modes[:, 1].max()) <= 30.0


def test_the_preset_is_the_cars_and_limits_are_checked() -> None:
    assert load_preset("roa", ENV).values["total_steps"] > 1000
    assert system.make_model(config()).limit == 8.0
    assert system.make_model(config(env_kwargs={"max_control": 5.0})).limit == 5.0
    with pytest.raises(UserError, match="max_control must be a positive number, got -1"):
        system.make_model(config(env_kwargs={"max_control": -1.0}))


def test_v_may_rise_for_a_moment_but_must_fall_over_every_span() -> None:
    span = closed_loop.SPAN
    falling = 0.99 ** np.arange(101.0)
    moment, late, out = falling.copy(), falling.copy(), falling.copy()
    moment[5] *= 1.05
    late[60:] = late[59]
    out[7] = np.inf
    values = np.stack([falling, moment, late, out, np.full(101, 0.5 * closed_loop.NEAR)], 1)
    assert closed_loop.stable(values).tolist() == [True, True, False, False, True]
    just = (1.0 - closed_loop.DECREASE) ** np.arange(101.0)
    assert closed_loop.stable(just[:, None]).all()
    assert not closed_loop.stable(just[:, None], 1.1 * closed_loop.DECREASE).any()
    assert span == 20
