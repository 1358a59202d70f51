"""Figures of compiled kernels against those of before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import static_baseline

COMMITTED = Path(__file__).parent / "static_baseline.json"


def row(**changes: Any) -> dict[str, Any]:
    figures = {"name": "forward", "architecture": 90, "registers": 100, "instructions": 1000, "group_products": 20}
    return figures | changes


@pytest.fixture
def baseline(tmp_path: Path) -> static_baseline.Baseline:
    static_baseline.write(tmp_path / "known.json", [row()], "3.9.0")
    return static_baseline.read(tmp_path / "known.json")


def test_what_has_not_become_worse_passes(baseline: static_baseline.Baseline) -> None:
    for same_or_better in (row(), row(registers=50, instructions=500, group_products=30), row(registers=110)):
        assert static_baseline.regressions(same_or_better, baseline, "3.9.0") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"registers": 111}, "111 registers, had 100"),
        ({"instructions": 1101}, "1101 instructions, had 1000"),
        ({"group_products": 0}, "0 group-wide products, had 20"),
        ({"name": "new"}, "no figures of triton 3.9.0"),
    ],
)
def test_what_has_become_worse_is_told(baseline: static_baseline.Baseline, changes: dict[str, Any], told: str) -> None:
    (problem,) = static_baseline.regressions(row(**changes), baseline, "3.9.0")
    assert told in problem


def test_a_version_that_nobody_looked_at_is_not_compared(baseline: static_baseline.Baseline) -> None:
    assert static_baseline.regressions(row(registers=255), baseline, "3.10.0") == []


def test_versions_stand_beside_each_other(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    static_baseline.write(file, [row()], "3.9.0")
    static_baseline.write(file, [row(registers=90), row(name="other")], "3.6.0")
    read = static_baseline.read(file)
    assert read["sm_90 forward"] == {"3.6.0": [90, 1000, 20], "3.9.0": [100, 1000, 20]}
    assert list(read["sm_90 other"]) == ["3.6.0"]


def test_the_committed_baseline_has_both_ends_of_the_supported_versions() -> None:
    versions = {version for known in static_baseline.read(COMMITTED).values() for version in known}
    assert {"3.6.0", "3.9.0"} <= versions


@pytest.mark.parametrize("content", [None, "{}", "not json", "[]"])
def test_a_file_that_is_no_baseline_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "typo.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=r"typo\.json"):
        static_baseline.read(file)
