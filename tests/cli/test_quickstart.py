from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from rlstab.cli import quickstart
from rlstab.errors import command
from rlstab.policies.loading import choose_checkpoint
from rlstab.runs.run import Run

FLAGS = ["--env", "InvertedPendulum-v5", "--total-steps", "4096", "--episodes", "2", "--out"]


@pytest.fixture(scope="module", autouse=True)
def _short_paced_part():
    before, quickstart._PACED_SECONDS = quickstart._PACED_SECONDS, 0.2
    yield
    quickstart._PACED_SECONDS = before


def test_the_whole_way_and_the_same_command_again(call_json, call, tmp_path):
    out = tmp_path / "out"
    code, document = call_json("quickstart", *FLAGS, out)
    assert code == 0
    assert document["steps"] == 4096
    best = choose_checkpoint(Run.open(Path(document["run"])))
    assert (document["checkpoint_step"], document["checkpoint_rule"]) == best
    assert (
        json.loads((Path(document["run"]) / "exports" / "policy.contract.json").read_text())["training"]["steps"]
        == best.step
    )
    assert document["relative_difference"] < 0.02
    assert document["peak_memory_bytes"] > 2**20
    page = (out / "report.html").read_text()
    assert "PPO on InvertedPendulum-v5" in page
    named = f"step {best.step:,}, {best.rule}"
    assert f'<th scope="row">Checkpoint</th><td>{named}</td>' in page
    assert f"the checkpoint of {named}" in page
    assert "exploration noise included" in page
    assert ("which is not the end of the curve" in page) == (best.step != 4096)
    assert not re.findall(r'(?:src|href)="https?://', page)

    # Killed between its last checkpoint and its conclusion: the same command goes on.
    run = Run.open(Path(document["run"]))
    run.update(status="running")
    code, shown, err = call("quickstart", *FLAGS, out)
    assert code == 0
    assert "going on at step 4096" in err
    assert Run.open(run.path).info.status == "finished"

    code, shown, err = call("quickstart", *FLAGS, out)
    assert code == 0
    assert "is trained already" in err
    assert f"open file://{out}/report.html" in shown
    assert "deployed ONNX" in shown
    assert named in shown


def test_an_environment_without_a_control_period_is_deployed_without_pace(call_json, tmp_path):
    flags = ["--env", "CartPole-v1", "--total-steps", "512", "--episodes", "2", "--out", tmp_path]
    code, document = call_json("quickstart", *flags)
    assert code == 0
    assert document["paced"] is False
    assert document["control_dt_s"] is None
    assert document["latency_ms"]["period_error"] is None
    assert document["deployed_mean_return"] == document["mean_return"]
    page = (tmp_path / "report.html").read_text()
    assert "not in real time" in page
    assert "--no-realtime" in page


class Switches(gymnasium.Env):
    """Several choices at once; ends after nine steps, without a time limit."""

    observation_space: gymnasium.Space = gymnasium.spaces.Box(0, 9, (1,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.speed = 0, self.np_random.uniform(0, 1)
        return self._seen(), {}

    def step(self, action):
        self.time += 1
        return self._seen(), float(action.sum()), self.time == 9, False, {}

    def _seen(self):
        return np.array([self.time * self.speed], np.float32)


@pytest.fixture
def switches(monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Switches-v0", EnvSpec("Switches-v0", entry_point=Switches))


def test_actions_of_several_choices_go_the_whole_way(call_json, tmp_path, switches):
    flags = ["--env", "Switches-v0", "--total-steps", "512", "--episodes", "2", "--out", tmp_path]
    code, document = call_json("quickstart", *flags)
    assert code == 0
    assert document["deployed_mean_return"] == document["mean_return"]


def test_what_could_not_be_exported_is_refused_before_training(refused, tmp_path, monkeypatch, switches):
    monkeypatch.setattr(quickstart, "begin", lambda *a, **k: (_ for _ in ()).throw(AssertionError("must not train")))
    monkeypatch.setattr(Switches, "observation_space", gymnasium.spaces.MultiBinary(3))
    line = refused("quickstart", "--env", "Switches-v0", "--out", tmp_path)
    assert "cannot export a policy on a MultiBinary observation space" in line
    assert "FlattenObservation" in line


def test_a_time_limit_can_be_set_and_its_lack_is_said(call, tmp_path, monkeypatch, switches):
    made = []
    monkeypatch.setattr(
        quickstart,
        "begin",
        lambda method, config, *a, **k: (made.append(config), SimpleNamespace(status="interrupted")),
    )
    _, _, err = call("quickstart", "--env", "Switches-v0", "--out", tmp_path)
    assert "Switches-v0 has no time limit: if its episodes do not end by themselves, add --max-episode-steps" in err
    _, _, err = call("quickstart", "--env", "Switches-v0", "--out", tmp_path, "--max-episode-steps", 7)
    assert "no time limit" not in err
    assert [config.max_episode_steps for config in made] == [None, 7]


def test_a_name_without_version_has_the_presets_of_the_newest(call, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        quickstart, "begin", lambda method, config, *a, **k: (made.append(config), SimpleNamespace(status="stopped"))
    )
    call("quickstart", "--env", "Hopper", "--out", tmp_path)
    assert made[-1] == quickstart._config(quickstart.QuickstartOptions(env="Hopper-v5"))


def test_other_settings_in_the_same_folder_are_refused(call, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "begin", lambda *a, **k: (_ for _ in ()).throw(AssertionError("must not train")))
    path = tmp_path / "ppo-InvertedPendulum-v5-seed0"
    opened = SimpleNamespace(info=SimpleNamespace(method="ppo", config={"total_steps": 1}))
    path.mkdir()
    monkeypatch.setattr("rlstab.runs.run.Run.open", lambda folder: opened)
    assert "other settings" in refused("quickstart", *FLAGS, tmp_path)


def test_interrupted_training_says_how_to_go_on(call, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "begin", lambda *a, **k: (None, SimpleNamespace(status="interrupted")))
    code, out, err = call("quickstart", *FLAGS, tmp_path, "--seed", 3)
    assert code == 130
    assert out == ""
    assert f"to go on: {command('quickstart', *FLAGS, tmp_path, '--seed', 3)}" in err


def test_the_preset_is_that_of_the_environment():
    hopper = quickstart._config(quickstart.QuickstartOptions())
    swimmer = quickstart._config(quickstart.QuickstartOptions(env="Swimmer-v5", seed=4, total_steps=99))
    assert hopper.env == "Hopper-v5"
    assert (swimmer.env, swimmer.seed, swimmer.total_steps) == ("Swimmer-v5", 4, 99)


def test_unknown_environment(refused, tmp_path):
    assert "did you mean 'Hopper-v5'" in refused("quickstart", "--env", "Hoper-v5", "--out", tmp_path)
