from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise

from rlstab.analysis.evaluation import evaluate
from rlstab.controllers import registry
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError
from rlstab.learning import training
from rlstab.policies.loading import load_policy
from rlstab.runs.config import to_json
from rlstab.runs.run import Run
from rlstab.runs.state import pack, unpack

SMALL = {
    "learning_starts": 100,
    "steps_per_iteration": 100,
    "buffer_size": 300,
    "hidden_sizes": (16, 16),
    "batch_size": 16,
}
CONTINUOUS = ["sac", "td3"]


def config_of(method, **changes):
    config = registry.get(method).config_class()()
    return dataclasses.replace(config, **{"seed": 3, "total_steps": 600, **SMALL, **changes})


def pendulum(method, **changes):
    return config_of(method, **{"env": "InvertedPendulum-v5", "num_envs": 2, "train_freq": 2, **changes})


def make(method, config):
    return registry.get(method).make_learner(config)


def until(learner, step):
    metrics = {}
    while learner.num_timesteps < step:
        metrics = learner.iterate()
    return metrics


def weights_of(learner):
    return learner.policy.state_dict()["weights"]


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("method", CONTINUOUS)
def test_resumed_equals_uninterrupted(method):
    whole = make(method, pendulum(method))
    expected = until(whole, 600)

    first = make(method, pendulum(method))
    until(first, 400)  # The buffer has wrapped around by now.
    tensors, skeleton = pack(first.state_dict())
    tensors = {name: array.copy() for name, array in tensors.items()}
    until(first, 500)  # What goes on after saving must not reach into what was saved.

    np.random.seed(99)
    second = make(method, pendulum(method))
    second.load_state_dict(unpack(tensors, skeleton))
    assert second.num_timesteps == 400
    actual = until(second, 600)
    assert_same_weights(weights_of(second), weights_of(whole))
    for name in set(expected) - {"time/steps_per_second"}:
        assert actual[name] == expected[name], name


@pytest.mark.parametrize("method", ["sac", "td3", "dqn"])
def test_learns_exactly_what_stable_baselines_does(method):
    """Slicing, float32 replay and our own random state must not change the algorithm."""
    config = pendulum(method) if method != "dqn" else config_of(method, env="CartPole-v1", target_update_interval=50)
    ours = make(method, config)
    until(ours, config.total_steps)
    arguments = {"ent_coef": "auto"} if method == "sac" else {}
    if method == "td3":
        arguments["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, config.exploration_noise))
    if method == "dqn":
        arguments |= {"target_update_interval": config.target_update_interval}
    theirs = getattr(stable_baselines3, method.upper())(
        "MlpPolicy",
        make_vec(config.env, config.num_envs, config.seed).to_sb3(),
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        train_freq=config.train_freq,
        tau=config.tau,
        policy_kwargs={"net_arch": list(config.hidden_sizes)},
        seed=config.seed,
        device="cpu",
        **arguments,
    )
    theirs.learn(config.total_steps)
    expected = {name: value.numpy() for name, value in theirs.policy.state_dict().items()}
    assert_same_weights(weights_of(ours), expected)


def test_dqn_resumes_counters_and_networks():
    config = config_of("dqn", env="CartPole-v1", total_steps=400, target_update_interval=50)
    first = make("dqn", config)
    until(first, 200)
    tensors, skeleton = pack(first.state_dict())
    second = make("dqn", config)
    second.load_state_dict(unpack(tensors, skeleton))
    assert second.num_timesteps == 200
    assert second.algorithm.exploration_rate == first.algorithm.exploration_rate
    assert second.algorithm._n_calls == first.algorithm._n_calls
    assert_same_weights(weights_of(second), weights_of(first))
    until(second, 400)
    assert second.num_timesteps == 400


@pytest.mark.parametrize("method", CONTINUOUS)
def test_same_seed_same_weights_whatever_else_draws_random_numbers(method):
    results = []
    for outside in (1, 2):
        np.random.seed(outside)
        learner = make(method, pendulum(method, total_steps=300))
        while learner.num_timesteps < 300:
            learner.iterate()
            np.random.random(outside)
        results.append(weights_of(learner))
    assert_same_weights(*results)


@pytest.mark.parametrize("method", CONTINUOUS)
def test_metrics_are_finite_and_named(method):
    metrics = until(make(method, pendulum(method)), 300)
    assert {
        "rollout/return_mean",
        "rollout/length_mean",
        "train/critic_loss",
        "time/steps_per_second",
    } <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_metrics_without_an_episode_lack_the_return():
    learner = make("sac", pendulum("sac", steps_per_iteration=1, learning_starts=50))
    assert "rollout/return_mean" not in learner.iterate()


def test_iterations_end_at_fixed_steps():
    learner = make("sac", pendulum("sac", total_steps=250, train_freq=1))
    steps = []
    while learner.num_timesteps < 250:
        learner.iterate()
        steps.append(learner.num_timesteps)
    assert steps == [100, 200, 250]


def test_without_the_replay_buffer_the_state_is_small_and_learning_waits_for_a_new_one():
    config = pendulum("sac", checkpoint_replay=False, buffer_size=5000)
    first = make("sac", config)
    until(first, 300)
    state = first.state_dict()
    assert state["replay"] is None
    second = make("sac", config)
    second.load_state_dict(state)
    updates = second.algorithm._n_updates
    until(second, 400)
    assert second.algorithm._n_updates == updates
    until(second, 500)
    assert second.algorithm._n_updates > updates


def test_the_state_of_the_replay_buffer_is_not_copied():
    learner = make("sac", pendulum("sac"))
    until(learner, 200)
    rewards = learner.state_dict()["replay"]["arrays"]["rewards"]
    assert np.shares_memory(rewards, learner.algorithm.replay_buffer.rewards)


@pytest.mark.parametrize("method", CONTINUOUS)
def test_a_failed_iteration_does_not_reach_into_the_state_before_it(method, monkeypatch):
    """The full replay buffer is not copied, and the rows the failed iteration wrote over are put back all the same."""
    whole = make(method, pendulum(method))
    expected = until(whole, 600)

    first = make(method, pendulum(method))
    until(first, 400)  # The buffer has wrapped around by now.
    state, step = first.state_dict(), first.env.step

    def fail(actions):
        if first.num_timesteps >= 480:
            raise ZeroDivisionError
        return step(actions)

    monkeypatch.setattr(first.env, "step", fail)
    with pytest.raises(ZeroDivisionError):
        first.iterate()
    tensors, skeleton = pack(state)
    second = make(method, pendulum(method))
    second.load_state_dict(unpack(tensors, skeleton))
    assert second.num_timesteps == 400
    actual = until(second, 600)
    assert_same_weights(weights_of(second), weights_of(whole))
    for name in set(expected) - {"time/steps_per_second"}:
        assert actual[name] == expected[name], name


def test_a_failure_within_an_iteration_is_reported_at_its_own_step(tmp_path, monkeypatch):
    config = pendulum("sac", total_steps=300)
    learner = make("sac", config)
    step = learner.env.step

    def fail(actions):
        if learner.num_timesteps >= 130:
            raise NonFiniteState("NaN", step=1, worlds=[0], arrays={})
        return step(actions)

    monkeypatch.setattr(learner.env, "step", fail)
    run = Run.create(
        tmp_path, method="sac", env_id=config.env, config=to_json(config), seed=3, device="cpu", command=[], name="run"
    )
    with pytest.raises(NonFiniteState, match="training stopped after step 130"):
        training.train(learner, run, total_steps=300)
    assert run.info.history[-1]["step"] == 130


def test_a_checkpoint_of_other_settings_is_refused():
    state = make("sac", pendulum("sac")).state_dict()
    with pytest.raises(UserError, match="another"):
        make("td3", pendulum("td3")).load_state_dict(state)
    trained = make("sac", pendulum("sac"))
    until(trained, 400)
    with pytest.raises(UserError, match="buffer_size"):
        make("sac", pendulum("sac", buffer_size=100)).load_state_dict(trained.state_dict())


@pytest.mark.parametrize(
    ("method", "env", "expected"),
    [
        ("sac", "CartPole-v1", "ppo or dqn"),
        ("td3", "CartPole-v1", "ppo or dqn"),
        ("dqn", "Hopper-v5", "ppo or sac or td3"),
    ],
)
def test_wrong_kind_of_action_names_methods_that_fit(method, env, expected):
    with pytest.raises(UserError, match=expected):
        make(method, config_of(method, env=env))


def test_wrong_device_and_wrong_network_are_named():
    with pytest.raises(UserError, match="unknown device 'tpuu'"):
        make("sac", pendulum("sac", device="tpuu"))
    with pytest.raises(UserError, match="--network mlp"):
        make("sac", pendulum("sac", network="cnn"))


def test_train_save_load_evaluate(tmp_path):
    config = pendulum("sac", total_steps=300)
    learner = make("sac", config)
    run = Run.create(
        tmp_path, method="sac", env_id=config.env, config=to_json(config), seed=3, device="cpu", command=[], name="run"
    )
    summary = training.train(learner, run, total_steps=300, checkpoint_every=200)
    assert summary.status == "finished"
    assert run.checkpoints.steps() == [200, 300]
    policy = load_policy(run, "last")
    observation = np.zeros((3, 4))
    np.testing.assert_array_equal(
        policy.predict(observation, deterministic=True)[0], learner.policy.predict(observation, deterministic=True)[0]
    )
    assert len(evaluate(policy, config.env, episodes=2).returns) == 2


@pytest.mark.slow
def test_dqn_learns_cartpole():
    preset = registry.load_preset("dqn", "CartPole-v1")
    config = dataclasses.replace(registry.get("dqn").config_class()(), **preset.values)
    learner = make("dqn", config)
    until(learner, config.total_steps)
    assert evaluate(learner.policy, "CartPole-v1", episodes=10).returns.mean() > 400
