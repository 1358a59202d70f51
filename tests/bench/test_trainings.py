from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import sb3_ppo
from rlstab.bench.reports import report_path
from rlstab.bench.sb3_ppo import PARITY_HYPERPARAMETERS
from rlstab.bench.trainings import Training, collect, conditions_of
from rlstab.errors import UserError

STEPS = 10_000
TRAINING = Training("sb3", sb3_ppo.__name__, "A-v0", 3, STEPS, PARITY_HYPERPARAMETERS)


def keep(work: Path, report: dict[str, Any]) -> None:
    report_path(work, "sb3", "A-v0", 3).write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"git": {}}, True),
        ({"requested_steps": STEPS - 1}, False),
        # As many steps were taken, but by a training that was meant to be longer.
        ({"requested_steps": STEPS + 1}, False),
        ({"hyperparameters": {**PARITY_HYPERPARAMETERS, "gamma": 0.9}}, False),
        ({"hyperparameters": {**PARITY_HYPERPARAMETERS, "target_kl": 0.1}}, False),
        ({"env_id": "B-v0"}, False),
        ({"seed": 4}, False),
        ({"learner": "rlstab"}, False),
    ],
)
def test_a_kept_report_is_used_only_if_it_is_of_the_same_training(
    fake: Any, work: Path, changes: dict[str, Any], accepted: bool
) -> None:
    kept = {**fake.report("sb3", "A-v0", 3, STEPS, PARITY_HYPERPARAMETERS, eval_returns=[7.0]), **changes}
    keep(work, kept)
    report = TRAINING.report(work)
    assert (report["eval_returns"] == [7.0]) is accepted
    assert len(fake.begun) == (0 if accepted else 1)


def test_damaged_reports_are_trained_again(fake: Any, work: Path) -> None:
    report_path(work, "sb3", "A-v0", 3).write_text('{"learner": "sb3", "episodes": [[1')
    assert TRAINING.report(work)["total_steps"] == 10_240
    assert fake.begun == [("sb3", "A-v0", 3)]
    assert fake.environments[0]["OMP_NUM_THREADS"] == "1"


def test_a_training_that_leaves_no_report_is_an_error(fake: Any, work: Path) -> None:
    fake.change = lambda report: None
    with pytest.raises(UserError, match="sb3 on A-v0, seed 3 left no usable report"):
        TRAINING.report(work)


def test_a_failure_is_said_and_what_is_done_is_kept(fake: Any, work: Path) -> None:
    wanted = {seed: dataclasses.replace(TRAINING, seed=seed) for seed in range(4)}
    fake.fail = ("sb3", "A-v0", 1)
    with pytest.raises(UserError, match="sb3 on A-v0, seed 1 failed: ValueError: no such physics"):
        collect(wanted, work, 1, lambda _: None)
    assert report_path(work, "sb3", "A-v0", 0).exists()
    fake.fail = None
    fake.begun.clear()
    lines: list[str] = []
    found = collect(wanted, work / "deeper" / "..", 2, lines.append)
    assert [found[seed]["seed"] for seed in wanted] == [0, 1, 2, 3]
    assert ("sb3", "A-v0", 0) not in fake.begun
    assert "sb3 on A-v0, seed 3: return 1030" in lines


def test_conditions_are_those_of_the_trainings(fake: Any) -> None:
    def reports(learner: str, *changes: dict[str, Any]) -> list[dict[str, Any]]:
        return [fake.report(learner, "A", 0, 1, PARITY_HYPERPARAMETERS, **change) for change in changes]

    ours = reports("rlstab", {}, {}, {"git": {"commit": "b" * 40, "dirty": True}, "date": "2026-02-03"})
    theirs = reports("sb3", {}, {"versions": {"python": "3.12"}})
    conditions = conditions_of({"rlstab": ours, "SB3": theirs}, ours="rlstab")
    assert conditions.commits == ("c0ffeec0ffee (2 of 3 trainings)", "bbbbbbbbbbbb with changes (1 of 3 trainings)")
    assert conditions.date == "2026-01-02 to 2026-02-03"
    assert conditions.versions["rlstab"] == {"python": "3.11", "torch": "2.11"}
    assert conditions.versions["SB3"] == {"python": "3.11 and 3.12", "torch": "2.11"}
    assert not any("load" in line for line in conditions.section({}))
    alone = conditions_of({"rlstab": ours[:2]}, ours="rlstab")
    assert alone.commits == ("c0ffeec0ffee",)
    assert alone.date == "2026-01-02"
