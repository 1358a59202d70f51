"""The gate on compiled kernels; all that are shipped are compiled by .ci/run, not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PLANTED = """
import torch
from rlstab.kernels.sigmoid_attention.static_report import Configuration, broken_bounds, compile_one
from rlstab.kernels.sigmoid_attention.tiles import Tiling
planted = Configuration("key gradient", 128, torch.bfloat16, "episodes", Tiling(64, 64, 4), "newton")
division = Configuration("short forward", 32, torch.bfloat16, "episodes", Tiling(32, 32, 2), "exact")
import dataclasses
print(broken_bounds(compile_one(planted, 90), planted))
print(broken_bounds(compile_one(division, 90), dataclasses.replace(division, mode="newton")))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: kernels that are to be interpreted can't be compiled.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(Path.cwd() / "cache")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_shipped_configuration_holds_its_bounds() -> None:
    module = "rlstab.kernels.sigmoid_attention.static_report"
    done = run("-m", module, "--architectures", "90", "--only", "short backward d32 bfloat16", "--json", "all.json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(Path("all.json").read_text())["configurations"]
    assert [row["broken"] for row in figures] == [[]] * len(figures)
    assert all(row["stack"] == 0 and row["registers"] > 0 for row in figures)
    longest = max(figures, key=lambda row: row["scores_a_thread"])
    assert longest["group_products"] > 0
    # One special-function operation a score.
    assert longest["exponentials"] == longest["scores_a_thread"]


def test_planted_faults_are_found() -> None:
    done = run("-c", PLANTED)
    spilling, dividing = done.stdout.splitlines()
    assert "spills registers" in spilling
    assert "divides by a special-function operation" in dividing


def test_a_name_that_is_not_shipped_is_an_error() -> None:
    done = run("-m", "rlstab.kernels.sigmoid_attention.static_report", "--only", "fastest")
    assert done.returncode == 2
    assert "no shipped configuration is called 'fastest'" in done.stderr
