from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlstab.cli import quickstart
from rlstab.errors import command
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
    assert document["relative_difference"] < 0.02
    assert document["peak_memory_bytes"] > 2**20
    page = (out / "report.html").read_text()
    assert "PPO on InvertedPendulum-v5" in page
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
