from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO

from rlstab.analysis.evaluation import DEFAULT_SEED
from rlstab.cli.evaluate import EvaluateOptions


def test_default_seed_is_that_of_the_library():
    assert EvaluateOptions(policies=()).seed == DEFAULT_SEED


def test_table_and_saved_result(call, trained):
    code, out, _ = call("evaluate", trained, "--episodes", 3)
    assert code == 0
    assert "mean return" in out
    assert list((trained / "evaluations").glob("best-deterministic-3-episodes-seed*.json"))


def test_json_and_several_runs(call_json, trained):
    code, document = call_json("evaluate", trained, trained, "--episodes", 3, "--seed", 5)
    assert code == 0
    first, second = document["evaluations"]
    assert len(first["returns"]) == 3
    assert first["returns"] == second["returns"]
    assert document["aggregate"]["kind"] == "aggregate"


def test_one_run_has_no_aggregate(call_json, trained):
    assert call_json("evaluate", trained, "--episodes", 1)[1]["aggregate"] is None


def test_checkpoints_and_sampling_differ(call_json, trained):
    def returns(*flags):
        return call_json("evaluate", trained, "--episodes", 4, *flags)[1]["evaluations"][0]["returns"]

    assert returns("--checkpoint", "last") == returns("--checkpoint", "512")
    assert returns("--checkpoint", "256") != returns("--checkpoint", "512")
    assert returns("--stochastic") != returns()
    assert returns("--stochastic") == returns("--stochastic")


def test_exported_file_evaluates_as_its_run(call_json, trained, tmp_path):
    file = tmp_path / "policy.onnx"
    call_json("export", trained, "--out", file)
    ours = call_json("evaluate", trained, "--episodes", 3)[1]["evaluations"][0]["returns"]
    exported = call_json("evaluate", file, "--episodes", 3)[1]["evaluations"][0]["returns"]
    np.testing.assert_allclose(exported, ours, rtol=0.02)


@pytest.fixture(scope="module")
def sb3_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sb3") / "model.zip"
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0).save(path)
    return path


def test_sb3_file_needs_consent_and_an_environment(refused, call_json, sb3_file):
    assert "--allow-pickle" in refused("evaluate", sb3_file, "--env", "CartPole-v1")
    assert "--env ID" in refused("evaluate", sb3_file, "--allow-pickle")
    code, document = call_json("evaluate", sb3_file, "--env", "CartPole-v1", "--allow-pickle", "--episodes", 2)
    assert code == 0
    assert len(document["evaluations"][0]["returns"]) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "which policy?"),
        (["nowhere"], "nowhere"),
        (["RUN", "--checkpoint", "newest"], "best, last or a step number"),
        (["RUN", "--checkpoint", "7"], "no checkpoint of step 7; there: 256, 512"),
        (["RUN", "--episodes", "0"], "must be at least 1"),
        (["RUN", "--env", "Hopper-v5"], "observations"),
    ],
)
def test_mistakes(refused, trained, arguments, expected):
    assert expected in refused("evaluate", *(trained if argument == "RUN" else argument for argument in arguments))


def test_damaged_checkpoint_names_the_checksum(refused, trained, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "checkpoints" / "step-000000000512" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    line = refused("evaluate", copy, "--checkpoint", "last")
    assert "checksum" in line
    assert "step-000000000256" in line
