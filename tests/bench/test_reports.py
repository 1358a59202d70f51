from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import reports
from rlstab.bench.reports import read_report, report_path

ORIGIN = {"requested_steps", "git", "versions", "date"}


@pytest.mark.parametrize(
    "text",
    ["", '{"learner": "sb3", "env_', "[1, 2]", '{"learner": "sb3"}', "\udc80"],
    ids=["empty", "cut off", "no object", "incomplete", "no text"],
)
def test_damaged_reports_are_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sb3-A-0.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_report(path) is None


@pytest.mark.parametrize("missing", sorted(ORIGIN))
def test_reports_of_unknown_origin_are_as_good_as_none(tmp_path: Path, fake: Any, missing: str) -> None:
    report = fake.report("sb3", "A", 0, 16, {"num_envs": 2, "n_steps": 4})
    del report[missing]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert read_report(path) is None


def test_reports_without_episodes_are_as_good_as_none(tmp_path: Path, fake: Any) -> None:
    hyper = {"num_envs": 2, "n_steps": 4}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(fake.report("sb3", "A", 0, 16, hyper)))
    assert read_report(path) is not None
    path.write_text(json.dumps(fake.report("sb3", "A", 0, 16, hyper, episodes=[])))
    assert read_report(path) is None
    assert read_report(tmp_path / "absent.json") is None


def test_a_report_says_what_was_asked_for_and_where_it_comes_from(
    tmp_path: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(env: str, seed: int, steps: int) -> dict[str, Any]:
        report = fake.report("sb3", env, seed, steps, {"num_envs": 2, "n_steps": 4})
        return {name: value for name, value in report.items() if name not in ORIGIN}

    flags = ["--env", "module:A/B-v1", "--seed", "3", "--steps", "15", "--out", str(tmp_path / "new")]
    reports.run(reports.arguments("Trains.").parse_args(flags), train)
    path = report_path(tmp_path / "new", "sb3", "module:A/B-v1", 3)
    assert path.name == "sb3-module-A-B-v1-3.json"
    report = read_report(path)
    assert report is not None
    assert report.keys() >= ORIGIN
    assert report["requested_steps"] == 15
    assert report["total_steps"] == 16
    assert "python" in report["versions"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert "eval mean 1030.0" in capsys.readouterr().out
