from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlstab.analysis.robustness.battery_report import BatteryReport
from rlstab.cli.robustness import labels


@pytest.fixture
def tested(call_json: Any, trained: Path) -> dict[str, Any]:
    """One run in the smallest battery."""
    code, document = call_json("robustness", trained, "--episodes", 1, "--processes", 1)
    assert code == 0
    return document


def test_a_run_keeps_its_report_and_figure(tested: dict[str, Any], trained: Path) -> None:
    (entry,) = tested["reports"]
    report = BatteryReport.load(Path(entry["report"]))
    assert report.nominal_return == pytest.approx(entry["summary"]["nominal return"])
    assert Path(entry["report"]).parent == trained / "evaluations"
    assert list((trained / "figures").glob("robustness-step*.png"))


def test_the_same_command_again_plays_nothing(tested: dict[str, Any], call: Any, trained: Path) -> None:
    code, out, err = call("robustness", trained, "--episodes", 1, "--processes", 1)
    assert code == 0
    assert "parts done" not in err
    assert "critical push" in out


def test_several_are_compared_and_drawn(tested: dict[str, Any], call: Any, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    document = json.loads((other / "run.json").read_text())
    document["config"]["gamma"] = 0.5
    (other / "run.json").write_text(json.dumps(document))
    code, out, _ = call("robustness", trained, other, "--episodes", 1, "--processes", 1, "--out", tmp_path / "both")
    assert code == 0
    assert "ppo gamma=0.5 (1)" in out
    assert "ppo gamma=0.99 (1)" in out
    assert (tmp_path / "both" / "robustness.json").exists()
    assert (tmp_path / "both" / "robustness.png").stat().st_size > 10_000


def subject(method: str, **config: Any) -> Any:
    return SimpleNamespace(method=method, path=Path("x"), run=SimpleNamespace(info=SimpleNamespace(config=config)))


def test_trainings_that_differ_in_their_seed_alone_are_one_method() -> None:
    found = labels([subject("hinf", seed=0, eta=1.0), subject("hinf", seed=1, eta=1.0), subject("ppo", seed=0)])
    assert found == ["hinf", "hinf", "ppo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "which policy?"),
        (("nowhere",), "nowhere"),
        (("RUN", "--env", "CartPole-v1"), "native"),
        (("RUN", "--env", "Reacher-v5"), "--body"),
        (("RUN", "--body", "tail"), "tail"),
        (("RUN", "--attacks", "hope"), "hope"),
        (("RUN", "--episodes", 0), "episodes"),
        (("RUN", "--adversary-forces", 0), "adversaries"),
        (("RUN", "--checkpoint", "77"), "77"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_played(
    call: Any, trained: Path, arguments: tuple[Any, ...], words: str
) -> None:
    code, out, err = call("robustness", *(trained if part == "RUN" else part for part in arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
