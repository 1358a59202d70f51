from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy
import pytest

import rlstab
from rlstab.runs import provenance
from rlstab.runs.provenance import git_state, machine, package_versions, usable_cores


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_versions_name_python_and_what_is_installed() -> None:
    versions = package_versions()
    assert versions["numpy"] == numpy.__version__
    assert "python" in versions
    assert versions.get("rlstab", rlstab.__version__) == rlstab.__version__


def test_machine_is_json() -> None:
    described = machine()
    assert described["cores"] == usable_cores() >= 1
    assert described["memory_bytes"] > 2**20
    assert json.loads(json.dumps(described)) == described


def test_git_state_tells_commit_and_changes(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "x")
    state = git_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["branch"] == "main"
    assert state["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert git_state(tmp_path)["dirty"] is True


def test_a_package_inside_a_strangers_repository_has_no_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs.txt").write_text("1")
    git(tmp_path, "add", "theirs.txt")
    git(tmp_path, "commit", "-q", "-m", "x")
    installed = tmp_path / "venv" / "rlstab"
    installed.mkdir(parents=True)
    assert git_state(installed) == {}


def test_without_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == {}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(files, cores, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(provenance, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    assert usable_cores() == cores
