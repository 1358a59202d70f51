"""The gate on compiled kernels; all that are shipped are compiled by its command, which takes minutes, not here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

MODULE = "rlstab.kernels.sigmoid_attention.static_report"

HEADER = f"""
import dataclasses, json, sys, torch
from {MODULE} import Configuration, broken_bounds, compile_one
from {MODULE.replace("report", "configurations")} import KERNELS
from {MODULE.replace("static_report", "tiles")} import Tiling
import {MODULE} as report
"""

# Heads in groups, all else together, and a learnable bias alone, where they spilled.
OPTIONS = """
held = [
    each for each in report.shipped(90)
    if (each.kernel, each.head_dim, each.dtype, each.options) in {
        ("key gradient", 64, torch.bfloat16, "grouped"),
        ("short backward", 64, torch.float32, "grouped"),
        ("short backward", 64, torch.float32, "head bias"),
        ("short backward", 32, torch.bfloat16, "all"),
    }
]
report.shipped = lambda architecture: held
status = report.main(["--architectures", "90", "--json", "all.json"])
sys.exit(status if len(held) == 4 else 3)
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

# Other modes of the sigmoid, TF32 and padded dimensions are compiled, but not judged. Names that the interpreter
# takes and the compiler refuses are found by compiling.
REST = """
from rlstab.kernels.sigmoid_attention.tiles import BIAS_HEAD, BIAS_ROW
padded = (("DIM", 12), ("VALUE_DIM", 10), ("GROUP", 2), ("BLOCK_G", 2))
gradients = (("BIAS_GRAD", True), ("SLOPES_GRAD", True))
first = (("ALIBI", True), ("HAS_LENS", True), ("BIAS", BIAS_HEAD), *padded, *gradients)
second = (("CAUSAL", False), ("HAS_LENS", True), ("BIAS", BIAS_ROW))
for kernel in KERNELS:
    if kernel.startswith(("specialised", "fused")):
        continue
    tiling = Tiling(2 if kernel.startswith("decode") else 16, 16, 2, 2)
    for dtype, mode, precision, others in (
        (torch.float16, "tanh", "ieee", first),
        (torch.float32, "exact", "tf32x3", second),
    ):
        compile_one(Configuration(kernel, 16, dtype, "episodes", tiling, mode, precision, others=others), 90)
large, grouped = Tiling(128, 128, 4, 2), (("GROUP", 4),)
for mode in ("tanh", "exact"):
    compile_one(Configuration("specialised forward", 64, torch.float16, "window", large, mode, others=grouped), 90)
everything = (("ALIBI", True), ("HAS_LENS", True), ("BIAS", BIAS_ROW), ("GROUP", 4))
large = Tiling(64, 128, 8, 1)
compile_one(Configuration("fused gradients", 64, torch.float16, "episodes", large, "tanh", others=everything), 90)
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
    assert all(row["special_outside"] + sum(row["special_a_loop"]) == row["scores"] for row in figures)


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


def test_options_of_calls_hold_their_bounds() -> None:
    done = run("-c", HEADER + OPTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 hold their bounds, 0 do not" in done.stdout
    rows = json.loads(Path("all.json").read_text())["configurations"]
    assert all(row["stack"] == 0 for row in rows)
    # One loop over heads, or three over tiles of all heads.
    loops = {row["name"]: len(row["special_a_loop"]) for row in rows}
    assert sorted(loops.values()) == [0, 1, 1, 3], loops


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


def figures(report: Any, **changes: Any) -> Any:
    """Of a kernel that holds its bounds."""
    good = report.Figures(
        name="",
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
    return dataclasses.replace(good, **changes)


@pytest.fixture
def report() -> Any:
    return importlib.import_module(MODULE)


@pytest.fixture
def fused(report: Any) -> Any:
    tiling = report.tiles.Tiling(64, 128, 8, 2)
    return report.Configuration("fused gradients", 64, report.torch.bfloat16, "dense", tiling, "newton")


def test_tiles_that_are_not_copied_whole_fail_the_gate(report: Any, fused: Any) -> None:
    assert report.broken_bounds(figures(report), fused) == []
    for field, told in (("tile_copies", "fetches no whole tiles"), ("tile_sums", "adds no whole tiles to memory")):
        (problem,) = report.broken_bounds(figures(report, **{field: 0}), fused)
        assert told in problem


PEELED = {"special_outside": 32}
BESIDE = {"registers": 128, "stack": 16, "local_accesses": 4}


@pytest.mark.parametrize(
    ("held", "broken", "told"),
    [
        # What data sheets say, less the kilobyte that the driver keeps.
        *(
            (
                {"architecture": capability, "shared": (kib - 1) * 1024},
                {"shared": (kib - 1) * 1024 + 1},
                "shared memory",
            )
            for capability, kib in ((80, 164), (89, 100), (90, 228), (100, 228), (120, 100))
        ),
        ({"registers": 128, "warps": 16}, {"registers": 129}, "129 registers in 512 threads"),
        ({"registers": 256}, {"registers": 257}, "257 registers in 256 threads"),
        (BESIDE, {"stack": 17}, "spills registers (17 bytes"),
        (BESIDE, {"registers": 129}, "spills registers (16 bytes"),
        (BESIDE, {"local_in_loops": 1}, "spills registers (16 bytes"),
        (
            {**BESIDE, "local_in_loops": 2, "instructions_a_loop": [2000]},
            {"instructions_a_loop": [1999]},
            "spills registers (16 bytes",
        ),
        (BESIDE, {"special_a_loop": []}, "spills registers (16 bytes"),
        ({}, {"stack": 4}, "spills registers (4 bytes"),
        ({"architecture": 80, "warp_products": 9}, {"group_products": 0, "warp_products": 0}, "without tensor cores"),
        ({}, {"group_products": 0, "warp_products": 9}, "without the tensor cores' group instructions"),
        ({}, {"special_a_loop": [33]}, "33 special-function operations for 32 scores in a loop"),
        ({}, {"special_outside": 1}, "1 special-function operations outside of loops"),
        ({"architecture": 100, **PEELED}, {"special_outside": 33}, "33 special-function operations outside of loops"),
        ({}, {"special_a_loop": [32, 32]}, "has 2 loops over scores instead of 1"),
        ({}, {"reciprocals": 1}, "divides by a special-function operation"),
    ],
)
def test_each_bound_holds_up_to_its_last_unit(
    held: dict[str, Any], broken: dict[str, Any], told: str, report: Any, fused: Any
) -> None:
    assert report.broken_bounds(figures(report, **held), fused) == []
    assert any(told in problem for problem in report.broken_bounds(figures(report, **{**held, **broken}), fused))


def test_exact_sigmoids_take_two_operations_a_score(report: Any, fused: Any) -> None:
    exact = dataclasses.replace(fused, mode="exact")
    assert report.broken_bounds(figures(report, special_a_loop=[64], reciprocals=32), exact) == []
    assert report.broken_bounds(figures(report, special_a_loop=[65], reciprocals=32), exact) != []


def test_every_option_is_shipped(report: Any) -> None:
    """Heads in groups, slopes, padding, biases by head and by row, and gradients of both, for every architecture."""
    for architecture in report.ARCHITECTURES:
        configurations = list(report.shipped(architecture))
        assert len({each.name() for each in configurations}) == len(configurations)
        for kernel, function in report.KERNELS.items():
            known = [report.constants_of(each) for each in configurations if each.kernel == kernel]
            copying = kernel.startswith(("fused", "specialised"))
            assert bool(known) == (not copying or architecture == 90)
            for name, values in (
                ("GROUP", {1, 4}),
                ("ALIBI", {False, True}),
                ("HAS_LENS", {False, True}),
                ("BIAS_GRAD", {False, True}),
                ("SLOPES_GRAD", {False, True}),
                ("BIAS", {2, 3}),
            ):
                # Parts of a step are the same kernel as a whole one.
                if known and name in function.arg_names and kernel != "decode part":
                    assert {constants[name] for constants in known} >= values, (kernel, name)
            if "BIAS_GRAD" in function.arg_names:
                # A learnable bias a head, alone: what policies have.
                alone = {"BIAS": 1, "BIAS_GRAD": True, "GROUP": 1, "ALIBI": False}
                assert any(alone.items() <= constants.items() for constants in known)


@pytest.mark.parametrize("architecture", [89, 120])
def test_desktop_gpus_are_among_what_is_shipped(architecture: int, report: Any) -> None:
    largest = [each for each in report.shipped(architecture) if each.head_dim == 256]
    assert {each.kernel for each in largest} == {"forward", "query gradient", "key gradient"}


def test_what_is_not_in_the_gate_compiles() -> None:
    done = run("-c", HEADER + REST)
    assert done.stdout == "compiled\n", done.stdout + done.stderr


def test_a_name_that_is_not_shipped_is_an_error() -> None:
    done = run("-m", MODULE, "--only", "fastest")
    assert done.returncode == 2
    assert "no shipped configuration is called 'fastest'" in done.stderr


def test_a_baseline_that_is_not_there_is_an_error() -> None:
    done = run("-m", MODULE, "--only", "short forward d16 float32", "--baseline", "typo.json")
    assert done.returncode == 2
    assert "cannot read the baseline typo.json: No such file" in done.stderr
    assert "hold their bounds" not in done.stdout


def test_a_baseline_is_written_and_compared_with() -> None:
    done = run("-c", HEADER + COMPARED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "registers, had" in done.stdout
