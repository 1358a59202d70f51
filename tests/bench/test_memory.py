from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import memory, method_worker, sb3_lstm
from rlstab.bench.memory import LSTM, NONE, SIGMOID, SOFTMAX, MemoryResult, Options, measure
from rlstab.errors import UserError

MAZE, HOPPER, CHEETAH = "rlstab/PassiveTMaze-v0", "rlstab/HopperP-v0", "rlstab/HalfCheetahP-v0"


def test_the_page_compares_memories(fake: Any, work: Path, tmp_path: Path) -> None:
    means = {"sigmoid": 0.97, "softmax": 0.8, "lstm": 0.5, "perceptron": 0.3}

    def change(report: dict[str, Any]) -> dict[str, Any]:
        return {**report, "eval_returns": [means[report["learner"]] + 0.02 * report["seed"]], "processor_seconds": 4.0}

    fake.change = change
    result = measure(Options(env=MAZE, seeds=2, steps=2000, jobs=1, work=work), lambda _: None)
    page = result.to_markdown()
    row = "| 0.98 [0.97, 0.99] | 0.81 [0.80, 0.82] | 0.51 [0.50, 0.52] | 0.31 [0.30, 0.32] | 0.50 | 1.00 |"
    assert f"| {MAZE} {row}" in page
    assert "Solved, which begins at 0.95, by: transformer, sigmoid." in page
    # Half is what a policy without memory can expect, whatever the one that was trained earned.
    assert "Interval above that without memory: transformer, sigmoid; transformer, softmax." in page
    assert f"| {MAZE} | 816 | 816 | 816 | 816 |" in page
    assert MemoryResult.load(result.save(tmp_path / "memory")).to_markdown() == page


def test_all_learners_share_what_the_page_says_they_share() -> None:
    for env in memory.TASKS:
        trainings = {name: memory.training(name, env, 0, 1000) for name in memory.TASKS[env].learners}
        ours = trainings[SIGMOID].hyperparameters
        own = memory.TASKS[env].own
        for name in (SOFTMAX, LSTM, NONE):
            for key in memory.shared_settings(env):
                if key not in own.get(name, {}):
                    assert trainings[name].hyperparameters[key] == ours[key], (env, name, key)
        differing = {key for key in ours if ours[key] != trainings[SOFTMAX].hyperparameters[key]}
        assert differing == {"attention", *own.get(SOFTMAX, {})}


def test_changes_are_compared_on_robots_with_and_without_a_window() -> None:
    trainings = {name: memory.training(name, HOPPER, 0, 1000) for name in memory.TASKS[HOPPER].learners}
    assert len({training.learner for training in trainings.values()}) == len(trainings)
    plain, changes, alone = (
        trainings[name].hyperparameters for name in (SIGMOID, memory.SIGMOID_CHANGES, memory.CHANGES_ALONE)
    )
    assert {key for key in plain if plain[key] != changes[key]} == {"observation_change"}
    assert {key for key in changes if changes[key] != alone[key]} == {"window"}
    assert alone["window"] == 1


def test_transformers_with_changes_are_held_against_changes_alone(fake: Any, work: Path) -> None:
    means = {"sigmoid": 3, "softmax": 1, "lstm": 3, "perceptron": 1}
    means |= {"sigmoid_changes": 5, "softmax_changes": 9, "changes_alone": 6}
    fake.change = lambda report: {**report, "eval_returns": [100.0 * means[report["learner"]] + report["seed"]]}
    facts = measure(Options(env=HOPPER, seeds=2, steps=2000, jobs=1, work=work), lambda _: None).summary()
    assert facts["interval above that without memory"] == "transformer, sigmoid; LSTM"
    assert facts["interval above that of changes alone"] == "softmax, changes"


def test_what_memory_is_worth_is_measured_where_nothing_is_hidden(fake: Any, work: Path) -> None:
    means = {"sigmoid": 880, "softmax": 790, "lstm": 500, "perceptron": 100, "sighted": 900}
    means |= {"sigmoid_changes": 700, "softmax_changes": 830, "changes_alone": 700}
    fake.change = lambda report: {**report, "eval_returns": [means[report["learner"]] + report["seed"]]}
    result = measure(Options(env=CHEETAH, seeds=2, steps=2000, jobs=1, work=work), lambda _: None)
    # Nine tenths of the way from 100 to 900 are 820.
    assert result.summary()["solved, which begins at 820, by"] == "transformer, sigmoid; softmax, changes"
    assert "*Velocities seen*" in result.description()
    sighted = memory.training(memory.SIGHTED, CHEETAH, 0, 1000)
    blind = memory.training(NONE, CHEETAH, 0, 1000)
    assert (sighted.env, blind.env) == ("HalfCheetah-v5", CHEETAH)
    assert sighted.hyperparameters == blind.hyperparameters


def test_each_of_our_methods_writes_the_report_that_its_study_wants() -> None:
    settings = {"n_steps": 16, "batch_size": 128, "num_envs": 8, "width": 8, "num_heads": 2, "monitor_every": 1}
    training = method_worker.training("transformer_ppo", "sigmoid", MAZE, 1, 200, settings)
    config = method_worker.worker_config("transformer_ppo", MAZE, 1, 200, settings)
    report = method_worker.train_and_evaluate("transformer_ppo", config, "sigmoid", eval_episodes=2)
    report = json.loads(json.dumps(report)) | {"requested_steps": 200}
    assert training.fits(report)
    assert report["metrics"][0]["step"] == 128
    assert report["metrics"][0]["attention/layer0_head0/mass"] > 0


def test_the_lstm_writes_the_report_that_its_study_wants() -> None:
    settings = {**sb3_lstm.DEFAULTS, "num_envs": 4, "n_steps": 32, "batch_size": 64, "lstm_hidden_size": 8}
    training = sb3_lstm.training("lstm", MAZE, 1, 200, settings)
    report = sb3_lstm.train_and_evaluate(MAZE, 1, 200, settings, eval_episodes=2)
    report = json.loads(json.dumps(report)) | {"requested_steps": 200}
    assert training.fits(report)
    assert len(report["eval_returns"]) == 2
    assert report["episodes"]
    assert report["processor_seconds"] > 0.0


def test_the_lstm_is_evaluated_with_its_state_and_its_normaliser() -> None:
    model = sb3_lstm.make_model(HOPPER, 0, {**sb3_lstm.DEFAULTS, "num_envs": 2, "n_steps": 16, "batch_size": 32})
    model.learn(64)
    policy = sb3_lstm._Normalising(model)
    observation = model.get_env().reset()
    raw = model.get_vec_normalize_env().get_original_obs()
    _, state = policy.predict(raw, None, None, deterministic=True)
    first, _ = policy.predict(raw, state, None, deterministic=True)
    expected, _ = model.predict(observation, state, None, deterministic=True)
    assert (first == expected).all()
    assert not (first == policy.predict(raw, None, None, deterministic=True)[0]).all()


def test_the_page_says_whose_settings_differ_and_what_speeds_are_worth(fake: Any, work: Path) -> None:
    def change(report: dict[str, Any]) -> dict[str, Any]:
        return report if report["learner"] == "lstm" else {**report, "processor_seconds": 4.0}

    fake.change = change
    page = measure(Options(env=MAZE, seeds=1, steps=2000, jobs=1, work=work), lambda _: None).to_markdown()
    own = memory.TASKS[MAZE].own[SOFTMAX]
    assert f"transformer, softmax has {', '.join(f'{key} {value}' for key, value in own.items())}; LSTM has" in page
    assert "The network without memory was not tuned." in page
    assert "`-` says that processor time was not taken (LSTM)" in page
    assert f"n_epochs is {own['n_epochs']} of transformer, softmax and 8 of all others" in page


def test_learners_that_see_changes_have_a_picture_of_their_own(fake: Any, work: Path, tmp_path: Path) -> None:
    result = measure(Options(env=HOPPER, seeds=2, steps=2000, jobs=1, work=work), lambda _: None)
    assert result.figure(tmp_path / "memory.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "must be at least 1"),
        ({"steps": 0}, "must be at least 1"),
        ({"work": Path("/proc/x")}, "cannot write reports to /proc/x"),
        ({"seeds": 101}, "seeds from 100 on are those that chose the settings"),
        ({"env": "Hopper-v5"}, "no settings for Hopper-v5 here"),
    ],
)
def test_what_makes_no_study_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        measure(Options(**options))
