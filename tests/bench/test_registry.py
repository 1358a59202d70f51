from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlstab.bench.common import BenchmarkResult
from rlstab.bench.conditions import Conditions
from rlstab.bench.registry import BENCHMARKS, get
from rlstab.errors import UserError


@pytest.mark.parametrize("name", BENCHMARKS)
def test_flags_are_dataclasses_with_defaults(name: str) -> None:
    options = get(name).options()
    assert dataclasses.is_dataclass(options)
    options()


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match="did you mean 'startup'"):
        get("startap")
    with pytest.raises(UserError, match="there are envs, "):
        get("xyz")


def test_results_of_another_kind_are_named_in_a_fresh_process(tmp_path: Path) -> None:
    path = tmp_path / "envs.json"
    path.write_text(json.dumps({"schema_version": 1, "kind": "benchmark", "fields": {}}))
    code = f"from pathlib import Path; from rlstab.bench.registry import get; get('parity').load(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "unknown kind" not in done.stderr
    assert "complete 'benchmark'" in done.stderr


def test_saved_results_are_read_by_their_own_benchmark(tmp_path: Path) -> None:
    conditions = Conditions({}, 1, 0.0, {}, {}, "2026-01-01")
    text = {"title": "T", "about": "A", "command": "C", "unit": "s", "reference": "ours"}
    race = BenchmarkResult(
        name="startup", higher_is_better=False, labels=("command",), measurements=(), conditions=conditions, **text
    )
    path = race.save(tmp_path / "startup")
    assert get("startup").load(path).to_dict() == race.to_dict()
    with pytest.raises(UserError, match=r"holds the results of 'startup', not of 'ppo_parity': give ppo_parity.json"):
        get("parity").load(path)
    with pytest.raises(UserError, match="there is no result"):
        get("startup").load(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["parity", "presets", "quickstart"])
def test_kinds_of_results_are_known_without_measuring(name: str, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"schema_version": 1, "kind": name, "fields": {}}))
    with pytest.raises(UserError, match=f"complete '{name}'"):
        get(name).load(path)
