"""The gate on compiled kernels; all that are shipped are compiled by its command, which takes minutes, not here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

MODULE = "rlstab.kernels.sigmoid_attention.static_report"

HEADER = f"""
import dataclasses, json, sys, torch
from {MODULE} import Configuration, broken_bounds, compile_one
from {MODULE.replace("static_report", "tiles")} import Tiling
import {MODULE} as report
"""

# A tile of scores and two sums that are too much for four warps; a gate that lets it pass is no gate.
SPILLING = """
planted = Configuration("key gradient", 128, torch.bfloat16, "episodes", Tiling(64, 64, 4), "newton")
report.shipped = lambda architecture: [planted]
sys.exit(report.main(["--architectures", "90", "--quiet"]))
"""

OPERATIONS = """
division = Configuration("short forward", 32, torch.bfloat16, "episodes", Tiling(32, 32, 2), "exact")
print(broken_bounds(compile_one(division, 90), dataclasses.replace(division, mode="newton")))
# Eight warps for 64 rows: two threads evaluate each score.
twice = Configuration("short backward", 128, torch.bfloat16, "episodes", Tiling(64, 64, 8, 1), "newton")
print(broken_bounds(compile_one(twice, 90), twice))
"""

# Of eight warps the compiler specialises none, and says nothing.
SPECIALISED = """
held = Configuration("specialised forward", 64, torch.bfloat16, "plain", Tiling(128, 128, 4, 2), "newton")
figures = compile_one(held, 90)
lost = dataclasses.replace(held, tiling=Tiling(128, 128, 8, 2))
problems = [broken_bounds(figures, held), broken_bounds(compile_one(lost, 90), lost)]
print(json.dumps([dataclasses.asdict(figures), *problems]))
"""

COMPARED = """
import json, pathlib
asked = ["--architectures", "90", "--only", "short forward d16 bfloat16 episodes 16x16", "--baseline", "known.json"]
assert report.main([*asked, "--write-baseline"]) == 0
assert report.main(asked) == 0
known = json.loads(pathlib.Path("known.json").read_text())
for versions in known["configurations"].values():
    for figures in versions.values():
        figures[0] //= 2
pathlib.Path("known.json").write_text(json.dumps(known))
assert report.main(asked) == 1
"""

# What no shipped configuration has; names that the interpreter takes and the compiler refuses are found by compiling.
REST = """
from rlstab.kernels.sigmoid_attention.tiles import BIAS_HEAD, BIAS_ROW
padded = (("DIM", 12), ("VALUE_DIM", 10), ("GROUP", 2), ("BLOCK_G", 2))
gradients = (("BIAS_GRAD", True), ("SLOPES_GRAD", True))
first = (("ALIBI", True), ("HAS_LENS", True), ("BIAS", BIAS_HEAD), *padded, *gradients)
second = (("CAUSAL", False), ("HAS_LENS", True), ("BIAS", BIAS_ROW))
for kernel in report._KERNELS:
    if kernel.startswith(("specialised", "fused")):
        continue
    tiling = Tiling(2 if kernel.startswith("decode") else 16, 16, 2, 2)
    for dtype, mode, precision, others in (
        (torch.float16, "tanh", "ieee", first),
        (torch.float32, "exact", "tf32x3", second),
    ):
        compile_one(Configuration(kernel, 16, dtype, "episodes", tiling, mode, precision, others), 90)
large, grouped = Tiling(128, 128, 4, 2), (("GROUP", 4),)
for mode in ("tanh", "exact"):
    compile_one(Configuration("specialised forward", 64, torch.float16, "window", large, mode, "ieee", grouped), 90)
everything = (("ALIBI", True), ("HAS_LENS", True), ("BIAS", BIAS_ROW), ("GROUP", 4))
large = Tiling(64, 128, 8, 1)
compile_one(Configuration("fused gradients", 64, torch.float16, "episodes", large, "tanh", "ieee", everything), 90)
print("compiled")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: kernels that are to be interpreted can't be compiled.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(Path.cwd() / "cache")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_shipped_configuration_holds_its_bounds() -> None:
    done = run(
        "-m", MODULE, "--architectures", "90", "--only", "backward d32 bfloat16 episodes 64x64", "--json", "all.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(Path("all.json").read_text())["configurations"]
    assert [row["broken"] for row in figures] == [[]] * len(figures)
    assert all(row["stack"] == 0 and row["registers"] > 0 for row in figures)
    assert all(row["group_products"] > 0 for row in figures)
    # One special-function operation a score.
    assert all(row["special_outside"] == row["scores"] for row in figures)


def test_each_loop_takes_one_operation_a_score_and_has_a_bound_on_speed() -> None:
    done = run(
        "-m", MODULE, "--architectures", "90", "--only", "sm_90 forward d64 bfloat16 plain", "--json", "all.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(Path("all.json").read_text())["configurations"]
    assert row["special_a_loop"] == [row["scores"]] * 2
    assert row["special_outside"] == 0
    assert 100 < row["bound_tflops"] < 990


def test_a_planted_spill_fails_the_gate() -> None:
    done = run("-c", HEADER + SPILLING)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "spills registers" in done.stdout
    assert "0 hold their bounds, 1 do not" in done.stdout


def test_planted_operations_are_found() -> None:
    done = run("-c", HEADER + OPERATIONS)
    dividing, twice = done.stdout.splitlines()
    assert "divides by a special-function operation" in dividing
    assert "takes 32 special-function operations outside of loops" in twice


def test_warps_are_specialised_or_the_gate_fails() -> None:
    done = run("-c", HEADER + SPECIALISED)
    assert done.returncode == 0, done.stderr
    figures, held, lost = json.loads(done.stdout)
    assert held == []
    assert any("runs 8 warps: they were not specialised, 12 would be" in problem for problem in lost)
    assert (figures["warps"], figures["stack"], figures["local_accesses"]) == (12, 0, 0)
    assert figures["tile_copies"] > 0
    assert figures["group_products"] > 0
    # Both halves of the rows take one special-function operation a score.
    assert figures["special_a_loop"] == [figures["scores"]] * 2 == [64] * 2


def test_tiles_that_are_not_copied_whole_fail_the_gate() -> None:
    report = importlib.import_module(MODULE)
    tiling = report.Tiling(64, 128, 8, 2)
    fused = report.Configuration("fused gradients", 64, report.torch.bfloat16, "dense", tiling, "newton")
    good = report.Figures(
        name=fused.name(),
        architecture=90,
        registers=200,
        stack=0,
        local_accesses=0,
        local_in_loops=0,
        shared=100_000,
        warps=8,
        scores=32,
        special_a_loop=[32],
        special_outside=0,
        reciprocals=0,
        instructions_a_loop=[600],
        group_products=24,
        warp_products=0,
        async_copies=10,
        tile_copies=4,
        tile_sums=1,
        instructions=2000,
    )
    assert report.broken_bounds(good, fused) == []
    for field, told in (("tile_copies", "fetches no whole tiles"), ("tile_sums", "adds no whole tiles to memory")):
        (problem,) = report.broken_bounds(dataclasses.replace(good, **{field: 0}), fused)
        assert told in problem


def test_what_is_not_in_the_gate_compiles() -> None:
    done = run("-c", HEADER + REST)
    assert done.stdout == "compiled\n", done.stdout + done.stderr


def test_a_name_that_is_not_shipped_is_an_error() -> None:
    done = run("-m", MODULE, "--only", "fastest")
    assert done.returncode == 2
    assert "no shipped configuration is called 'fastest'" in done.stderr


def test_a_baseline_is_written_and_compared_with() -> None:
    done = run("-c", HEADER + COMPARED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registers, had" in done.stdout
