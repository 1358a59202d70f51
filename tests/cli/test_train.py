from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rlstab.cli.main import main
from rlstab.cli.train import read_flags
from rlstab.errors import UserError, command
from rlstab.runs.checkpoint import read_checkpoint
from rlstab.runs.run import Run


def test_run_directory_holds_the_resolved_configuration(trained):
    info = Run.open(trained).info
    assert info.status == "finished"
    assert info.step == 512
    assert info.config["hidden_sizes"] == [8]
    assert info.config["checkpoint_every"] == 256
    assert info.command[:3] == ["rlstab", "train", "ppo"]


def test_json_is_one_document_and_progress_is_on_stderr(call, tmp_path, tiny):
    code, out, err = call(*tiny, "--total-steps", 128, "--run-dir", tmp_path, "--name", "a", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["status"] == "finished"
    assert document["run"] == str(tmp_path / "a")
    assert "step 128/128" in err


def test_preset_is_told_and_flags_win(capsys):
    _, config, preset = read_flags("sac", ["--env", "Swimmer-v5", "--learning-starts", "7"])
    assert preset.name == "Swimmer-v5"
    assert config.gamma == 0.9999
    assert config.learning_starts == 7
    _, plain, _ = read_flags("sac", ["--env", "Swimmer-v5", "--preset", "none"])
    assert plain.gamma == 0.99
    _, named, _ = read_flags("sac", ["--preset", "Swimmer-v5"])
    assert (named.env, named.gamma) == ("Hopper-v5", 0.9999)


def test_preset_shows_in_help(capsys):
    assert main(["train", "sac", "--env", "Swimmer-v5", "--help"]) == 0
    # However the box is folded.
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 0.9999)" in shown
    assert "Settings below are those of the preset Swimmer-v5" in shown


def test_preset_is_announced(call, tmp_path):
    _, _, err = call("train", "td3", "--env", "Hoppper-v5", "--run-dir", tmp_path)
    assert "no preset of td3" in err
    _, _, err = call("train", "dqn", "--device", "nowhere", "--run-dir", tmp_path)
    assert "preset dqn/CartPole-v1: total_steps 50000" in err
    _, _, err = call("train", "dqn", "--preset", "none", "--device", "nowhere", "--run-dir", tmp_path)
    assert "plain defaults, as --preset none asks" in err
    assert "no preset" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pppo"], "did you mean 'ppo'"),
        ([], "which method?"),
        (["ppo", "--env", "Hoper-v5"], "did you mean 'Hopper-v5'"),
        (["sac", "--env", "CartPole-v1"], "ppo or dqn"),
        (["dqn", "--env", "Hopper-v5"], "ppo or sac or td3"),
        (["ppo", "--seed", "x"], "--seed"),
        (["ppo", "--seed", "-1"], "seed is -1, but must be at least 0"),
        (["sac", "--gamma", "1.5"], "gamma is 1.5, but must be at most 1.0"),
        (["sac", "--batch-size", "0"], "is 0, but must be at least 1 transition"),
        (["ppo", "--learning-rat", "1"], "did you mean --learning-rate"),
        (["ppo", "--preset", "fast"], "no preset 'fast'"),
        (["ppo", "--name", "a/b"], "letters, digits"),
        (["ppo", "--name", "", "--env", "Nothing-v0"], "an empty name cannot name a run"),
        (["ppo", "--name", "..", "--env", "Nothing-v0"], "'..' cannot name a run"),
        (["ppo", "--learning-rate", "inf"], "is inf, but must be finite"),
        (["ppo", "--num-envs", "0"], "must be at least 1 world"),
        (["ppo", "--device", "meta"], "unknown device 'meta'"),
        (["ppo", "--resume", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(refused, tmp_path, arguments, expected):
    assert expected in refused("train", *arguments)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_an_environment_without_version_is_the_latest_one_with_its_preset(capsys):
    _, config, preset = read_flags("sac", ["--env", "Swimmer"])
    assert (config.env, preset.name, config.gamma) == ("Swimmer-v5", "Swimmer-v5", 0.9999)


def test_settings_that_no_environment_of_the_name_has_show_those_there_are(refused, tmp_path):
    line = refused("train", "ppo", "--env-kwargs", "reset_noise_scal", "3", "--run-dir", tmp_path / "runs")
    assert "Hopper-v5 has no setting reset_noise_scal; did you mean 'reset_noise_scale'? It has " in line


def test_existing_name_is_refused_with_the_command_to_go_on(refused, trained, tiny):
    line = refused(*tiny, "--run-dir", trained.parent, "--name", "run")
    assert command("train", "--resume", trained) in line


def test_folder_that_is_no_run(refused, tmp_path):
    assert "is not a run" in refused("train", "--resume", tmp_path)


def test_finished_run_needs_more_steps(refused, trained):
    assert "--total-steps" in refused("train", "--resume", trained)


def test_a_run_killed_before_its_conclusion_can_be_finished(call, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    document = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(document | {"status": "running"}))
    code, _, err = call("train", "--resume", copy)
    assert code == 0
    assert "going on at step 512" in err
    assert Run.open(copy).info.status == "finished"


def test_a_damaged_last_checkpoint_is_trained_again(call, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "checkpoints" / "step-000000000512" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    code, _, err = call("train", "--resume", copy)
    assert code == 0
    assert "going on at step 256" in err
    assert Run.open(copy).checkpoints.steps() == [256, 512]


def test_other_method_when_resuming(refused, trained):
    assert "is a run of ppo, not sac" in refused("train", "sac", "--resume", trained)


def test_resume_extends_a_run_and_equals_the_uninterrupted_one(call, tmp_path, tiny):
    common = [*tiny, "--checkpoint-every", "256", "--run-dir", tmp_path]
    assert call(*common, "--total-steps", 768, "--name", "whole")[0] == 0
    assert call(*common, "--total-steps", 384, "--name", "parts")[0] == 0
    assert call("train", "--resume", tmp_path / "parts", "--total-steps", 768)[0] == 0
    first, second = (read_checkpoint(Run.open(tmp_path / name).checkpoints.latest()) for name in ("whole", "parts"))
    assert first.step == second.step == 768
    for name, value in first.state["policy"]["weights"].items():
        np.testing.assert_array_equal(value, second.state["policy"]["weights"][name])
    assert Run.open(tmp_path / "parts").info.config["total_steps"] == 768


def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(tmp_path, call, tiny):
    command = [sys.executable, "-m", "rlstab", *tiny, "--total-steps", "10000000", "--run-dir", str(tmp_path)]
    process = subprocess.Popen([*command, "--name", "a"], stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    told = process.stderr.read()
    assert process.wait() == 130
    assert f"rlstab train --resume {tmp_path / 'a'}" in told
    run = Run.open(tmp_path / "a")
    assert run.info.status == "interrupted"
    step = run.checkpoints.steps()[-1]
    code, _, err = call("train", "--resume", tmp_path / "a", "--total-steps", step + 128)
    assert code == 0
    assert f"at step {step} from" in err


def test_a_second_writer_is_refused(refused, trained):
    with Run.open(trained).lock():
        assert "rlstab: " in refused("train", "--resume", trained, "--total-steps", "1024")


def test_flags_are_validated_too():
    with pytest.raises(UserError, match=r"clip.range is -0\.1"):
        read_flags("ppo", ["--clip-range", "-0.1"])


def test_environment_settings_and_disturbances_reach_training_and_evaluation(call, call_json, tmp_path, tiny):
    more = [
        "--env-kwargs",
        "reset_noise_scale",
        "0.0",
        "--max-episode-steps",
        "7",
        "--disturbances",
        "gain=0.5,latency=1",
    ]
    arguments = [*tiny, *more, "--total-steps", "128", "--run-dir", tmp_path, "--name", "run"]
    assert call(*arguments)[0] == 0
    config = Run.open(tmp_path / "run").info.config
    assert config["env_kwargs"] == {"reset_noise_scale": 0.0}
    assert config["disturbances"] == "gain=0.5,latency=1"

    code, document = call_json("evaluate", tmp_path / "run", "--episodes", "3")
    assert code == 0
    evaluation = document["evaluations"][0]
    assert evaluation["disturbances"] == []
    assert max(evaluation["lengths"]) <= 7
    assert len(set(evaluation["returns"])) == 1, "without reset noise all episodes are alike"
    code, document = call_json("evaluate", tmp_path / "run", "--episodes", "3", "--disturbances", "tilt=5")
    assert code == 0
    assert "GravityTilt" in document["evaluations"][0]["disturbances"][0]


def test_misspelt_disturbances_are_refused(refused, tiny, tmp_path):
    assert "did you mean 'friction'" in refused(*tiny, "--disturbances", "frictoin=2", "--run-dir", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_help_of_resuming_says_what_a_schedule_does(capsys):
    assert main(["train", "--resume", "RUN", "--help"]) == 0
    assert "laid over the new length" in " ".join(capsys.readouterr().out.split())


def test_what_is_printed_next_is_quoted(call, tmp_path, tiny):
    code, out, _ = call(*tiny, "--total-steps", 128, "--run-dir", tmp_path / "my runs", "--name", "a")
    assert code == 0
    assert f"{command('evaluate', tmp_path / 'my runs' / 'a')}" in out
