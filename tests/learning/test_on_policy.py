"""The on-policy learner: it learns, it resumes exactly, and it keeps Stable-Baselines3's face."""

import gymnasium
import numpy as np
import pytest
import torch

from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.on_policy_config import OnPolicyConfig

SMALL = OnPolicyConfig(n_steps=32, batch_size=32, n_epochs=2, hidden_sizes=(16,))


class FromMemory(gymnasium.Env):
    """Reward 1 for repeating the observed bit, whatever the kind of observation; one step an episode."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space
        self.bit = 0

    def _observe(self):
        space = self.observation_space
        if isinstance(space, gymnasium.spaces.Discrete):
            return self.bit + int(space.start)
        return np.full(space.shape, 255 * self.bit if space.dtype == np.uint8 else self.bit, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.bit = int(self.np_random.integers(2))
        return self._observe(), {}

    def step(self, action):
        match = np.mean((np.asarray(action, float).reshape(-1) > 0.5) == bool(self.bit))
        return self._observe(), float(match), True, False, {}


def mean_return(learner):
    return learner.iterate().get("rollout/return_mean")


def test_training_balances_the_pendulum():
    learner = OnPolicyLearner(make_vec("InvertedPendulum-v5", 8), OnPolicyConfig(n_steps=128), seed=1)
    first = mean_return(learner)
    for _ in range(18):
        last = mean_return(learner)
    assert first < 40.0
    assert last > 4.0 * first


def test_a_failed_iteration_does_not_reach_into_the_state_before_it(monkeypatch):
    def make():
        env = make_vec("Hopper-v5", 4, seed=3, disturbances="mass=0.8:1.2,latency=0:2,noise=0.01")
        return OnPolicyLearner(env, SMALL, seed=3)

    whole, first, second = make(), make(), make()
    for learner in (whole, whole, first):
        learner.iterate()
    state, step = first.state_dict(), first.env.step

    def fail(actions):
        if first.num_timesteps >= 200:
            raise ZeroDivisionError
        return step(actions)

    monkeypatch.setattr(first.env, "step", fail)
    with pytest.raises(ZeroDivisionError):
        first.iterate()
    second.load_state_dict(state)
    second.iterate()
    expected, actual = (learner.policy.state_dict()["weights"] for learner in (whole, second))
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)


def test_rollouts_of_any_length_are_evaluated():
    """4096 samples fill a chunk; the observations after the last step are then alone in the next one."""
    learner = OnPolicyLearner(
        make_vec("InvertedPendulum-v5", 64), OnPolicyConfig(n_steps=64, batch_size=1024, n_epochs=1, hidden_sizes=(8,))
    )
    assert learner.iterate()["train/learning_rate"] > 0.0


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (gymnasium.spaces.Discrete(2, start=5), gymnasium.spaces.Discrete(2)),
        (gymnasium.spaces.Box(0.0, 1.0, (2, 3)), gymnasium.spaces.MultiDiscrete([2, 2])),
        (gymnasium.spaces.Box(0.0, 1.0, (1,)), gymnasium.spaces.MultiBinary(2)),
        (gymnasium.spaces.Box(0.0, 1.0, (4,)), gymnasium.spaces.Box(0.0, 1.0, (1,))),
    ],
)
def test_every_kind_of_space_is_learned(observation, action):
    env = make_vec(lambda: FromMemory(observation, action), 8)
    learner = OnPolicyLearner(env, OnPolicyConfig(n_steps=32, batch_size=64, learning_rate=3e-3), seed=0)
    for _ in range(25):
        last = mean_return(learner)
    assert last > 0.9


def test_images_are_learned():
    env = make_vec(
        lambda: FromMemory(gymnasium.spaces.Box(0, 255, (36, 36, 3), np.uint8), gymnasium.spaces.Discrete(2)), 8
    )
    learner = OnPolicyLearner(env, OnPolicyConfig(n_steps=16, batch_size=64, n_epochs=4, learning_rate=1e-3), seed=0)
    for _ in range(10):
        last = mean_return(learner)
    assert last > 0.85


def make(env_id="Hopper-v5", seed=3, **changes):
    config = OnPolicyConfig(**{"n_steps": 32, "batch_size": 32, "n_epochs": 2, "hidden_sizes": (16,), **changes})
    return OnPolicyLearner(make_vec(env_id, 4), config, seed=seed, total_steps=2048)


def weights(learner):
    return {name: value.clone() for name, value in learner.network.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"activation": "elu", "learning_rate_schedule": "linear", "target_kl": 0.01}])
def test_resumed_training_equals_uninterrupted_training(changes):
    straight = make(**changes)
    for _ in range(8):
        expected = straight.iterate()
    first = make(**changes)
    for _ in range(5):
        first.iterate()
    state = first.state_dict()
    first.iterate()  # What happens after saving must not matter.
    second = make(**changes, seed=99)
    second.load_state_dict(state)
    for _ in range(3):
        metrics = second.iterate()
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(second)[name]), name
    for name, value in expected.items():
        assert name.startswith("time/") or metrics[name] == value, name


def test_saving_changes_nothing():
    plain, saved = make(), make()
    for _ in range(4):
        plain.iterate()
        saved.iterate()
        saved.state_dict()
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(saved)[name]), name


def test_seed_decides_the_result():
    runs = []
    for seed in (0, 0, 1):
        learner = make(seed=seed)
        learner.iterate()
        runs.append(weights(learner)["actor.linears.0.weight"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_log_probabilities_are_those_of_the_acting_policy():
    """Before the first gradient step the ratio is one, so nothing is clipped and the divergence is zero."""
    learner = make(learning_rate=1e-12)
    for _ in range(3):  # Later rollouts have moved normalisers.
        metrics = learner.iterate()
    assert metrics["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["train/clip_fraction"] == 0.0


def test_time_limits_bootstrap_and_falls_do_not():
    """With reward 1 for ever, the value of a truncated episode's last state must enter the return."""

    class Endless(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, truncate):
            self.truncate, self.t = truncate, 0

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.t += 1
            end = self.t == 4
            return np.zeros(1, np.float32), 1.0, end and not self.truncate, end and self.truncate, {}

    values = {}
    for truncate in (True, False):
        config = OnPolicyConfig(
            n_steps=64,
            batch_size=64,
            gamma=0.9,
            normalize_reward=False,
            normalize_observation=False,
            learning_rate=0.02,
        )
        learner = OnPolicyLearner(make_vec(lambda t=truncate: Endless(t), 4), config, seed=0)
        for _ in range(30):
            learner.iterate()
        values[truncate] = learner.network.value(torch.zeros(1, 1)).item()
    assert values[True] == pytest.approx(10.0, rel=0.15)  # 1 / (1 - 0.9)
    assert values[False] < 4.0  # At most 1 + .9 + .81 + .729


def test_public_face_is_stable_baselines3s():
    from stable_baselines3.common.callbacks import BaseCallback

    class Count(BaseCallback):
        def __init__(self):
            super().__init__()
            self.steps = self.rollouts = 0

        def _on_rollout_end(self):
            self.rollouts += 1

        def _on_step(self):
            self.steps += 1
            return self.steps < 100

    count = Count()
    learner = make().learn(10_000, callback=count)
    assert count.steps == 100
    assert count.rollouts == 3
    assert learner.num_timesteps == 400
    assert count.training_env.num_envs == 4
    action, state = learner.predict(learner.env.reset(seed=0)[0], deterministic=True)
    assert action.shape == (4, 3)
    assert state is None


def test_stock_callbacks_run(tmp_path):
    """Evaluation and checkpoints by SB3's own callbacks, reading the list of information dictionaries."""
    from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback

    class Returns(BaseCallback):
        def __init__(self):
            super().__init__()
            self.returns = []

        def _on_step(self):
            for info in self.locals["infos"]:
                if "episode" in info:
                    self.returns.append(info["episode"]["r"])
                    assert info["terminal_observation"].shape == (11,)
            return True

    returns = Returns()
    evaluation = EvalCallback(
        make_vec("Hopper-v5", 2, seed=1).to_sb3(),
        n_eval_episodes=2,
        eval_freq=64,
        best_model_save_path=str(tmp_path / "best"),
        verbose=0,
    )
    checkpoints = CheckpointCallback(64, str(tmp_path), "ppo")
    learner = make().learn(512, callback=[returns, evaluation, checkpoints])
    assert len(returns.returns) > 3
    assert np.isfinite(evaluation.best_mean_reward)
    assert (tmp_path / "best" / "best_model.safetensors").is_file()
    saved = tmp_path / "ppo_512_steps.safetensors"
    again = make(seed=8).load(saved)
    assert again.num_timesteps == 512
    observation = learner.env.reset(seed=0)[0]
    np.testing.assert_array_equal(
        again.predict(observation, deterministic=True)[0].shape, learner.predict(observation)[0].shape
    )
    with pytest.raises(UserError, match="not a saved learner"):
        again.load(tmp_path / "none.safetensors")


def test_saved_learner_goes_on_as_the_one_that_was_saved(tmp_path):
    learner = make()
    learner.iterate()
    again = make(seed=8).load(learner.save(tmp_path / "learner"))
    learner.iterate()
    again.iterate()
    for name, value in weights(learner).items():
        assert torch.equal(value, weights(again)[name]), name


def test_batch_that_does_not_fit_is_refused():
    for size in (4096, 100):
        with pytest.raises(UserError, match="choose a divisor"):
            make(batch_size=size)
