from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.robustness.adversary import AdversaryReport
from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
from rlstab.analysis.robustness.pushes import PushReport
from rlstab.bench import runs
from rlstab.bench.pages import write_docs
from rlstab.bench.robustness import HINF, METHODS, PPO, RARL, Options, RobustnessStudy, measure
from rlstab.errors import UserError


def battery(nominal: float, worst: float, survives: bool) -> BatteryReport:
    returns = np.array([[nominal, nominal], [nominal / 2, nominal / 2]])
    cells = CellReport(
        ("nominal", "mass"), ("", "factor"), np.array([1.0, 2.0]), np.full(2, np.nan), returns,
        np.ones((2, 2), np.int64), np.zeros((2, 2), bool),
    )  # fmt: skip
    survived = np.full((2, 1, 2, 3), survives)
    pushes = PushReport(
        env_id="Hopper-v5", policy="P", body="torso", mass_kg=1.0, seed=0, direction=("+x", "-x"),
        falls_undisturbed=0.0, impulse=np.array([0.5, 1.0]), duration=np.array([0.1]), onset=np.arange(3.0),
        survived=survived, recovered=survived,
    )  # fmt: skip
    adversary = AdversaryReport(
        env_id="Hopper-v5", policy="P", body="torso", max_force_n=1.0, max_force=0.1, steps=10,
        learning_rates=(1e-3,), seeds=(0,), mean_returns=(worst,), calm=np.full(3, nominal),
        returns=np.full(3, worst), fell=np.ones(3, bool),
    )  # fmt: skip
    stronger = dataclasses.replace(adversary, max_force=0.2, returns=np.zeros(3))
    return BatteryReport("Hopper-v5", "P", "quick", 2, 0, cells, pushes, None, (adversary, stronger))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that the study gives; H-infinity is the best in the worst case, PPO nominally."""
    made: list[list[str]] = []

    def call(command: list[str], what: str) -> str:
        words = command[3:]
        made.append(words)
        if words[0] == "train":
            folder = Path(words[words.index("--run-dir") + 1]) / words[words.index("--name") + 1]
            folder.mkdir(parents=True)
            return ""
        run = Path(words[1])
        seed = int(run.name[-1])
        nominal, worst = {"H_infinity": (95.0, 60.0), "adversary": (50.0, 30.0)}.get(
            run.name.split("-")[2], (100.0, 5.0)
        )
        path = battery(nominal + seed, worst + seed, worst > 50.0).save(run / "report")
        return json.dumps({"reports": [{"report": str(path)}]})

    monkeypatch.setattr(runs, "call", call)
    return made


@pytest.fixture
def study(calls: list[list[str]], tmp_path: Path) -> RobustnessStudy:
    options = Options(methods=(HINF, RARL, PPO), seeds=3, steps=100, jobs=1, work=tmp_path / "w")
    made = measure(options, lambda _: None)
    return dataclasses.replace(made, comparison=dataclasses.replace(made.comparison, resamples=50))


def test_every_method_has_the_same_steps_and_seeds(study: RobustnessStudy, calls: list[list[str]]) -> None:
    trainings = [words for words in calls if words[0] == "train"]
    assert len(trainings) == 9
    assert {words[words.index("--total-steps") + 1] for words in trainings} == {"100"}
    assert sorted(words[1] for words in trainings) == ["hinf"] * 3 + ["ppo"] * 3 + ["rarl"] * 3
    tests = [words for words in calls if words[0] == "robustness"]
    assert {tuple(words[2:]) for words in tests} == {tuple(tests[0][2:])}


def test_findings_say_what_holds_and_what_does_not(study: RobustnessStudy) -> None:
    found = study.findings
    assert found[f"return against an adversary of 0.1 weights: {HINF} above {RARL}"].startswith("yes")
    assert found[f"return against an adversary of 0.1 weights: {HINF} above {PPO}"].startswith("yes")
    assert found[f"pushes survived: {HINF} above {PPO}"].startswith("yes")
    assert found[f"CVaR10 over worlds: {HINF} above {PPO}"].startswith("no ")
    assert found[f"nominal return of {HINF} at least 90% of that of {PPO}"] == "yes (95%)"
    poor = dataclasses.replace(
        study,
        comparison=dataclasses.replace(
            study.comparison, reports={HINF: study.comparison.reports[PPO], PPO: study.comparison.reports[HINF]}
        ),
    )
    assert poor.findings[f"return against an adversary of 0.1 weights: {HINF} above {PPO}"].startswith("no ")


def test_the_page_is_drawn_and_comes_back_from_its_numbers(study: RobustnessStudy, tmp_path: Path) -> None:
    page = study.to_markdown()
    assert "rlstab bench robustness --docs" in page
    assert f"| {HINF}, return against an adversary of 0.1 weights | 60 | 61 | 62 |" in page
    assert RobustnessStudy.load(study.save(tmp_path / "study")).to_markdown() == page
    assert write_docs(study, tmp_path).name == "robustness_hopper_v5.md"
    assert (tmp_path / "robustness_hopper_v5.png").stat().st_size > 10_000


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"methods": ("hope",)}, {"methods": ()}, {"adversary_steps": 0}])
def test_what_makes_no_study_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        measure(Options(work=tmp_path, **changes))


def test_the_baselines_differ_in_what_they_are_named_for_alone() -> None:
    assert METHODS[PPO] == ("ppo", {})
    assert METHODS[HINF] == ("hinf", {})
