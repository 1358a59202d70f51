from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlstab.controllers import registry
from rlstab.controllers.trainable import able_methods, training_findings
from rlstab.envs.gym_vector import gymnasium_vec
from rlstab.errors import UserError
from rlstab.runs.config import from_json, to_json

ANYWHERE = [info.name for info in registry.for_any_environment()]
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
WHOLE = spaces.Box(-2, 2, (1,), np.int32)
OBSERVATIONS = [
    VECTOR,
    spaces.Box(0, 255, (3,), np.uint8),
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
    spaces.Dict({"a": VECTOR}),
    spaces.Text(3),
]
ACTIONS = [
    VECTOR,
    WHOLE,
    spaces.Discrete(3),
    spaces.Discrete(3, start=1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
    spaces.Tuple((spaces.Discrete(2),)),
]


class Spaces(gymnasium.Env):
    """Has spaces, and nothing to do in them."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


def make(method: str, observation_space: Any, action_space: Any) -> Any:
    info = registry.get(method)
    small = {"env": "Spaces", "num_envs": 1, "hidden_sizes": [8]}
    small |= {"n_steps": 4, "batch_size": 4} if method.endswith("ppo") else {"buffer_size": 10}
    config_class = info.config_class()
    config = from_json(config_class, to_json(config_class()) | small)
    return info.make_learner(config, gymnasium_vec(lambda: Spaces(observation_space, action_space)))


@pytest.mark.parametrize("method", ANYWHERE)
@pytest.mark.parametrize(
    ("observation", "action"), [(s, VECTOR) for s in OBSERVATIONS] + [(VECTOR, s) for s in ACTIONS]
)
def test_what_is_said_of_a_method_is_what_it_does(method, observation, action):
    if method in able_methods(observation, action):
        make(method, observation, action).close()
    else:
        with pytest.raises(UserError) as caught:
            make(method, observation, action)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ANYWHERE)
def test_dqn_and_the_others_on_discrete_actions(method):
    """The grid above has continuous actions wherever observations vary, which DQN never takes."""
    for observation in OBSERVATIONS:
        if method in able_methods(observation, spaces.Discrete(2)):
            make(method, observation, spaces.Discrete(2)).close()
        else:
            with pytest.raises(UserError):
                make(method, observation, spaces.Discrete(2))


@pytest.mark.parametrize("method", [info.name for info in registry.methods()])
def test_whole_numbers_in_a_box_are_refused_by_every_method(method):
    with pytest.raises(UserError, match=r"are whole ones: Box\(-2, 2, \(1,\), int32\); declare them as Box"):
        registry.check_actions(method, "Some-v0", WHOLE)


@pytest.mark.parametrize(
    ("observation", "action", "code", "words"),
    [
        (spaces.Dict({"a": VECTOR}), VECTOR, "observations-unknown", "no method reads Dict observations"),
        (spaces.Text(3), VECTOR, "observations-unknown", "no method reads Text observations"),
        (VECTOR, spaces.Tuple((VECTOR,)), "actions-unknown", "no method acts in Tuple"),
        (VECTOR, WHOLE, "actions-whole", "whole numbers"),
        (spaces.MultiBinary(2), spaces.MultiDiscrete([2, 2]), "spaces-apart", "ppo can act in MultiDiscrete"),
    ],
)
def test_what_no_method_can_train_is_an_error(observation, action, code, words):
    (finding,) = training_findings(observation, action)
    assert (finding.level, finding.code) == ("error", code)
    assert words in finding.what


def test_what_some_method_trains_is_none():
    assert able_methods(VECTOR, spaces.Discrete(2)) == ["ppo", "dqn", "transformer_ppo", "sa_ppo"]
    assert able_methods(VECTOR, spaces.Discrete(2, start=1)) == ["ppo", "transformer_ppo", "sa_ppo"]
    assert able_methods(VECTOR, VECTOR) == ["ppo", "sac", "td3", "transformer_ppo", "sa_ppo"]
    assert list(training_findings(VECTOR, VECTOR)) == []
