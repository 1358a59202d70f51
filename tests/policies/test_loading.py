from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy
from rlstab.policies.loading import choose_checkpoint, load_policy, policy_from_state
from rlstab.runs import checkpoint
from rlstab.runs.run import Run

BOX = spaces.Box(-1.0, 1.0, (3,), np.float64)


def policy(seed: int) -> ActorCriticPolicy:
    return ActorCriticPolicy(BOX, BOX, seed=seed)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path, method="ppo", env_id="A-v0", config={}, seed=0, device="cpu", command=[], name="run")
    for step, score in ((100, 2.0), (200, 1.0)):
        state = {"policy": policy(step).state_dict(), "replay": {"arrays": {"rewards": np.zeros(10_000)}}}
        run.checkpoints.save(step, state, score=score)
    return run


def acts_as(loaded: object, step: int) -> bool:
    observation = np.ones(3)
    expected, _ = policy(step).predict(observation, deterministic=True)
    return bool(np.array_equal(loaded.predict(observation, deterministic=True)[0], expected))


@pytest.mark.parametrize(("which", "step"), [("best", 100), ("last", 200), (100, 100), ("200", 200)])
def test_a_checkpoint_by_any_of_its_names(run: Run, which: str | int, step: int) -> None:
    assert acts_as(load_policy(run, which), step)
    assert acts_as(load_policy(run.path, which), step)


def test_other_names_are_refused(run: Run) -> None:
    with pytest.raises(UserError, match="'newest' names no checkpoint; it must be best, last or a step number"):
        load_policy(run, "newest")
    with pytest.raises(UserError, match="no checkpoint of step 150; there: 100, 200"):
        load_policy(run, 150)


def test_the_replay_buffer_is_not_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = checkpoint.read_tensors
    monkeypatch.setattr(checkpoint, "read_tensors", lambda path, names: asked.extend(names) or read(path, names))
    load_policy(run)
    assert asked
    assert all(name.startswith("policy/") for name in asked)


def test_a_run_without_a_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    run = Run.create(tmp_path, method="ppo", env_id="A-v0", config={}, seed=0, device="cpu", command=[], name="run")
    with pytest.raises(UserError, match=f"has no checkpoint yet; train it further: .*train --resume {run.path}"):
        load_policy(run)


def test_the_checkpoint_is_chosen_with_a_reason(run: Run, tmp_path: Path) -> None:
    assert choose_checkpoint(run) == (100, "best by training return")
    assert choose_checkpoint(run, "last") == (200, "the newest")
    assert choose_checkpoint(run, "200") == choose_checkpoint(run, 200) == (200, "chosen by its step")
    plain = Run.create(tmp_path / "plain", method="ppo", env_id="A-v0", config={}, seed=0, device="cpu", command=[])
    plain.checkpoints.save(7, {"policy": policy(7).state_dict()})
    assert choose_checkpoint(plain) == (7, "the newest: none has a training return")


def test_a_model_of_stable_baselines_is_pointed_to_its_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", "")
    with pytest.raises(
        UserError, match=r"model of Stable-Baselines3, not a run.*load_sb3_zip\(path, allow_pickle=True\)"
    ):
        load_policy(path)


def test_an_unknown_kind() -> None:
    with pytest.raises(UserError, match="unknown kind of policy 'actor_critc'; did you mean 'actor_critic'"):
        policy_from_state({"kind": "actor_critc"})
