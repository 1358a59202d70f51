from __future__ import annotations

import zipfile

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

from rlstab.errors import UserError
from rlstab.policies.sb3_zip import is_sb3_zip, load_sb3_zip


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "model.zip"
    if request.param == "ppo":
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs={"net_arch": [8]}, seed=0)
    else:
        model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0)
    model.save(path)
    return model, path


def test_pickle_must_be_agreed_to(saved):
    _, path = saved
    assert is_sb3_zip(path)
    with pytest.raises(UserError, match=r"runs whatever code its author put in.*--allow-pickle"):
        load_sb3_zip(path)


def test_policy_acts_as_the_model(saved):
    model, path = saved
    policy = load_sb3_zip(path, allow_pickle=True)
    space = gymnasium.make("CartPole-v1").observation_space
    space.seed(0)
    batch = np.clip(np.stack([space.sample() for _ in range(5)]), -3, 3)
    expected = model.policy.predict(batch, deterministic=True)[0]
    np.testing.assert_array_equal(policy.predict(batch, deterministic=True)[0], expected)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"not a zip")
    assert not is_sb3_zip(path)
    assert not is_sb3_zip(tmp_path / "absent.zip")
    with pytest.raises(UserError, match="not a model saved by Stable-Baselines3: it is no zip archive"):
        load_sb3_zip(path, allow_pickle=True)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="it is no zip archive"):
        load_sb3_zip(str(path), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(UserError, match=r"it lacks 'data' and 'policy\.pth'"):
        load_sb3_zip(path, allow_pickle=True)
    with pytest.raises(UserError, match="there is no file"):
        load_sb3_zip(tmp_path / "absent.zip")


def test_a_broken_file_is_one_line(saved, tmp_path):
    _, path = saved
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"{}" if name == "data" else source.read(name))
    with pytest.raises(UserError, match="cannot be read"):
        load_sb3_zip(broken, allow_pickle=True)
