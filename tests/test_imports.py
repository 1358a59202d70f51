"""Starting up is cheap, and deployment does without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "mujoco", "gymnasium", "pandas", "matplotlib", "stable_baselines3", "onnxruntime", "scipy", "numba"}


def modules_after(statement: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a fresh interpreter that ran ``statement``."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    # -I: the test's folder and the environment's settings must not decide what is found
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rlstab", "rlstab.cli.main", "rlstab.controllers.registry"])
def test_heavy_packages_wait_until_they_are_needed(module: str) -> None:
    assert modules_after(f"import {module}") & HEAVY == set()


@pytest.mark.parametrize("module", ["rlstab.envs.registry", "rlstab.runs.run", "rlstab.sim2real.runtime"])
def test_deployment_does_without_torch(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert "torch" not in loaded
    assert "stable_baselines3" not in loaded
