from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlstab.errors import UserError
from rlstab.runs import info as info_module
from rlstab.runs.atomic import DiskError
from rlstab.runs.run import Run, list_runs


def create(root: Path, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "method": "ppo",
        "env_id": "Hopper-v5",
        "config": {"seed": 3, "hidden": [64, 64]},
        "seed": 3,
        "device": "cpu",
        "command": ["rlstab", "train", "ppo"],
    }
    return Run.create(root, **{**settings, **changes})


def test_a_run_describes_itself(tmp_path: Path) -> None:
    run = create(tmp_path / "runs", total_steps=500)
    document = json.loads((run.path / "run.json").read_text())
    assert document["schema_version"] == 1
    assert document["config"] == {"seed": 3, "hidden": [64, 64]}
    assert document["command"] == ["rlstab", "train", "ppo"]
    assert document["versions"]["numpy"]
    assert (document["seed"], document["total_steps"], document["status"]) == (3, 500, "running")
    assert Run.open(run.path).info == run.info


def test_its_name_says_method_environment_and_seed(tmp_path: Path) -> None:
    run = create(tmp_path, env_id="my_module:rlstab/Odd Env-v0")
    assert run.path.name.startswith("ppo-my_module-rlstab-Odd-Env-v0-seed3-")
    assert run.info.name == run.path.name


def test_two_runs_of_the_same_second_get_two_folders(tmp_path: Path) -> None:
    paths = {create(tmp_path).path for _ in range(3)}
    assert len(paths) == 3
    assert all(Run.open(path).info.name == path.name for path in paths)


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    create(tmp_path, name="mine")
    with pytest.raises(UserError, match="mine exists: choose another name, or resume"):
        create(tmp_path, name="mine")
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "é"])
def test_a_name_must_be_a_plain_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a run"):
        create(tmp_path, name=name)


def test_a_folder_of_runs_that_cannot_be_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run\.json: that is a file; choose a folder"):
        create(tmp_path / "run.json")
    with pytest.raises(UserError, match="a part of the path is a file, not a folder: choose another folder"):
        create(tmp_path / "run.json" / "runs")
    with pytest.raises(UserError, match="in /proc/foo: that folder does not exist and cannot be made; choose another"):
        create(Path("/proc/foo"))


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run: no run\.json; runs are folders made by `rlstab train`"):
        Run.open(tmp_path)
    (tmp_path / "policy.onnx").write_text("x")
    with pytest.raises(UserError, match="is not a run"):
        Run.open(tmp_path / "policy.onnx")
    with pytest.raises(UserError, match="there is no folder"):
        Run.open(tmp_path / "gone")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not JSON"),
        ('{"schema_version": 1, "na', "is not JSON"),
        ("[]", "does not describe a run"),
        ('{"schema_version": 1}', "RunInfo.name is missing"),
        ('{"schema_version": 99}', "newer rlstab: update this one"),
    ],
)
def test_a_damaged_or_newer_description_is_named(tmp_path: Path, content: str, words: str) -> None:
    run = create(tmp_path)
    (run.path / "run.json").write_text(content)
    with pytest.raises(UserError) as caught:
        Run.open(run.path)
    assert words in str(caught.value)
    assert list_runs(tmp_path) == []


def test_status_is_written_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(tmp_path)
    run.update(status="failed", reason="no luck")
    assert (Run.open(run.path).info.status, Run.open(run.path).info.reason) == ("failed", "no luck")

    def fail(*arguments: Any) -> None:
        raise DiskError("the disk is full")

    monkeypatch.setattr(info_module, "write_text", fail)
    with pytest.raises(DiskError):
        run.update(status="finished")
    assert Run.open(run.path).info.status == run.info.status == "failed"


def test_a_killed_run_is_listed_as_interrupted(tmp_path: Path) -> None:
    run = create(tmp_path, name="a")
    create(tmp_path, name="b").update(status="finished")
    (tmp_path / "something-else").mkdir()
    with run.lock():
        assert {listed.info.name: listed.info.status for listed in list_runs(tmp_path)} == {
            "a": "running",
            "b": "finished",
        }
    killed = {listed.info.name: listed.info for listed in list_runs(tmp_path)}["a"]
    assert (killed.status, killed.reason) == ("interrupted", "killed")
    assert [listed.path for listed in list_runs(tmp_path)] == [tmp_path / "a", tmp_path / "b"]
    assert list_runs(tmp_path / "gone") == []


def test_what_another_process_wrote_is_read_again(tmp_path: Path) -> None:
    run = create(tmp_path, device="cuda:0", torch_threads=2)
    Run.open(run.path).update(status="finished")
    assert run.info.status == "running"
    run.reload()
    assert (run.info.status, run.info.device, run.info.torch_threads) == ("finished", "cuda:0", 2)


def test_metrics_are_read_while_they_are_written(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert len(run.read_metrics()) == 0
    run.metrics.write(10, {"rollout/return_mean": 1.0})
    assert Run.open(run.path).read_metrics()["rollout/return_mean"].tolist() == [1.0]
    run.close()


def test_opening_a_run_touches_nothing(tmp_path: Path) -> None:
    run = create(tmp_path)
    before = sorted(os.listdir(run.path))
    opened = Run.open(run.path)
    assert opened.checkpoints.steps() == []
    opened.current_info()
    opened.close()
    assert sorted(os.listdir(run.path)) == before == ["run.json"]


def test_a_disk_without_room_for_a_run(small_disk: Path) -> None:
    (small_disk / "fill").write_bytes(bytes(1 << 18))
    with pytest.raises(DiskError, match="the disk is full"):
        create(small_disk)
    assert os.listdir(small_disk) == ["fill"]


def test_the_package_is_light_and_free_of_torch(tmp_path: Path) -> None:
    program = (
        "import sys, rlstab.runs.run, rlstab.runs.checkpoint, rlstab.runs.config; "
        "sys.exit(bool({'torch', 'pandas', 'tensorboard', 'safetensors', 'gymnasium'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
