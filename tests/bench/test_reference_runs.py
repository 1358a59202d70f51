"""The scripts that train, for one rollout: what studies and benchmarks rely on is what they write."""

from __future__ import annotations

import json
import sys

import pytest

from rlstab.bench import ppo_worker, rlstab_ppo, sb3_ppo
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.bench.trainings import Training

ENV, STEPS = "InvertedPendulum-v5", 2000


def test_ours() -> None:
    config = rlstab_ppo.parity_config(ENV, 1, STEPS)
    assert config.num_threads == 1
    hyper = rlstab_ppo.hyperparameters(config)
    assert PARITY_HYPERPARAMETERS.items() <= hyper.items()
    report = rlstab_ppo.train_and_evaluate(config, eval_episodes=2)
    # As it comes back from a file.
    report = json.loads(json.dumps(report)) | {"requested_steps": STEPS, "git": {}, "versions": {}, "date": ""}
    assert Training("rlstab", rlstab_ppo.__name__, ENV, 1, STEPS, hyper).fits(report)
    assert report["total_steps"] == 2048
    assert len(report["eval_returns"]) == 2
    assert report["episodes"][-1][0] <= 2048


def test_theirs() -> None:
    report = json.loads(json.dumps(sb3_ppo.train_and_evaluate(ENV, 1, STEPS, eval_episodes=2)))
    report |= {"requested_steps": STEPS}
    training = Training("sb3", sb3_ppo.__name__, ENV, 1, STEPS, PARITY_HYPERPARAMETERS)
    assert training.fits(report)
    assert len(report["eval_returns"]) == 2
    assert report["episodes"][-1][0] <= 2048


def test_presets_change_what_is_learned_with_but_not_the_length() -> None:
    config = rlstab_ppo.preset_config("HalfCheetah-v5", 2, STEPS)
    assert (config.env, config.seed, config.total_steps) == ("HalfCheetah-v5", 2, STEPS)
    hyper = rlstab_ppo.hyperparameters(config)
    assert hyper == json.loads(json.dumps(hyper))
    assert hyper != rlstab_ppo.hyperparameters(rlstab_ppo.parity_config("HalfCheetah-v5", 2, STEPS))


@pytest.mark.parametrize("learner", ppo_worker.LEARNERS)
def test_the_clock_stops_when_the_return_is_reached(
    learner: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--env", ENV, "--seed", "0", "--steps", "100000", "--threads", "1", "--until", "1"]
    monkeypatch.setattr(sys, "argv", ["worker", learner, *flags])
    ppo_worker.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["steps"] <= 2048
    assert 0 < report["reached"]["seconds"] <= report["seconds"]
