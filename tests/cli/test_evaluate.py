from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3 import PPO

from rlstab.analysis.evaluation import DEFAULT_SEED
from rlstab.cli import evaluate
from rlstab.cli.console import EpisodesView
from rlstab.cli.evaluate import EvaluateOptions
from rlstab.errors import UserError


def test_default_seed_is_that_of_the_library():
    assert EvaluateOptions(policies=()).seed == DEFAULT_SEED


def test_table_and_saved_result(call, trained):
    code, out, _ = call("evaluate", trained, "--episodes", 3)
    assert code == 0
    assert "mean return" in out
    assert list((trained / "evaluations").glob(f"{best(trained)}-deterministic-3-episodes-seed*.json"))


@pytest.fixture(scope="module")
def another(trained, tmp_path_factory):
    """A second training of the same method, as far as its file says."""
    target = tmp_path_factory.mktemp("another") / "run"
    shutil.copytree(trained, target)
    change_run(target, name="another")
    return target


def change_run(folder, **values):
    document = json.loads((folder / "run.json").read_text())
    for name, value in values.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    (folder / "run.json").write_text(json.dumps(document))


def test_json_and_several_runs(call_json, trained, another):
    code, document = call_json("evaluate", trained, another, "--episodes", 3, "--seed", 5)
    assert code == 0
    first, second = document["evaluations"]
    assert len(first["returns"]) == 3
    assert first["returns"] == second["returns"]
    assert document["aggregate"]["kind"] == "aggregate"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "sac"}, "they are of different methods (ppo, sac)"),
        ({"name": "run"}, "several of these come from one training"),
        ({"config": {"max_episode_steps": 9}}, "their time limits differ (9, None)"),
        ({"config": {"env_kwargs": {"reset_noise_scale": 0.0}}}, "their environments' settings differ"),
    ],
)
def test_what_cannot_be_compared_has_no_aggregate(call, trained, another, tmp_path, changes, reason):
    other = tmp_path / "other"
    shutil.copytree(another, other)
    change_run(other, **changes)
    code, out, err = call("evaluate", trained, other, "--episodes", 2)
    assert code == 0
    assert f"no aggregate: {reason}" in err
    assert "together" not in out


def test_what_was_found_before_an_error_is_shown(call, trained, another, monkeypatch):
    import rlstab.analysis.evaluation as library

    real = library.evaluate

    def fail_later(*arguments, **settings):
        monkeypatch.setattr(library, "evaluate", refuse)
        return real(*arguments, **settings)

    def refuse(*arguments, **settings):
        raise UserError("the second one broke")

    monkeypatch.setattr(library, "evaluate", fail_later)
    code, out, err = call("evaluate", trained, another, "--episodes", 2)
    assert code == 2
    assert out.count("mean return") == 1
    assert "rlstab: the second one broke" in err


def test_a_limit_of_the_episodes_can_be_set(call_json, copy):
    code, document = call_json("evaluate", copy, "--episodes", 2, "--seed", 5, "--max-episode-steps", 3)
    assert code == 0
    assert document["evaluations"][0]["lengths"] == [3, 3]
    assert names(copy / "evaluations") == {f"{best(copy)}-deterministic-2-episodes-seed5-limit3.json"}


def test_numbers_are_shown_where_they_cannot_be_kept(call, copy):
    (copy / "evaluations").mkdir()
    (copy / "evaluations" / f"{best(copy)}-deterministic-2-episodes-seed5.json").mkdir()
    code, out, err = call("evaluate", copy, "--episodes", 2, "--seed", 5)
    assert code == 2
    assert "mean return" in out
    assert err.count("cannot write") == 1


def test_each_run_whose_numbers_cannot_be_kept_is_named(call, copy, another, tmp_path):
    second = tmp_path / "second"
    shutil.copytree(another, second, ignore=shutil.ignore_patterns("evaluations"))
    for run in (copy, second):
        (run / "evaluations" / f"{best(copy)}-deterministic-2-episodes-seed5.json").mkdir(parents=True)
    code, _, err = call("evaluate", copy, second, "--episodes", 2, "--seed", 5)
    assert code == 2
    assert f"not kept: cannot write {copy}" in err
    assert f"rlstab: cannot write {second}" in err
    assert err.count("cannot write") == 2


def test_the_checkpoint_is_named_in_table_and_document(call, call_json, copy):
    step = int(best(copy).removeprefix("step"))
    _, out, _ = call("evaluate", copy, "--episodes", 2)
    assert f"step {step:,}, best by training return" in out
    document = call_json("evaluate", copy, "--episodes", 2, "--checkpoint", "last")[1]["evaluations"][0]
    assert (document["checkpoint_step"], document["checkpoint_rule"]) == (512, "the newest")
    assert document["summary"]["checkpoint"] == "step 512, the newest"
    call("export", copy, "--checkpoint", "256")
    exported = call_json("evaluate", copy / "exports" / "policy.onnx", "--episodes", 2)[1]["evaluations"][0]
    assert (exported["checkpoint_step"], exported["summary"]["checkpoint"]) == (256, "step 256")


class Endless(gymnasium.Env):
    """Has the pendulum's spaces and goes on for ever."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = gymnasium.spaces.Box(-3, 3, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4), {}

    def step(self, action):
        return np.zeros(4), 1.0, False, False, {}


def test_an_environment_that_never_ends_is_refused_early_and_the_flag_helps(
    call, call_json, refused, trained, monkeypatch
):
    from rlstab.analysis import episodes

    monkeypatch.setattr(episodes, "PATIENCE", 50)
    monkeypatch.setitem(gymnasium.registry, "Endless-v0", EnvSpec("Endless-v0", entry_point=Endless))
    flags = ("evaluate", trained, "--env", "Endless-v0", "--episodes", 2)
    line = refused(*flags)
    assert "no episode ended within 50 steps" in line
    assert "--max-episode-steps" in line
    limited = call_json(*flags, "--max-episode-steps", 60)[1]["evaluations"][0]
    assert limited["lengths"] == [60, 60]


def test_a_long_evaluation_shows_how_far_it_is(call, trained, monkeypatch):
    monkeypatch.setattr(evaluate, "EpisodesView", lambda: EpisodesView(0.0))
    _, _, err = call("evaluate", trained, "--episodes", 2)
    assert "0 of 2 episodes done, the others at step 1" in err
    assert "2 of 2 episodes done" not in err


def test_an_environment_without_version_is_the_latest(call_json, copy):
    document = call_json("evaluate", copy, "--episodes", 2, "--seed", 5, "--env", "InvertedPendulum")[1]
    assert document["evaluations"][0]["env_id"] == "InvertedPendulum-v5"
    assert names(copy / "evaluations") == {f"{best(copy)}-deterministic-2-episodes-seed5.json"}


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


def test_an_exported_file_is_evaluated_only_where_its_contract_is_kept(call_json, refused, trained, tmp_path):
    file = tmp_path / "policy.onnx"
    call_json("export", trained, "--out", file)
    line = refused("evaluate", file, "--env", "Hopper-v5", "--episodes", 1)
    assert "the controller was exported for" in line
    assert call_json("evaluate", file, "--env", "rlstab/InvertedPendulum-v5", "--episodes", 1)[0] == 0


def test_the_films_of_an_exported_file_differ_as_its_episodes_do(call_json, trained, tmp_path, monkeypatch):
    from rlstab.analysis import video

    monkeypatch.setattr(video, "record", lambda policy, env_id, path, **_: SimpleNamespace(path=str(path), notice=""))
    monkeypatch.setattr(evaluate, "_choose_renderer", lambda: None)
    file = tmp_path / "policy.onnx"
    call_json("export", trained, "--out", file)
    flags = ("--episodes", 1, "--seed", 5, "--video", "--max-episode-steps", 9)
    document = call_json("evaluate", file, *flags)[1]
    assert document["evaluations"][0]["video"] == str(tmp_path / "policy-deterministic-seed5-limit9.mp4")


def test_a_run_and_its_exported_file_are_no_two_trainings(call, trained):
    call("export", trained)
    code, out, err = call("evaluate", trained, trained / "exports" / "policy.onnx", "--episodes", 2)
    assert code == 0
    assert "no aggregate: several of these come from one training" in err
    assert "together" not in out


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


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_file_that_only_ends_like_a_model_is_named(refused, tmp_path, content):
    path = tmp_path / "j.zip"
    path.write_bytes(content)
    line = refused("evaluate", path, "--allow-pickle", "--env", "Hopper-v5")
    assert f"{path} is not a model saved by Stable-Baselines3: it is no zip archive" in line
    assert "there is no file" in refused("evaluate", tmp_path / "absent.zip", "--allow-pickle", "--env", "Hopper-v5")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "which policy?"),
        (["nowhere"], "nowhere"),
        (["RUN", "--checkpoint", "newest"], "best, last or a step number"),
        (["RUN", "--checkpoint", "7"], "no checkpoint of step 7; there: 256, 512"),
        (["RUN", "--episodes", "0"], "--episodes is 0, but must be at least 1"),
        (["RUN", "--max-episode-steps", "0"], "--max-episode-steps is 0, but must be at least 1 environment step"),
        (["RUN", "--env", "Hopper-v5"], "observations"),
    ],
)
def test_mistakes(refused, trained, arguments, expected):
    assert expected in refused("evaluate", *(trained if argument == "RUN" else argument for argument in arguments))


def test_damaged_checkpoint_names_the_checksum(refused, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "checkpoints" / "step-000000000512" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    line = refused("evaluate", copy, "--checkpoint", "last")
    assert "checksum" in line
    assert "step-000000000256" in line


def best(run):
    """How files of the best checkpoint's results begin."""
    from rlstab.runs.checkpoint import read_info
    from rlstab.runs.run import Run

    return f"step{read_info(Run.open(run).checkpoints.find('best')).step}"


def names(folder):
    return {path.name for path in folder.iterdir() if path.suffix == ".json"}


@pytest.fixture
def copy(trained, tmp_path):
    """A run of one's own, without results."""
    target = tmp_path / "copy"
    shutil.copytree(trained, target, ignore=shutil.ignore_patterns("evaluations", "figures", "videos", "exports"))
    return target


def test_figures_are_drawn_and_named(call, call_json, copy):
    code, document = call_json("evaluate", copy, "--episodes", 2, "--seed", 5)
    assert code == 0
    figures = document["evaluations"][0]["figures"]
    folder = copy / "figures"
    assert figures == [
        str(folder / f"{best(copy)}-deterministic-2-episodes-seed5.png"),
        str(folder / "learning-curve.png"),
    ]
    for figure in figures:
        assert Path(figure).read_bytes().startswith(b"\x89PNG")
    _, out, _ = call("evaluate", copy, "--episodes", 2, "--seed", 5)
    assert str(folder / "learning-curve.png") in out


def test_a_run_without_episodes_has_no_curve(call_json, copy):
    (copy / "metrics.jsonl").write_text("")
    figures = call_json("evaluate", copy, "--episodes", 2)[1]["evaluations"][0]["figures"]
    assert len(figures) == 1


def test_other_circumstances_do_not_overwrite_the_main_result(call, copy):
    plain = ("evaluate", copy, "--episodes", 2, "--seed", 5)
    call(*plain)
    stem = f"{best(copy)}-deterministic-2-episodes-seed5"
    main = copy / "evaluations" / f"{stem}.json"
    before = main.read_bytes()
    call(*plain, "--disturbances", "tilt=5,gain=0.8:1.2")
    call(*plain, "--env", "gymnasium.envs.mujoco:InvertedPendulum-v4")
    assert main.read_bytes() == before
    assert names(copy / "evaluations") == {
        f"{stem}.json",
        f"{stem}-tilt=5_gain=0.8_1.2.json",
        f"{stem}-gymnasium.envs.mujoco_InvertedPendulum-v4.json",
    }


@pytest.fixture
def set_up(copy):
    """The copy says it was trained with a time limit and without noise at the start."""
    change_run(copy, config={"max_episode_steps": 7, "env_kwargs": {"reset_noise_scale": 0.0}})
    return copy


def test_settings_of_training_hold_in_the_same_environment_only(call_json, set_up):
    def evaluated(*flags):
        return call_json("evaluate", set_up, "--episodes", 3, *flags)[1]["evaluations"][0]

    for flags in ((), ("--env", "InvertedPendulum-v5"), ("--env", "rlstab/InvertedPendulum-v5")):
        assert len(set(evaluated(*flags)["returns"])) == 1
        assert max(evaluated(*flags)["lengths"]) <= 7
    assert len(set(evaluated("--env", "InvertedPendulum-v4")["returns"])) > 1


def test_the_film_is_of_the_episode_that_was_evaluated(call_json, set_up, monkeypatch):
    from rlstab.analysis import video

    filmed = {}

    def record(policy, env_id, path, **settings):
        filmed.update(settings, env_id=env_id)
        return SimpleNamespace(path=str(path), notice="")

    monkeypatch.setattr(video, "record", record)
    monkeypatch.setattr(evaluate, "_choose_renderer", lambda: None)
    flags = ("--episodes", 2, "--seed", 5, "--video", "--disturbances", "tilt=5")
    document = call_json("evaluate", set_up, *flags)[1]["evaluations"][0]
    assert filmed["env_kwargs"] == {"reset_noise_scale": 0.0}
    assert filmed["max_episode_steps"] == 7
    assert [str(entry) for entry in filmed["disturbances"]] == document["disturbances"]
    assert document["video"] == str(set_up / "videos" / f"{best(set_up)}-deterministic-2-episodes-seed5-tilt=5.mp4")
