from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
from rlstab.analysis.robustness.pushes import PushReport
from rlstab.bench import quadruped, runs
from rlstab.bench.pages import write_docs
from rlstab.bench.quadruped import Options, measure
from rlstab.bench.quadruped_result import QuadrupedStudy
from rlstab.bench.tracking import TASK, TrackingReport
from rlstab.controllers.runs import configure
from rlstab.errors import UserError
from rlstab.runs.config import to_json
from rlstab.runs.run import Run

STEPS = 6144


def tracking(share: float, steps: int) -> TrackingReport:
    part = np.full(4, share)
    return TrackingReport(
        steps, 1, 1000, 0.02, (1.0, 0.5), part, part, np.full(4, 1000), np.array([True, False, False, False])
    )


def battery() -> BatteryReport:
    cells = CellReport(
        ("nominal", "mass"), ("", "factor"), np.array([1.0, 2.0]), np.full(2, np.nan),
        np.array([[50.0, 50.0], [30.0, 30.0]]), np.ones((2, 2), np.int64), np.array([[False, False], [True, False]]),
    )  # fmt: skip
    survived = np.full((2, 1, 2, 3), True)
    pushes = PushReport(
        env_id=TASK, policy="P", body="trunk", mass_kg=12.0, seed=0, direction=("+x", "-x"), falls_undisturbed=0.0,
        impulse=np.array([0.5, 1.0]), duration=np.array([0.1]), onset=np.arange(3.0), survived=survived,
        recovered=survived,
    )  # fmt: skip
    return BatteryReport(TASK, "P", "quick", 2, 0, cells, pushes, None, ())


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Flags of the trainings that were asked for; none takes place."""
    asked: list[dict[str, Any]] = []

    def train(path: Path, method: str, flags: Mapping[str, Any], what: str, threads: int = 1) -> Path:
        asked.append(dict(flags))
        if not path.exists():
            config = to_json(configure(method, **flags))
            run = Run.create(
                path.parent, method=method, env_id=TASK, config=config, seed=flags["seed"], device="cpu", command=[],
                name=path.name,
            )  # fmt: skip
            run.metrics.write(STEPS, {"time/elapsed_s": 90.0})
            run.close()
        return path

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(runs, "battery", lambda run, flags: battery())
    monkeypatch.setattr(quadruped, "_track", lambda run, options: [tracking(0.5, 3072), tracking(0.85, STEPS)])
    monkeypatch.setattr(quadruped, "measure_tracking", lambda *_, **__: tracking(0.25, 0))
    return asked


@pytest.fixture
def study(trained: list[dict[str, Any]], tmp_path: Path) -> QuadrupedStudy:
    return measure(Options(seeds=2, steps=STEPS, work=tmp_path / "w"), lambda _: None)


def test_the_preset_is_trained_and_only_the_length_is_set(study: QuadrupedStudy, trained: list[dict[str, Any]]) -> None:
    assert [flags["seed"] for flags in trained] == [0, 1]
    assert {flags["total_steps"] for flags in trained} == {STEPS}
    assert set(trained[0]) == {"env", "seed", "total_steps", "checkpoint_every", "keep"}
    assert "learning_rate" in study.settings["preset"]


def test_the_verdict_is_that_of_the_worst_training(study: QuadrupedStudy) -> None:
    assert study.verdict() == "At least 80% of the tracking reward: yes (85%, 85%)."
    poor = dataclasses.replace(study.trained[1], checkpoints=[tracking(0.79, STEPS)])
    assert ": no (85%, 79%)" in dataclasses.replace(study, trained=[study.trained[0], poor]).verdict()


def test_the_page_is_drawn_and_comes_back_from_its_numbers(study: QuadrupedStudy, tmp_path: Path) -> None:
    page = study.to_markdown()
    assert "rlstab bench quadruped --docs --seeds 2 --steps 6144 --work WORK" in page
    assert "| falls | 1 of 4 | 1 of 4 | 1 of 4 |" in page
    assert "| minutes of training, by the clock |  | 1.5 | 1.5 |" in page
    assert "| mass 2 factor | 30, 1 of 2 | 30, 1 of 2 |" in page
    assert "| 3,072 | 1 | 50.0% | 25.0% |" in page
    assert QuadrupedStudy.load(study.save(tmp_path / "study")).to_markdown() == page
    assert write_docs(study, tmp_path).name == "quadruped.md"
    assert (tmp_path / "quadruped.png").stat().st_size > 10_000


def test_a_run_of_other_settings_is_not_taken_for_the_presets(
    study: QuadrupedStudy, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = next((tmp_path / "w").glob("*-seed0"))
    run = Run.open(path)
    run.update(config={**run.info.config, "gamma": 0.5, "num_threads": 7})
    with pytest.raises(UserError, match=r"other settings \(gamma\): give another --work"):
        measure(Options(steps=STEPS, work=tmp_path / "w"), lambda _: None)


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"steps": 0}, {"episodes": 0}, {"battery_episodes": 0}])
def test_what_makes_no_study_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure(Options(work=tmp_path, **changes))
