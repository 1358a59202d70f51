"""What every environment on a hybrid system keeps to, whatever moves in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.envs.check import check_env
from rlstab.envs.disturbance import ExternalWrench
from rlstab.envs.hybrid.task import HybridTask
from rlstab.envs.registry import make_task, make_vec, own_ids, runs_natively
from rlstab.envs.tasks import OWN_TASKS
from rlstab.errors import UserError

IDS = [name for name in OWN_TASKS if issubclass(OWN_TASKS[name], HybridTask)]


def _actions(env: Any, steps: int) -> list[Any]:
    space = env.single_action_space
    rng = np.random.default_rng(1)
    return [rng.uniform(space.low, space.high, (env.num_envs, *space.shape)).astype(np.float32) for _ in range(steps)]


@pytest.mark.parametrize("env_id", IDS)
def test_it_is_known_everywhere_and_nothing_is_wrong_with_it(env_id: str):
    assert env_id in own_ids()
    assert runs_natively(env_id)
    assert [finding for finding in check_env(env_id, steps=20) if finding.level == "error"] == []


@pytest.mark.parametrize("env_id", IDS)
def test_a_world_does_not_depend_on_the_others(env_id: str):
    many: Any = make_vec(env_id, 4, seed=5)
    one: Any = make_vec(env_id, 1, seed=5, world_offset=2)
    np.testing.assert_array_equal(many.reset()[0][2], one.reset()[0][0])
    for action in _actions(many, 16):
        seen, reward, terminated, truncated, _ = many.step(action)
        alone = one.step(action[2:3])
        np.testing.assert_allclose(seen[2], alone[0][0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(reward[2], alone[1][0], rtol=1e-9, atol=1e-9)
        assert (terminated[2], truncated[2]) == (alone[2][0], alone[3][0])


@pytest.mark.parametrize("env_id", IDS)
def test_it_goes_on_from_a_state_bit_for_bit(env_id: str):
    first, second = (make_vec(env_id, 3, seed=seed) for seed in (2, 7))
    first.reset()
    second.reset()
    actions = _actions(first, 24)
    for action in actions[:12]:
        first.step(action)
    second.load_state_dict(first.state_dict())  # type: ignore[attr-defined]
    for action in actions[12:]:
        ours, theirs = first.step(action), second.step(action)
        for one, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="this engine's is"):
        make_vec(env_id, 2).load_state_dict(first.state_dict())  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", IDS)
def test_it_draws_pictures_that_show_what_moves(env_id: str):
    env = gymnasium.make(env_id, render_mode="rgb_array", width=300, height=200)
    env.reset(seed=0)
    first: Any = env.render()
    assert first.shape == (200, 300, 3)
    assert first.dtype == np.uint8
    ended, steps = False, 0
    while not ended and steps < 5:
        _, _, ended, _, _ = env.step(0.5 * env.action_space.high)  # type: ignore[attr-defined]
        steps += 1
    assert not np.array_equal(first, env.render())
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_what_it_cannot_do_is_said(env_id: str):
    with pytest.raises(UserError, match="no body named 'torso'"):
        make_vec(env_id, 1, disturbances=ExternalWrench("torso", (1.0, 0.0, 0.0)))
    with pytest.raises(UserError, match="no setting wind"):
        make_task(env_id, wind=1.0)
