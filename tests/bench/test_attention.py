from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from rlstab.bench import attention, attention_cpu
from rlstab.bench.attention_result import AttentionResult, Check, Target
from rlstab.bench.attention_rows import COLUMNS, RATIO, Row, Skipped, quantiles, tables
from rlstab.bench.attention_timing import Budget, alternate
from rlstab.bench.conditions import Conditions
from rlstab.bench.pages import write_docs
from rlstab.bench.registry import get
from rlstab.errors import UserError


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {"provider": "ours", "mode": "forward", "metric": "time", "unit": "ms", "case": "dense 4"}
    fields |= {"x_name": "T", "x_value": 4.0, "median": 2.0, "low": 1.0, "high": 3.0, "group": "lengths"}
    return Row(**(fields | changes))


def result(**changes: Any) -> AttentionResult:
    versions = {"rlstab": {"rlstab": "0.1", "torch": "2.13", "triton": "3.9"}}
    machine = {"processor": "P", "cores": 2, "system": "S", "gpu": "H100", "driver": "580"}
    fields: dict[str, Any] = {"name": "attention_gpu", "title": "T", "about": "A", "command": "C", "rows": (row(),)}
    fields |= {"conditions": Conditions(machine, 1, 0.5, versions, {"commit": "ab" * 20}, "2026-01-01")}
    return AttentionResult(timestamp="2026-01-01T00:00:00+00:00", **(fields | changes))


def test_lines_have_the_columns_that_others_have() -> None:
    rows = list(csv.DictReader(io.StringIO(result(rows=(row(config={"B": 2}), row(mode="step"))).to_csv())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["kernel_name"] == "sigmoid_attention"
    assert (rows[0]["y_value_50"], rows[0]["y_value_20"], rows[0]["y_value_80"]) == ("2.0", "1.0", "3.0")
    assert rows[0]["extra_benchmark_config_str"] == '{"set": "lengths", "case": "dense 4", "B": 2}'
    assert (rows[0]["gpu_name"], rows[0]["driver_version"], rows[0]["triton_version"]) == ("H100", "580", "3.9")
    assert rows[0]["git_hash"] == "ab" * 6
    assert rows[1]["kernel_name"] == "sigmoid_attention_step"


def test_a_page_is_written_with_its_lines_and_read_again(tmp_path: Path) -> None:
    made = result(
        checks=(Check("c", "newton out", 1e-3, 2e-3),),
        sigmoid=(("exact", 1e-8, 1e-7),),
        targets=(Target("speed", 1.0, 2.0, 1.5),),
        skipped=("eager: too large (4)",),
        settings={"copy, GB/s": 3000.0},
    )
    page = write_docs(made, tmp_path)
    assert (tmp_path / "attention_gpu.csv").read_text() == made.to_csv()
    assert not (tmp_path / "attention_gpu.png").exists()
    again = get("attention").load(tmp_path / "attention_gpu.json")
    assert again.to_markdown() == page.read_text()
    text = page.read_text()
    assert "1 of 1 goals are reached" in text
    assert "* eager: too large (4)" in text
    assert "| gpu | H100 |" in text
    assert "wrong" not in text


def test_the_worst_case_is_told_beside_the_goals() -> None:
    ratios = [
        row(provider="blockwise", metric=RATIO, case=case, median=value) for case, value in (("R1", 3.5), ("R5", 0.9))
    ]
    text = result(rows=tuple(ratios), targets=(Target("speed", 1.0, 2.0, 1.5),)).to_markdown()
    assert "between 0.9 (R5, forward) and 3.5 (R1, forward) times as long as SDPA." in text


def test_wrong_results_are_said_first() -> None:
    checks = (Check("c", "newton out", None, 1e-3), Check("c", "newton dq", 2e-3, 1e-3))
    text = result(checks=checks).to_markdown()
    assert "Some results are wrong" in text
    assert "| c | newton out | not a number | 1.00e-03 | NO |" in text
    assert result(checks=checks).summary()["checks that hold"] == "0 of 2"


@pytest.mark.parametrize(
    ("value", "at_most", "reached"),
    [
        (None, False, "not measured"),
        (0.9, False, "no"),
        (1.0, False, "yes"),
        (2.0, False, "yes, and the stretch"),
        (1.1, True, "no"),
        (1.0, True, "yes"),
        (0.5, True, "yes, and the stretch"),
    ],
)
def test_goals(value: float | None, at_most: bool, reached: str) -> None:
    assert Target("speed", 1.0, 0.5 if at_most else 2.0, value, at_most).reached == reached


def test_tables_have_a_column_a_provider() -> None:
    rows = [row(), row(provider="theirs", low=2.0, high=2.0), row(case="dense 8"), row(metric="ratio", unit="")]
    times, ratios = tables(rows)
    assert times == (
        "lengths, forward: time, ms",
        ["case", "ours", "theirs"],
        [["dense 4", "2 (1 to 3)", "2"], ["dense 8", "2 (1 to 3)", "-"]],
    )
    assert ratios[0] == "lengths, forward: ratio"


def test_quantiles() -> None:
    assert quantiles([3.0]) == (3.0, 3.0, 3.0)
    assert quantiles([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]) == (2.0, 3.5, 5.0)


def test_what_is_left_out_is_gathered() -> None:
    skipped = Skipped()
    for number in range(6):
        skipped.add("too large", f"T {number}")
    skipped.add("broken", "T 1")
    assert skipped.lines() == ["too large (T 0; T 1; T 2; T 3; and 2 more)", "broken (T 1)"]


def test_calls_are_timed_in_turns() -> None:
    import random

    calls: list[str] = []
    samples = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, 3, random.Random(0))
    assert [sorted(calls[i : i + 2]) for i in range(0, 8, 2)] == [["a", "b"]] * 4
    assert [len(times) for times in samples.values()] == [3, 3]


@pytest.fixture(scope="module")
def small() -> attention_cpu.CpuLab:
    """Everything that is measured on a processor, as small as it gets."""
    lab = attention_cpu.CpuLab(
        lengths=(16, 4096 // 128),
        heads=2,
        dim=8,
        dims=(16,),
        dims_length=32,
        memory_lengths=(1024, 2048),
        rl_share=512,
        windows=(8,),
        environments=2,
        repetitions=2,
        on_progress=lambda _: None,
    )
    lab.run()
    return lab


def test_a_processor_is_measured(small: attention_cpu.CpuLab) -> None:
    found = {(entry.group, entry.provider, entry.mode, entry.metric) for entry in small.rows}
    for mode in ("forward", "full"):
        for provider in ("blockwise", "SDPA", "eager"):
            assert ("lengths", provider, mode, "time") in found
        assert ("RL batches with resets", "SDPA masked", mode, "time") in found
        assert ("RL batches with resets", "blockwise", mode, RATIO) in found
    assert ("one step", "ring cache", "step", "time") in found
    assert ("one step", "recomputed", "step", attention_cpu.STEP_RATIO) in found
    assert small.left_out() == []
    assert all(entry.low <= entry.median <= entry.high for entry in small.rows)


def test_memory_is_linear_and_that_of_plain_operations_is_not(small: attention_cpu.CpuLab) -> None:
    peaks = {
        name: [entry.median for entry in small.rows if (entry.metric, entry.provider) == ("peak memory", name)]
        for name in ("blockwise", "eager")
    }
    # A block of scores, of either pass, is all that is held of them.
    assert peaks["blockwise"][1] < 12
    assert peaks["eager"][1] > 3 * peaks["eager"][0] > 12


def test_the_picture_is_of_memory(small: attention_cpu.CpuLab, tmp_path: Path) -> None:
    made = result(rows=tuple(small.rows), name="attention_cpu")
    page = write_docs(made, tmp_path)
    assert (tmp_path / "attention_cpu.png").stat().st_size > 1000
    assert "](attention_cpu.png)" in page.read_text()


def test_nothing_is_begun_after_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu, "peak_megabytes", lambda *_: {64: 1.0})
    lab = attention_cpu.CpuLab(
        lengths=(16,), memory_lengths=(64,), windows=(8,), budget=Budget(0.0), on_progress=lambda _: None
    )
    lab.run()
    assert {entry.metric for entry in lab.rows} == {"peak memory"}
    assert len(lab.left_out()) == 1
    assert "no time left (lengths, dense 16, forward;" in lab.left_out()[0]


def test_goals_of_a_processor() -> None:
    rows = [
        row(provider="blockwise", metric=RATIO, case="dense 4096", median=1.2),
        *(row(provider="blockwise", metric="peak memory", median=value) for value in (10.0, 40.0)),
    ]
    reached = {target.what: target.reached for target in attention_cpu.cpu_targets(rows)}
    assert reached["blockwise, dense 4096, forward: times as long as SDPA"] == "yes"
    assert reached["blockwise, causal 4096, full: times as long as SDPA"] == "not measured"
    assert reached["blockwise, twice the keys: times the memory"] == "no"


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="must be greater than 0"):
        attention.measure(attention.Options(repetitions=0))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="there is no GPU that torch can use"):
            attention.measure(attention.Options(device="cuda"))
        with pytest.raises(UserError, match="official is a kernel for GPUs"):
            attention.measure(attention.Options(official="a:b"))


def test_the_command_makes_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_cpu.CpuLab, "run", lambda self: self.rows.append(row()))
    made = attention.measure(attention.Options(device="cpu", repetitions=2), lambda _: None)
    assert made.name == "attention_cpu"
    assert made.command == "rlstab bench attention --docs --device cpu --repetitions 2"
    assert "torch" in made.conditions.versions["rlstab"]
    assert made.to_markdown().startswith("# Sigmoid attention on a CPU")
    trial = attention.measure(attention.Options(device="cpu", small=True), lambda _: None)
    assert trial.name == "attention_cpu_small"  # The page of all cases stays.
    assert trial.command == "rlstab bench attention --docs --device cpu --small"
    assert {field.name for field in dataclasses.fields(attention_cpu.CpuLab)} >= attention_cpu.SMALL.keys()
