"""Where a result came from: versions, source revision and machine."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    "rlstab",
    "numpy",
    "torch",
    "gymnasium",
    "mujoco",
    "stable-baselines3",
    "sb3-contrib",
    "safetensors",
    "scipy",
    "onnx",
    "onnxruntime",
)

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages a result may depend on; nothing is imported for it."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Revision of a source tree.

    Parameters
    ----------
    folder : Path, optional
        Default: where this package's source lies.

    Returns
    -------
    dict
        ``commit`` (hexadecimal), ``branch`` and ``dirty`` (tracked files differ from the commit); empty where the
        folder is in no git repository, does not belong to its tracked files (an installed package inside somebody
        else's repository), or git is not installed.
    """
    folder = folder or Path(__file__).resolve().parent
    tracked = _git(folder, "ls-files", "--", ".")
    commit = _git(folder, "rev-parse", "HEAD")
    if not tracked or not commit:
        return {}
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "",
        "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    }


def machine() -> dict[str, Any]:
    """The computer, as far as it may matter to a number: system, processor, usable cores, memory in bytes."""
    return {
        "system": platform.platform(),
        "processor": _processor_name(),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }


def usable_cores() -> int:
    """Processors that this process may keep busy: those it may run on, within the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(_CONTROL_GROUPS)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _cpu_quota(root: Path) -> float | None:
    """Processors that the control group's limit amounts to (``docker run --cpus 2``); None: no limit.

    A container sees its own group at the root of the hierarchy; outside one the root has no limit.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()  # Version 2: "max 100000" or "200000 100000".
    except (OSError, ValueError):
        try:  # Version 1
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        processors = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return processors if processors > 0 else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        # No optional locks: asking must never disturb a git command that runs beside it.
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
