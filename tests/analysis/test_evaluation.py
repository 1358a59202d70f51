from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.analysis import episodes as episodes_module
from rlstab.analysis.evaluation import Evaluation, aggregate_runs, evaluate
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError


class Linear:
    """Small random linear feedback; its noise comes from numpy's global generator, as that of SB3's policies does."""

    def __init__(self, env_id: str = "Hopper-v5") -> None:
        env = make_vec(env_id)
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        shape = (*(self.observation_space.shape or ()), *(self.action_space.shape or ()))
        self.gain = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self.batches: set[int] = set()
        env.close()

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        observation = np.asarray(observation, np.float32)
        self.batches.add(len(observation))
        action = observation @ self.gain
        if not deterministic:
            action = action + np.random.normal(size=action.shape)
        return np.clip(action, -1, 1).astype(np.float32), state


@pytest.mark.parametrize("deterministic", [True, False])
def test_returns_do_not_depend_on_how_many_worlds_play(deterministic: bool) -> None:
    policy = Linear()
    alone, few, all_at_once = (
        evaluate(policy, "Hopper-v5", episodes=18, seed=4, num_envs=n, deterministic=deterministic)
        for n in (1, 5, None)
    )
    np.testing.assert_array_equal(alone.returns, all_at_once.returns)
    np.testing.assert_array_equal(few.returns, all_at_once.returns)
    np.testing.assert_array_equal(few.lengths, all_at_once.lengths)
    assert len(np.unique(alone.returns)) == 18, "episodes differ from one another"
    assert len(policy.batches) == 1, "the policy always sees batches of one size"


class Upright:
    """Pushes the cart under the pole, not for long; discrete actions in an environment that is not native."""

    observation_space, action_space = gymnasium.make("CartPole-v1").observation_space, gymnasium.spaces.Discrete(2)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return (observation @ np.array([0.0, 0.0, 1.0, 0.0]) > 0).astype(np.int64), state


def test_environments_of_gymnasium_have_episodes_of_their_own_too() -> None:
    by_id, few, made = (
        evaluate(Upright(), env_id, episodes=5, num_envs=n, seed=3)
        for env_id, n in (("CartPole-v1", None), ("CartPole-v1", 2), (lambda: gymnasium.make("CartPole-v1"), 1))
    )
    np.testing.assert_array_equal(by_id.returns, few.returns)
    np.testing.assert_array_equal(by_id.returns, made.returns)
    assert len(np.unique(by_id.returns)) > 1
    assert by_id.success is None


def test_disturbances_are_those_of_the_episode_and_are_named() -> None:
    from rlstab.envs.disturbance import ObservationNoise

    noise = [ObservationNoise(sigma=0.1)]
    alone, together = (evaluate(Linear(), "Hopper-v5", episodes=4, num_envs=n, disturbances=noise) for n in (1, None))
    np.testing.assert_array_equal(alone.returns, together.returns)
    assert not np.array_equal(alone.returns, evaluate(Linear(), "Hopper-v5", episodes=4).returns)
    assert "ObservationNoise" in alone.disturbances[0]
    assert "ObservationNoise" in str(alone.summary()["disturbances"])


def test_what_was_set_is_kept_with_the_numbers(tmp_path: Path) -> None:
    settings = {"reset_noise_scale": 0.0}
    result = evaluate(Linear(), "Hopper-v5", episodes=1, max_episode_steps=9, env_kwargs=settings)
    assert (result.max_episode_steps, result.env_kwargs) == (9, settings)
    assert Evaluation.load(result.save(tmp_path / "evaluation")).to_dict() == result.to_dict()
    plain = evaluate(Linear(), "Hopper-v5", episodes=1)
    assert (plain.max_episode_steps, plain.env_kwargs) == (None, {})


def test_the_first_episodes_are_the_same_in_a_longer_evaluation() -> None:
    short, long = (evaluate(Linear(), "Hopper-v5", episodes=n, seed=4) for n in (3, 17))
    np.testing.assert_array_equal(short.returns, long.returns[:3])


def test_the_seed_decides() -> None:
    first, again, other = (evaluate(Linear(), "Hopper-v5", episodes=2, seed=seed).returns for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_evaluating_leaves_global_random_numbers_alone() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    evaluate(Linear(), "Hopper-v5", episodes=2, deterministic=False)
    assert np.random.random() == expected


def test_the_return_is_that_of_stepping_by_hand() -> None:
    policy = Linear()
    result = evaluate(policy, "Hopper-v5", episodes=3, seed=9, max_episode_steps=15)
    env = make_vec("Hopper-v5", 1, 9, world_offset=2, max_episode_steps=15)
    observation, _ = env.reset(seed=9)
    total, steps, ended = 0.0, 0, (False, False)
    while not any(ended):
        # One row of a block of the size evaluation uses, so that products round alike.
        action = policy.predict(np.repeat(observation, 16, axis=0), deterministic=True)[0][:1]
        observation, reward, terminated, truncated, _ = env.step(action)
        total, steps, ended = total + float(reward[0]), steps + 1, (bool(terminated[0]), bool(truncated[0]))
    assert result.returns[2] == total
    assert result.lengths[2] == steps
    assert result.terminated[2] == ended[0]
    env.close()


def test_stable_baselines_models_are_evaluated_as_their_own_evaluation_does() -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    model = PPO("MlpPolicy", gymnasium.make("InvertedPendulum-v5"), seed=0, device="cpu")
    result = evaluate(model, "InvertedPendulum-v5", episodes=40)
    reference, _ = evaluate_policy(
        model, Monitor(gymnasium.make("InvertedPendulum-v5")), n_eval_episodes=40, return_episode_rewards=True
    )
    spread = np.hypot(result.returns.std(), np.std(reference)) / np.sqrt(40)
    assert abs(result.returns.mean() - np.mean(reference)) < 5 * spread + 1e-9
    assert result.policy == "PPO"


def made(returns: Any, env_id: str = "Hopper-v5", success: Any = None) -> Evaluation:
    returns = np.asarray(returns, np.float64)
    return Evaluation(
        env_id=env_id,
        policy="Linear",
        deterministic=True,
        seed=1,
        disturbances=(),
        max_episode_steps=None,
        env_kwargs={},
        wall_seconds=0.1,
        versions={},
        returns=returns,
        lengths=np.full(len(returns), 7),
        terminated=np.ones(len(returns), np.bool_),
        success=None if success is None else np.asarray(success, np.bool_),
    )


def test_a_summary_has_intervals_seed_and_success() -> None:
    summary = made([1, 2, 3, 4], success=[True] * 4).summary()
    assert str(summary["mean return"]).startswith("2.5 [")
    assert str(summary["success rate"]).startswith("1 [0.5"), "four of four is not certainty"
    assert summary["seed"] == 1
    assert "success rate" not in made([1, 2]).summary()
    assert made([5.0]).summary()["mean return"] == "5"


def test_an_evaluation_is_kept_in_files_tables_and_pictures(tmp_path) -> None:
    from rlstab.analysis.plots import new_axes

    written = made([1, 2, 3], success=[True, False, True])
    read = Evaluation.load(written.save(tmp_path / "evaluation"))
    assert read.to_dict() == written.to_dict()
    assert read.seeds == [(1, 0), (1, 1), (1, 2)]
    assert list(read.to_frame().columns) == ["returns", "lengths", "terminated", "success"]
    assert read.plot(new_axes()).get_xlabel()


def test_runs_are_aggregated_by_their_mean_returns() -> None:
    result = aggregate_runs([made([0, 2]), made([4, 6]), made([8, 10])], resamples=20)
    assert result.get("mean")[0] == 5
    assert (result.over, result.num_rows) == ("runs", 3)


def test_several_environments_need_a_common_scale() -> None:
    runs = [made([10]), made([20]), made([1], "Ant-v5"), made([3], "Ant-v5")]
    with pytest.raises(UserError, match="Ant-v5"):
        aggregate_runs(runs)
    scaled = aggregate_runs(runs, scale={"Hopper-v5": (0, 20), "Ant-v5": (0, 4)}, resamples=20)
    assert scaled.get("mean")[0] == pytest.approx((0.5 + 1 + 0.25 + 0.75) / 4)
    with pytest.raises(UserError, match="no evaluations"):
        aggregate_runs([])


@pytest.mark.parametrize("arguments", [{"episodes": 0}, {"num_envs": 0}])
def test_nothing_to_play_is_refused(arguments: dict) -> None:
    with pytest.raises(UserError, match="at least one"):
        evaluate(Linear(), "Hopper-v5", **arguments)


def test_a_policy_for_something_else_is_refused() -> None:
    with pytest.raises(UserError, match=r"observations Box.*\(11,\).*Box.*\(17,\)"):
        evaluate(Linear("Hopper-v5"), "Walker2d-v5", episodes=1)


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(UserError, match="Hoper"):
        evaluate(Linear(), "Hoper-v5", episodes=1)


class Fragile(gymnasium.Env):
    """Lasts as long as its seed says; episodes after the first, and those longer than ``broken``, come to NaN."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    broken: float = np.inf

    def __init__(self) -> None:
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.time, self.length = 0, int(self.np_random.integers(3, 30))
        return np.zeros(1), {}

    def step(self, action):
        self.time += 1
        bad = self.time == 2 and (self.episode > 0 or self.length > self.broken)
        return np.zeros(1), np.nan if bad else 1.0, self.time == self.length, False, {}


class Idle:
    observation_space, action_space = Fragile.observation_space, Fragile.action_space

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), 1), np.float32), state


def test_nan_after_an_episode_ended_does_not_concern_it() -> None:
    together = evaluate(Idle(), Fragile, episodes=12, seed=1, num_envs=8)
    alone = evaluate(Idle(), Fragile, episodes=12, seed=1, num_envs=1)
    np.testing.assert_array_equal(together.returns, alone.returns)
    np.testing.assert_array_equal(together.lengths, together.returns)
    assert len(np.unique(together.lengths)) > 3
    assert not Path("failure").exists()


@pytest.mark.parametrize("num_envs", [1, 8])
def test_nan_in_an_episode_that_counts_is_located_and_kept(num_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = evaluate(Idle(), Fragile, episodes=12, seed=1).lengths
    monkeypatch.setattr(Fragile, "broken", float(np.unique(lengths)[-2]))
    worst = int(lengths.argmax())
    with pytest.raises(NonFiniteState) as caught:
        evaluate(Idle(), Fragile, episodes=12, seed=1, num_envs=num_envs)
    assert f"this was episode {worst}, the state is saved in failure" in str(caught.value)
    with np.load(f"failure/evaluate-Fragile-seed1-episode{worst}.npz") as saved:
        assert np.isnan(saved["reward"]).any()


def test_a_state_is_not_saved_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fragile, "broken", 0.0)
    with pytest.raises(NonFiniteState, match=r"this was episode 0$"):
        evaluate(Idle(), Fragile, episodes=1, failure_folder=None)
    assert not Path("failure").exists()


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    evaluate(Linear(), "Hopper-v5", episodes=5, num_envs=2, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_every_step_is_told() -> None:
    told: list[tuple[int, int, int]] = []
    result = evaluate(Linear(), "Hopper-v5", episodes=3, num_envs=2, on_step=lambda *progress: told.append(progress))
    assert told[0] == (0, 3, 0)
    assert told[-1] == (3, 3, result.lengths[2])
    done = [progress[0] for progress in told]
    assert done == sorted(done)
    assert {progress[1] for progress in told} == {3}


def test_episodes_of_which_none_ends_are_given_up_early_where_no_limit_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(episodes_module, "PATIENCE", 20)
    policy = Linear("HalfCheetah-v5")
    with pytest.raises(UserError, match=r"no episode ended within 20 steps.*--max-episode-steps"):
        evaluate(policy, "HalfCheetah-v5", episodes=2, max_episode_steps=-1)
    assert evaluate(policy, "HalfCheetah-v5", episodes=2, max_episode_steps=30).lengths.tolist() == [30, 30]
    # Episodes of 3 to 29 steps: where one ends, the others are waited for, played together or one after the other.
    lengths = evaluate(Idle(), Fragile, episodes=6, seed=1).lengths
    assert lengths.max() > 20
    monkeypatch.setattr(episodes_module, "PATIENCE", int(lengths[0]) + 1)
    assert evaluate(Idle(), Fragile, episodes=6, seed=1, num_envs=1).lengths.tolist() == lengths.tolist()


def test_the_checkpoint_is_part_of_the_result(tmp_path: Path) -> None:
    plain = made([1.0, 2.0])
    assert (plain.checkpoint, plain.to_dict()["checkpoint_step"]) == ("", None)
    assert "checkpoint" not in plain.summary()
    known = dataclasses.replace(plain, checkpoint_step=901_120, checkpoint_rule="best by training return")
    assert known.summary()["checkpoint"] == "step 901,120, best by training return"
    assert Evaluation.load(known.save(tmp_path / "known")).checkpoint == known.checkpoint
    # Results from before there was this field are read as well.
    path = plain.save(tmp_path / "old")
    document = json.loads(path.read_text())
    del document["fields"]["checkpoint_step"], document["fields"]["checkpoint_rule"]
    path.write_text(json.dumps(document))
    assert Evaluation.load(path).checkpoint_step is None


def test_an_episode_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes_module, "STEP_LIMIT", 5)
    with pytest.raises(UserError, match="episode 0 did not end within 5 steps"):
        evaluate(Linear("HalfCheetah-v5"), "HalfCheetah-v5", episodes=2, max_episode_steps=-1)
