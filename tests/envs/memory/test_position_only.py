"""Tasks without velocities: what is seen is a part of what the full task sees, and nothing else differs."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.registry import make_task, make_vec, native_ids, own_ids, runs_natively
from rlstab.envs.tasks import ALL_TASKS, TASKS, VARIANT_OF
from rlstab.errors import UserError

SIZES = {
    "rlstab/HopperP-v0": 5,
    "rlstab/Walker2dP-v0": 8,
    "rlstab/HalfCheetahP-v0": 8,
    "rlstab/AntP-v0": 13,
}
VARIANTS = [
    *((id, {}) for id in SIZES),
    *((id, {"exclude_current_positions_from_observation": False}) for id in SIZES),
    ("rlstab/AntP-v0", {"include_cfrc_ext_in_observation": True}),
]


def names_of(env: Any) -> list[str]:
    """The name of every number that is observed."""
    return [f"{term.name}[{index}]" for term in env.observation_terms for index in range(term.dim)]


@pytest.mark.parametrize(("id", "arguments"), VARIANTS)
def test_it_is_the_full_task_with_fewer_numbers(id: str, arguments: dict[str, Any]) -> None:
    """Entry by entry, by the names that the layout gives them; through falls and new episodes."""
    part: Any = make_vec(id, 3, seed=4, env_kwargs=arguments, max_episode_steps=70)
    full: Any = make_vec(VARIANT_OF[id], 3, seed=4, env_kwargs=arguments, max_episode_steps=70)
    kept = [names_of(full).index(name) for name in names_of(part)]
    assert kept == sorted(kept)
    if not arguments.get("include_cfrc_ext_in_observation") and id == "rlstab/AntP-v0":
        hidden = ("velocity/", "contact_force/")
    else:
        hidden = ("velocity/",)
    assert [name for name in names_of(full) if not name.startswith(hidden)] == names_of(part)
    np.testing.assert_array_equal(part.reset()[0], full.reset()[0][:, kept])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(160):
        actions = rng.uniform(-1, 1, part.action_space.shape).astype(np.float32)
        seen, *others, infos = part.step(actions)
        seen_fully, *others_fully, infos_fully = full.step(actions)
        np.testing.assert_array_equal(seen, seen_fully[:, kept])
        for mine, theirs in zip(others, others_fully, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert infos.keys() == infos_fully.keys()
        if infos:
            np.testing.assert_array_equal(infos["final_obs"], infos_fully["final_obs"][:, kept])
            ends += 1
    assert ends
    part.close()
    full.close()


@pytest.mark.parametrize("id", SIZES)
def test_what_is_observed_is_the_position_and_a_copy_of_it(id: str) -> None:
    env: Any = make_vec(id, 2)
    seen, _ = env.reset(seed=0)
    assert seen.shape == (2, SIZES[id])
    assert env.single_observation_space.shape == (SIZES[id],)
    assert seen.dtype == env.single_observation_space.dtype == make_vec(VARIANT_OF[id]).single_observation_space.dtype
    skip = env.model.nq - SIZES[id]
    np.testing.assert_array_equal(seen, env.physics.qpos[:, skip:])
    observed = env.task.observe(env.physics)
    before = observed.copy()
    env.physics.qpos[:] += 1.0
    np.testing.assert_array_equal(observed, before)
    assert all(term.name.startswith("position/") and term.unit for term in env.observation_terms)
    env.close()


@pytest.mark.parametrize("id", SIZES)
def test_gymnasium_makes_it_with_its_time_limit(id: str) -> None:
    env: Any = gymnasium.make(id)
    assert env.spec.max_episode_steps == gymnasium.spec(VARIANT_OF[id]).max_episode_steps == 1000
    assert env.unwrapped.batch.task.id == id
    first, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, make_vec(id, 1, seed=3).reset()[0][0])
    batch: Any = gymnasium.make_vec(id, num_envs=2)
    assert isinstance(batch, BatchEnv)
    env.close()
    batch.close()


def test_it_is_known_by_its_prefix_and_gymnasiums_ids_stay_what_they_were() -> None:
    assert set(SIZES) <= set(own_ids())
    assert native_ids() == list(TASKS)
    assert not set(TASKS) & set(VARIANT_OF)
    assert set(VARIANT_OF) < set(ALL_TASKS)
    assert make_task("rlstab/HopperP").id == "rlstab/HopperP-v0"
    assert runs_natively("rlstab/HopperP-v0")
    assert not runs_natively("HopperP-v0")
    for name in ("HopperP-v0", "HopperP"):
        with pytest.raises(UserError, match=r"did you mean 'rlstab/HopperP-v0'"):
            make_vec(name)
    with pytest.raises(UserError, match=r"did you mean .*'rlstab/HopperP-v0'"):
        make_task("rlstab/HoperP-v0")
    with pytest.raises(UserError, match="has no setting wind; it has"):
        make_vec("rlstab/HopperP-v0", env_kwargs={"wind": 1})
    with pytest.raises(UserError, match="the gymnasium backend was asked for"):
        make_vec("rlstab/HopperP-v0", backend="gymnasium", disturbances="latency=1")


def test_its_states_are_not_those_of_the_full_task() -> None:
    full: Any = make_vec("Hopper-v5")
    full.reset(seed=0)
    with pytest.raises(UserError, match="task: Hopper-v5; this one's: rlstab/HopperP-v0"):
        make_vec("rlstab/HopperP-v0").load_state_dict(full.state_dict())  # type: ignore[attr-defined]


def test_disturbances_and_exact_resume_work_as_for_the_full_task() -> None:
    make = lambda: make_vec("rlstab/HopperP-v0", 2, seed=1, disturbances="latency=1,noise=0.01")  # noqa: E731
    env: Any = make()
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 2, 3)).astype(np.float32)
    for action in actions[:30]:
        env.step(action)
    other: Any = make()
    other.load_state_dict(env.state_dict())
    for action in actions[30:]:
        for mine, theirs in zip(env.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
