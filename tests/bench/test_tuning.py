from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import memory, tuning
from rlstab.bench.memory import LSTM, SIGMOID, SOFTMAX
from rlstab.bench.pages import write_docs
from rlstab.bench.tuning import LEARNERS, Options, TuningResult, measure
from rlstab.errors import UserError

MAZE = "rlstab/PassiveTMaze-v0"


@pytest.fixture
def result(fake: Any, work: Path) -> TuningResult:
    """The LSTM learns with eight passes at the higher rate, transformers everywhere, soonest with more entropy."""

    def change(report: dict[str, Any]) -> dict[str, Any]:
        settings = report["hyperparameters"]
        works = "attention" in settings or (settings["n_epochs"] == 8 and settings["learning_rate"] == 3e-3)
        earned = settings["ent_coef"]
        return {**report, "eval_returns": [float(works)], "episodes": [[100, earned], [200, earned]]}

    fake.change = change
    return measure(Options(seeds=2, steps=2000, jobs=1, work=work), lambda _: None)


def test_every_learner_has_the_same_budget(result: TuningResult, fake: Any) -> None:
    assert len(fake.begun) == len(LEARNERS) * 8 * 2
    assert len(set(fake.begun)) == len(fake.begun)
    assert all(table.shape == (8, 2) for table in result.returns.values())


def test_its_seeds_are_not_those_of_the_comparison(result: TuningResult, fake: Any) -> None:
    assert {seed for _, _, seed in fake.begun} == {100, 101}
    with pytest.raises(UserError, match="seeds from 100 on"):
        memory.measure(memory.Options(seeds=101))


def test_the_best_setting_is_that_of_the_highest_return_and_then_of_what_was_earned(result: TuningResult) -> None:
    assert result.points[result.best(LSTM)] == {"learning_rate": 3e-3, "ent_coef": 0.03, "n_epochs": 8}
    assert result.points[result.best(SIGMOID)]["ent_coef"] == 0.03
    assert result.points[result.best(SOFTMAX)]["ent_coef"] == 0.03


def test_the_page_is_drawn_and_comes_back_from_its_numbers(result: TuningResult, tmp_path: Path) -> None:
    page = result.to_markdown()
    row = "| learning_rate 0.003, ent_coef 0.03, n_epochs 8 | 1.00 (1.00, 1.00) | 1.00 (1.00, 1.00) "
    assert f"{row}| **1.00 (1.00, 1.00)** |" in page
    assert "| learning_rate 0.003, ent_coef 0.03, n_epochs 8 | 0.03 (0.03, 0.03) | 0.03 (0.03, 0.03) " in page
    assert "| seeds | seeds 100 to 101 (2 trainings a setting) |" in page
    assert [len(rows) for _, _, rows in result.tables()] == [8, 8]
    assert TuningResult.load(result.save(tmp_path / "tuning")).to_markdown() == page
    assert write_docs(result, tmp_path).name == "tuning_passivetmaze_v0.md"
    assert (tmp_path / "tuning_passivetmaze_v0.png").stat().st_size > 10_000


def test_what_makes_no_study_is_refused() -> None:
    with pytest.raises(UserError, match="no grid of settings for Hopper-v5: choose from rlstab/PassiveTMaze-v0"):
        measure(Options(env="Hopper-v5"))
    for none in ({"seeds": 0}, {"steps": 0}, {"points": 0}):
        with pytest.raises(UserError, match="must be at least 1"):
            measure(Options(**none))
    with pytest.raises(UserError, match="cannot write reports to /proc/x"):
        measure(Options(work=Path("/proc/x")))


def test_a_trial_takes_the_first_settings_and_replaces_no_page(fake: Any, work: Path) -> None:
    result = measure(Options(seeds=1, steps=2000, points=1, jobs=1, work=work), lambda _: None)
    assert len(fake.begun) == len(LEARNERS)
    assert result.name == "tuning_passivetmaze_v0_part"
    assert "| seeds | seed 100 (one training a setting) |" in result.to_markdown()


def test_grids_are_of_settings_that_all_learners_have() -> None:
    for env, grid in tuning.GRIDS.items():
        assert grid.keys() <= memory.shared_settings(env).keys()
