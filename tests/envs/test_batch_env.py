"""Episode bookkeeping of the batched environment."""

import numpy as np
import pytest

from rlstab.envs.disturbance.serialization import parse
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError


def random_actions(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    low, high = env.single_action_space.low, env.single_action_space.high
    return rng.uniform(low, high, (steps, env.num_envs, len(low)))


def run(env, actions):
    """Observations, rewards, terminations, truncations of every step."""
    return [np.array(part) for part in zip(*(env.step(action)[:4] for action in actions), strict=True)]


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Humanoid-v5"])
def test_world_is_the_same_alone_and_in_a_crowd(env_id):
    crowd = make_vec(env_id, 6, num_threads=2)
    actions = random_actions(crowd, 60)
    first, _ = crowd.reset(seed=9)
    parts = run(crowd, actions)
    assert parts[2].any(), "episodes must end for the test to cover resets"
    for world in (0, 4):
        alone = make_vec(env_id, 1, world_offset=world, num_threads=1)
        np.testing.assert_array_equal(alone.reset(seed=9)[0][0], first[world])
        for mine, all_worlds in zip(run(alone, actions[:, [world]]), parts, strict=True):
            np.testing.assert_array_equal(mine[:, 0], all_worlds[:, world])


def test_ended_worlds_start_again_in_the_same_step():
    env = make_vec("Hopper-v5", 4)
    observation, info = env.reset(seed=0)
    assert info == {}
    ended = 0
    for action in random_actions(env, 120):
        observation, _, terminated, truncated, infos = env.step(action)
        done = terminated | truncated
        assert bool(infos) == bool(done.any())
        if infos:
            np.testing.assert_array_equal(infos["_final_obs"], done)
            # A fallen hopper is outside the healthy range; the next episode starts inside it.
            assert (np.abs(infos["final_obs"][done]).max(axis=1) > 0.1).all()
            np.testing.assert_allclose(observation[done, 0], 1.25, atol=0.01)
            assert (env.elapsed_steps[done] == 0).all()
            np.testing.assert_array_equal(infos["final_obs"][~done], observation[~done])
            ended += int(done.sum())
    assert ended > 4


def test_time_limit_truncates_and_does_not_terminate():
    env = make_vec("HalfCheetah-v5", 2, max_episode_steps=5)
    env.reset(seed=0)
    _, _, terminated, truncated = run(env, random_actions(env, 11))
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated[:, 0]), [4, 9])


def test_seed_decides_everything():
    env = make_vec("Walker2d-v5", 3)
    actions = random_actions(env, 50)
    results = []
    for seed in (1, 1, 2):
        start = env.reset(seed=seed)[0]
        results.append([start, *run(env, actions)])
    for one, two in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(results[0][0], results[2][0])
    assert len(np.unique(results[0][0][:, 0])) == 3, "worlds start differently"
    assert not np.array_equal(env.reset()[0], env.reset()[0]), "an unseeded reset begins the next episode"


def test_saved_environment_continues_bit_for_bit():
    env = make_vec("Ant-v5", 3)
    actions = random_actions(env, 60)
    env.reset(seed=4)
    run(env, actions[:30])
    state = env.state_dict()
    expected = run(env, actions[30:])
    other = make_vec("Ant-v5", 3)
    other.load_state_dict(state)
    for mine, theirs in zip(run(other, actions[30:]), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("env_id", "disturbances", "words"),
    [
        ("Walker2d-v5", "gain=0.9,latency=1", "task: Hopper-v5; this one's: Walker2d-v5"),
        ("Hopper-v5", "", "disturbances: .+; this one's: none"),
        ("Hopper-v5", "latency=1", "disturbances: "),
        ("Hopper-v5", "gain=0.8,latency=1", "disturbances: .*factor=0.9.*; this one.s: .*factor=0.8"),
        ("Hopper-v5", "gain=0.9,observation_delay=1", "disturbances: .*ActionDelay.*; this one's: .*ObservationDelay"),
    ],
)
def test_the_state_of_another_environment_is_refused_and_changes_nothing(env_id, disturbances, words):
    saved = make_vec("Hopper-v5", 1, disturbances=parse("gain=0.9,latency=1"))
    saved.reset(seed=1)
    saved.step(np.zeros((1, 3)))
    other = make_vec(env_id, 1, disturbances=parse(disturbances))
    other.reset(seed=2)
    with pytest.raises(UserError, match=words):
        other.load_state_dict(saved.state_dict())
    assert other.total_steps == 0


def test_partial_reset_keeps_the_others_going():
    env = make_vec("Hopper-v5", 3)
    env.reset(seed=0)
    observation = run(env, random_actions(env, 5))[0][-1]
    again, _ = env.reset(options={"worlds": np.array([False, True, False])})
    np.testing.assert_array_equal(again[[0, 2]], observation[[0, 2]])
    assert not np.array_equal(again[1], observation[1])
    np.testing.assert_array_equal(env.elapsed_steps, [5, 0, 5])


def test_gymnasiums_reset_mask_is_understood_and_misuse_is_refused():
    env = make_vec("Hopper-v5", 2)
    first, _ = env.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_allclose(first[:, 0], 1.25, atol=0.01, err_msg="the first reset begins every world")
    run(env, random_actions(env, 4))
    env.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(env.elapsed_steps, [0, 4])
    with pytest.raises(UserError, match="not mask"):
        env.reset(options={"mask": np.array([True, False])})
    with pytest.raises(UserError, match="leave out the choice"):
        env.reset(seed=1, options={"worlds": [0]})


def test_information_is_not_shared():
    env, other = make_vec("Hopper-v5", 2), make_vec("Hopper-v5", 2)
    for each in (env, other):
        each.reset(seed=0)
    env.step(np.zeros((2, 3)))[4]["mine"] = 1
    assert other.step(np.zeros((2, 3)))[4] == {}


def test_time_limit_can_be_removed():
    env = make_vec("HalfCheetah-v5", 1, max_episode_steps=-1)
    env.reset(seed=0)
    env.elapsed_steps[:] = 5000
    assert not env.step(np.zeros((1, 6)))[3].any()


def test_returned_arrays_are_not_reused():
    env = make_vec("Hopper-v5", 2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    second = env.step(np.zeros((2, 3)))[0]
    kept_second = second.copy()
    env.step(np.ones((2, 3)))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, kept_second)


def test_nan_stops_with_the_state_and_the_step():
    env = make_vec("Hopper-v5", 3)
    env.reset(seed=0)
    env.step(np.zeros((3, 3)))
    actions = np.zeros((3, 3))
    actions[2] = np.nan
    with pytest.raises(NonFiniteState, match="in world 2, at step 2 of its episode") as caught:
        env.step(actions)
    assert caught.value.worlds == [2]
    assert caught.value.step == 2
    assert np.isnan(caught.value.arrays["action"][2]).all()
    assert np.isfinite(caught.value.arrays["qpos"][:2]).all()


def started(env_id, num_envs):
    env = make_vec(env_id, num_envs)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_vec("Hopper-v5", 0), "num_envs must be at least 1"),
        (lambda: make_vec("Hoper-v5", 1, backend="native"), "did you mean 'Hopper-v5'"),
        (lambda: make_vec("rlstab/Hopper-v5", 1, env_kwargs={"leg_count": 3}), "no setting leg_count"),
        (lambda: started("Hopper-v5", 2).step(np.zeros((3, 3))), r"shape \(2, 3\), got \(3, 3\)"),
        (lambda: make_vec("Hopper-v5", 2).step(np.zeros((2, 3))), "reset the environment before its first step"),
        (lambda: make_vec("Hopper-v5", 2).reset(seed=[1, 2]), "one integer"),
        (lambda: started("Hopper-v5", 2).reset(options={"worlds": []}), "no world at all"),
        (lambda: started("Hopper-v5", 2).reset(options={"worlds": [2]}), "there are worlds 0 to 1"),
        (lambda: started("Hopper-v5", 2).reset(options={"reset_mask": np.ones(3, bool)}), r"a mask of shape \(3,\)"),
        (lambda: make_vec("Hopper-v5", 2, max_episode_steps=0), "at least 1, or -1"),
        (lambda: make_vec("Hopper-v5", 2, max_episode_steps=-2), "at least 1, or -1"),
        (lambda: make_vec("Hopper-v5", 2, num_threads=0), "num_threads must be at least 1"),
        (lambda: make_vec("Hopper-v5", 1, disturbances=parse("gain=2"), env_kwargs={"width": 9}), "no setting width"),
        (lambda: make_vec("CartPole-v1", 1, disturbances=parse("gain=2")), "CartPole-v1 is not one"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_settings_reach_the_task_as_in_gymnasium():
    env = make_vec("Hopper-v5", 1, env_kwargs={"exclude_current_positions_from_observation": False})
    assert env.single_observation_space.shape == (12,)


def test_a_picture_of_another_size_closes_the_renderer_before(monkeypatch):
    alive = []

    class FakeRenderer:
        def __init__(self, model, width, height):
            self.size = (width, height)
            alive.append(self)

        def frame(self, qpos, qvel):
            return np.zeros((*self.size[::-1], 3), np.uint8)

        def close(self):
            alive.remove(self)

    monkeypatch.setattr("rlstab.envs.rendering.Renderer", FakeRenderer)
    env = make_vec("Hopper-v5", 1)
    env.reset(seed=0)
    for width in (32, 64, 64):
        assert env.frame(0, width, 16).shape == (16, width, 3)
        assert [renderer.size for renderer in alive] == [(width, 16)]
    env.close()
    assert alive == []
