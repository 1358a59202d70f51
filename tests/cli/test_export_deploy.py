from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from rlstab.analysis.evaluation import DEFAULT_SEED
from rlstab.cli.deploy import DeployOptions
from rlstab.errors import NonFiniteState, UserError


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    from rlstab.cli.main import main

    path = tmp_path_factory.mktemp("exported") / "policy.onnx"
    assert main(["export", str(trained), "--out", str(path)]) == 0
    return path


def test_export_into_the_run(call, call_json, trained):
    code, out, _ = call("export", trained)
    assert code == 0
    assert f"rlstab deploy {trained / 'exports' / 'policy.onnx'}" in out.replace("\n", "")
    code, document = call_json("export", trained, "--checkpoint", "last")
    assert document["steps"] == 512
    assert len(document["sha256"]) == 64


def test_the_command_that_export_prints_works_without_a_control_period(call, tiny, tmp_path):
    flags = [*tiny, "--env", "CartPole-v1", "--total-steps", "128", "--run-dir", tmp_path, "--name", "cart"]
    assert call(*flags)[0] == 0
    _, out, _ = call("export", tmp_path / "cart")
    printed = shlex.split(out.replace("\n", " ").partition("run it with: ")[2])
    assert printed[-1] == "--no-realtime"
    code, out, err = call(*printed[printed.index("deploy") :])
    assert code == 0, err
    assert "mean return" in out


def test_a_native_policy_is_deployed_in_gymnasiums_environment_with_a_notice(call, call_json, exported):
    for flags in (("--no-realtime",), ("--dry-run",)):
        code, _, err = call("deploy", exported, "--backend", "gymnasium", *flags)
        assert code == 0
        assert err.count("does not name the parts of the observation") == 1
        _, document = call_json("deploy", exported, "--backend", "gymnasium", *flags)
        assert len(document["notices"]) == 1
        assert call_json("deploy", exported, *flags)[1]["notices"] == []


def test_a_model_of_stable_baselines_is_not_exported(refused, tmp_path):
    path = tmp_path / "cp.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", "")
    assert f"{path} is a model of Stable-Baselines3, not a run" in refused("export", path)


def test_export_mistakes(refused, trained, tmp_path):
    assert ".onnx" in refused("export", trained, "--out", tmp_path / "policy.bin")
    assert "is not a run" in refused("export", tmp_path)


def test_deploy_returns_what_evaluation_does(call_json, trained, exported):
    _, evaluated = call_json("evaluate", trained, "--episodes", 4)
    code, deployed = call_json("deploy", exported, "--no-realtime", "--episodes", 4, "--seed", 10_000)
    assert code == 0
    np.testing.assert_allclose(deployed["returns"], evaluated["evaluations"][0]["returns"], rtol=0.02)
    assert deployed["latency_ms"]["inference"]["count"] == sum(deployed["lengths"])


def test_deploy_prints_returns_and_latency(call, exported):
    code, out, err = call("deploy", exported, "--no-realtime")
    assert code == 0
    assert "mean return" in out
    assert "inference" in out
    assert "episode 1/1" in err


def test_paced_deployment_keeps_the_duration(call_json, exported):
    _, document = call_json("deploy", exported, "--duration", "0.2")
    assert document["realtime"]
    assert document["lengths"][0] <= 5
    assert document["latency_ms"]["period_error"]["count"] > 0


def test_dry_run_moves_nothing(call, call_json, exported):
    code, out, _ = call("deploy", exported, "--dry-run")
    assert code == 0
    assert "keeps its contract" in out
    assert call_json("deploy", exported, "--dry-run")[1]["ok"] is True


def test_a_dry_run_refuses_what_the_deployment_would(refused, exported):
    assert "sigma must be at least 0" in refused("deploy", exported, "--dry-run", "--gap", "noise=-1")
    assert "native" in refused("deploy", exported, "--dry-run", "--backend", "gymnasium", "--gap", "gain=0.5")
    assert "duration is inf" in refused("deploy", exported, "--dry-run", "--duration", "inf")


def test_episodes_that_were_cut_are_left_out_of_the_mean(call, monkeypatch, exported):
    import rlstab.sim2real.deploy as library

    real = library.deploy

    def cut_first(*arguments, **settings):
        report = real(*arguments, **settings)
        return dataclasses.replace(report, returns=(1e6, 3.0), ended=("duration", "terminated"))

    monkeypatch.setattr(library, "deploy", cut_first)
    _, out, _ = call("deploy", exported, "--no-realtime", "--episodes", 2)
    assert "mean return 3.0 over 1 episode(s); 1 that did not end by themselves left out" in out


def test_deploy_does_not_import_torch(exported):
    code = (
        "import sys\n"
        "from rlstab.cli.main import main\n"
        f"assert main(['deploy', {str(exported)!r}, '--no-realtime']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_deploy_mistakes(refused, exported, tmp_path):
    assert "no-such.onnx" in refused("deploy", tmp_path / "no-such.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx")
    assert "broken.onnx" in refused("deploy", tmp_path / "broken.onnx")
    refused("deploy", exported, "--env", "Hopper-v5")
    assert "mujoco" in refused("deploy", exported, "--backend", "mujcoo")
    assert "--episodes is 0, but must be at least 1" in refused("deploy", exported, "--episodes", "0")
    assert "--duration is 0.0, but must be greater than 0" in refused("deploy", exported, "--duration", "0")


def test_gap_changes_the_simulator_and_the_log_keeps_every_tick(call_json, exported, tmp_path):
    plain = call_json("deploy", exported, "--no-realtime", "--episodes", "2")[1]
    log = tmp_path / "log.npz"
    changed = call_json("deploy", exported, "--no-realtime", "--episodes", "2", "--gap", "gain=0.3", "--record", log)[1]
    assert changed["returns"] != plain["returns"]
    with np.load(log) as recorded:
        assert (~recorded["final"]).sum() == sum(changed["lengths"])
        assert np.nansum(recorded["reward"]) == pytest.approx(sum(changed["returns"]))


@pytest.fixture
def diverging(monkeypatch):
    """Native environments whose sixth step gives NaN."""
    from rlstab.envs.batch_env import BatchEnv

    step = BatchEnv.step

    def diverge(self, actions):
        if self.total_steps == 5:
            raise NonFiniteState("NaN in world 0", step=6, worlds=[0], arrays={"qpos": np.full((1, 2), np.nan)})
        return step(self, actions)

    monkeypatch.setattr(BatchEnv, "step", diverge)


def test_a_deployment_that_fails_keeps_its_log_and_its_last_states(refused, exported, tmp_path, diverging):
    log = tmp_path / "log.npz"
    line = refused("deploy", exported, "--no-realtime", "--record", log)
    assert "NaN in world 0; the state is saved in failure/deploy-InvertedPendulum-v5-seed10000-episode0.npz" in line
    with np.load(log) as recorded, np.load("failure/deploy-InvertedPendulum-v5-seed10000-episode0.npz") as saved:
        assert len(recorded["action"]) == len(saved["log_action"]) == 6
        assert np.isnan(saved["qpos"]).all()


def test_an_evaluation_that_fails_keeps_the_state(refused, trained, diverging):
    line = refused("evaluate", trained, "--episodes", 2)
    file = trained / "failure" / "evaluate-InvertedPendulum-v5-seed10000-episode0.npz"
    assert f"the state is saved in {file}" in line
    with np.load(file) as saved:
        assert np.isnan(saved["qpos"]).all()


def test_a_log_that_cannot_be_written_is_known_before_anything_moves(refused, exported, tmp_path):
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    for flags in ((), ("--dry-run",)):
        assert "there is no folder" in refused("deploy", exported, "--record", tmp_path / "none" / "log.npz", *flags)
        assert f"{folder}: it is a folder; give a file in it" in refused("deploy", exported, "--record", folder, *flags)
        line = refused("deploy", exported, "--record", tmp_path / "log.txt", *flags)
        assert f"the log is numpy's .npz; name it so, as in {tmp_path / 'log.npz'}" in line


def test_a_log_the_disk_refuses_does_not_cost_the_results(call, exported, tmp_path, monkeypatch):
    import rlstab.sim2real.deploy as library

    real, log = library.deploy, tmp_path / "log.npz"

    def block(*arguments, **settings):
        report = real(*arguments, **settings)
        log.mkdir()
        return report

    monkeypatch.setattr(library, "deploy", block)
    code, out, err = call("deploy", exported, "--no-realtime", "--record", log)
    assert code == 2
    assert "mean return" in out
    assert f"rlstab: cannot write {log}" in err
    assert err.count("cannot write") == 1


def test_a_log_the_disk_refuses_does_not_hide_why_the_deployment_failed(call, exported, tmp_path, diverging):
    from rlstab.sim2real import recorder

    log = tmp_path / "log.npz"

    def refuse(path, content):
        raise UserError(f"cannot write {path}: no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "write_bytes", refuse)
        code, _, err = call("deploy", exported, "--no-realtime", "--record", log)
    assert code == 2
    assert f"not recorded: cannot write {log}" in err
    assert any(line.startswith("rlstab: NaN in world 0") for line in err.splitlines())


def test_plain_commands_play_the_same_episodes(call_json, trained, exported):
    assert DeployOptions(file=exported).seed == DEFAULT_SEED
    _, evaluated = call_json("evaluate", exported, "--episodes", 1)
    _, deployed = call_json("deploy", exported, "--no-realtime")
    np.testing.assert_allclose(deployed["returns"], evaluated["evaluations"][0]["returns"], rtol=1e-6)
