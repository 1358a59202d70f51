from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstab.bench.parity import Options, ParityResult, measure
from rlstab.errors import UserError

ENVS = ("Hopper-v5", "Reacher-v5")


@pytest.fixture
def options(work: Path) -> Options:
    return Options(envs=ENVS, seeds=2, steps=5000, jobs=1, work=work)


def test_both_learners_train_every_task_with_every_seed(fake: Any, options: Options) -> None:
    result = measure(options, lambda _: None)
    wanted = {(learner, env, seed) for learner in ("rlstab", "sb3") for env in ENVS for seed in range(2)}
    assert set(fake.begun) == wanted
    assert len(fake.begun) == len(wanted)
    assert result.returns["Hopper-v5"] == {"rlstab": [1000.0, 1010.0], "SB3": [1000.0, 1010.0]}
    assert result.summary()["overlapping or better"] == 2
    # Nothing is trained twice.
    measure(options, lambda _: None)
    assert len(fake.begun) == len(wanted)


def test_the_page(fake: Any, options: Options, tmp_path: Path) -> None:
    result = measure(options, lambda _: None)
    page = result.to_markdown()
    assert "Made by `rlstab bench parity --docs --envs Hopper-v5 Reacher-v5 --seeds 2 --steps 5000" in page
    assert str(options.work) not in page
    assert "**Our interval overlaps SB3's or lies above it on Hopper-v5, Reacher-v5.**" in page
    assert "| Hopper-v5 | 1005 [1000, 1010] | 1005 [1000, 1010] | 2410 ± 10 | 2741 ± 269 |" in page
    assert "| Reacher-v5 | 1005 [1000, 1010] | 1005 [1000, 1010] | - | - |" in page
    assert "| Hopper-v5 | SB3 | 1000 | 1010 |" in page
    assert "| commit | c0ffeec0ffee |" in page
    assert "| environment steps | 5000 |" in page
    assert "| gae_lambda | 0.95 |" in page
    # Not the page of the study of all tasks.
    assert result.name == "ppo_parity_hopper_v5_reacher_v5"
    # What was saved gives the same page.
    path = result.save(tmp_path / "ppo_parity")
    assert ParityResult.load(path).to_markdown() == page
    assert result.figure(tmp_path / "page.png").stat().st_size > 1000


def test_worse_returns_are_not_called_equal(fake: Any, options: Options) -> None:
    def halve(report: dict[str, Any]) -> dict[str, Any]:
        worse = report["learner"] == "rlstab" and report["env_id"] == "Hopper-v5"
        return {**report, "eval_returns": [1.0, 2.0]} if worse else report

    fake.change = halve
    result = measure(options, lambda _: None)
    assert not result.overlap("Hopper-v5")
    assert result.summary()["on"] == "Reacher-v5"


def test_a_failing_training_ends_the_study(fake: Any, options: Options) -> None:
    fake.fail = ("sb3", "Reacher-v5", 1)
    with pytest.raises(UserError, match="sb3 on Reacher-v5, seed 1 failed"):
        measure(options, lambda _: None)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"steps": 0}, {"jobs": 0}, {"envs": ()}])
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure(Options(**wrong))
