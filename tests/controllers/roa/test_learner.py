from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import RoaLearner, make_learner
from rlstab.controllers.roa.stages import Stage
from rlstab.errors import DivergedError, UserError
from rlstab.policies.roa.model import RoaModel
from rlstab.policies.roa.policy import RoaPolicy


class Toy(RoaModel):
    """``x+ = x + u``, with a gain and a level to be learned."""

    system = "toy"
    state_size = configuration_size = control_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.size = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def settings(self):
        return {}

    def read(self, observation):
        return observation[:, :1], observation[:, 1:]

    def control(self, x, configuration):
        return -self.gain * x * configuration

    def value(self, x, configuration):
        return x[:, 0].square()

    def log_level(self, configuration):
        return self.size * configuration[:, 0]


class Fit(Stage):
    """Fits a parameter to what was drawn, with noise on every minibatch."""

    share = 1.0
    redraw_every = 7

    def __init__(self, name: str, parameter: nn.Parameter, log: list[str]) -> None:
        self.name = name
        self.parameter, self.log = parameter, log
        self.target = np.zeros(0)

    def parameters(self):
        return [self.parameter]

    def draw(self, rng):
        self.target = rng.normal(1.0, 0.1, 8)

    def loss(self, rng, progress) -> tuple[Tensor, dict[str, float]]:
        picked = torch.as_tensor(rng.choice(self.target, 4), dtype=torch.float32)
        return (self.parameter - picked).square().mean(), {"progress": progress}

    def conclude(self, rng):
        self.log.append(self.name)


def make(log: list[str] | None = None, **settings) -> RoaLearner:
    model = Toy()
    config = RoaConfig(**{"total_steps": 60, "steps_per_iteration": 10, "learning_rate": 0.1, **settings})
    box = spaces.Box(-10.0, 10.0, (2,), np.float32)
    policy = RoaPolicy(box, spaces.Box(-1.0, 1.0, (1,), np.float32), model)
    log = [] if log is None else log
    return RoaLearner(VectorEnv(), policy, [Fit("first", model.gain, log), Fit("second", model.size, log)], config)


def run(learner: RoaLearner) -> list[dict[str, float]]:
    lines = []
    while learner.num_timesteps < 60:
        lines.append(learner.iterate())
    return lines


def weights(learner: RoaLearner) -> list[float]:
    return [float(value) for value in learner.policy.module.state_dict().values()]


def test_stages_train_their_own_weights_one_after_the_other():
    log: list[str] = []
    learner = make(log)
    model = learner.policy.module
    assert isinstance(model, Toy)
    while learner.num_timesteps < 30:
        learner.iterate()
    assert float(model.gain.detach()) == pytest.approx(1.0, abs=0.2)
    assert float(model.size.detach()) == 0.0
    assert log == ["first"]
    before = float(model.gain.detach())
    lines = run(learner)
    assert float(model.gain.detach()) == before
    assert float(model.size.detach()) == pytest.approx(1.0, abs=0.2)
    assert log == ["first", "second"]
    assert {line["train/stage"] for line in lines} == {1.0}
    assert "train/second_loss" in lines[0]


@pytest.mark.parametrize("stop", [10, 20, 30, 40])
def test_a_resumed_training_ends_with_the_same_weights(stop):
    whole = make()
    run(whole)
    first = make()
    while first.num_timesteps < stop:
        first.iterate()
    second = make()
    second.load_state_dict(first.state_dict())
    run(second)
    assert weights(second) == weights(whole)


def test_seeds_differ():
    one, other = make(), make(seed=1)
    run(one)
    run(other)
    assert weights(one) != weights(other)


def test_divergence_is_an_error_of_its_own():
    learner = make()
    with torch.no_grad():
        learner.policy.module.get_parameter("gain").fill_(torch.nan)
    with pytest.raises(DivergedError, match="stage 'first' became nan at gradient step 0"):
        learner.iterate()


def test_other_environments_are_refused():
    with pytest.raises(UserError, match=r"roa knows the modes and resets of rlstab/CarTracking-v0.*not of Hopper-v5"):
        make_learner(RoaConfig(env="Hopper-v5"))


@pytest.mark.parametrize("env", ["CarTracking-v0", "Pogobot-v0", "Walker-v0"])
def test_a_confidence_that_cannot_be_calibrated_is_refused_before_training(env):
    with pytest.raises(UserError, match=r"calibration 0.0001 needs more than the \d+ configurations"):
        make_learner(RoaConfig(env=f"rlstab/{env}", calibration=0.0001))


@pytest.mark.parametrize(("env", "name"), [("CarTracking-v0", "max_control"), ("Pogobot-v0", "largest_angle")])
def test_a_limit_that_is_no_number_is_refused(env, name):
    with pytest.raises(UserError, match=f"{name} must be"):
        make_learner(RoaConfig(env=f"rlstab/{env}", env_kwargs={name: "abc"}))


def test_the_level_is_the_estimate_less_its_margin():
    model = Toy()
    configuration = torch.tensor([[2.0]])
    before = model.level(configuration)
    model.margin.fill_(0.5)
    torch.testing.assert_close(model.level(configuration), before * np.exp(-0.5))
