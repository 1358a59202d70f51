from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from rlstab.errors import UserError
from rlstab.runs.atomic import DiskError
from rlstab.runs.metrics import MetricsWriter, read_frame, read_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_lines(path)]


def test_lines_are_flat_json(path: Path) -> None:
    writer = MetricsWriter(path)
    writer.write(10, {"rollout/return_mean": np.float32(0.5), "train/loss": 2})
    writer.write(20, {"rollout/return_mean": 1.0})
    first, second = read_lines(path)
    assert first.keys() == {"step", "time", "rollout/return_mean", "train/loss"}
    assert (first["step"], first["rollout/return_mean"], second["step"]) == (10, 0.5, 20)
    assert len(pandas.read_json(path, lines=True)) == 2


def test_the_table_has_nan_where_nothing_was_measured(path: Path) -> None:
    writer = MetricsWriter(path)
    writer.write(1, {"a": 1.0, "never": float("nan")})
    writer.write(2, {"a": float("inf"), "b": 3.0})
    frame = read_frame(path)
    assert frame["step"].tolist() == [1, 2]
    assert frame["a"].isna().tolist() == [False, True]
    assert frame["b"].isna().tolist() == [True, False]
    assert frame["never"].dtype == float
    assert b"NaN" not in path.read_bytes()


def test_without_a_file_there_are_no_lines(path: Path) -> None:
    assert read_lines(path) == []
    assert len(read_frame(path)) == 0
    assert "step" in read_frame(path)


def test_the_offset_leads_back(path: Path) -> None:
    writer = MetricsWriter(path)
    writer.write(1, {"a": 1})
    offset = writer.offset()
    writer.write(2, {"a": 2})
    writer.close()
    resumed = MetricsWriter(path)
    resumed.truncate_to(offset)
    assert steps(path) == [1]
    resumed.write(2, {"a": 3})
    assert [line["a"] for line in read_lines(path)] == [1, 3]


def test_an_offset_beyond_the_end_keeps_everything_whole(path: Path) -> None:
    writer = MetricsWriter(path)
    writer.write(1, {})
    path.write_bytes(path.read_bytes() + b'{"step": 2, "ti')
    writer.truncate_to(10_000)
    assert path.read_bytes().endswith(b"}\n")
    writer.truncate_to(0)
    assert path.read_bytes() == b""


def test_a_torn_last_line_is_not_read_and_not_continued(path: Path) -> None:
    MetricsWriter(path).write(1, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "a')
    assert steps(path) == [1]
    MetricsWriter(path).write(3, {"a": 3})
    assert steps(path) == [1, 3]


def test_a_damaged_line_in_the_middle_is_numbered(path: Path) -> None:
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"line 2 of .*metrics\.jsonl"):
        read_lines(path)


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MetricsWriter(path)
    writer.write(1, {"a": 1})
    write = os.write
    calls: list[int] = []

    def half(descriptor: int, data: Any) -> int:
        if calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(1)
        return write(descriptor, bytes(data)[:5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(DiskError, match=r"cannot write metrics to .*: the disk is full"):
            writer.write(2, {"a": 2})
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().endswith(b"\n")
    writer.write(3, {"a": 3})
    assert steps(path) == [1, 3]


def test_partial_writes_are_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    MetricsWriter(path).write(1, {"a": 1})
    assert json.loads(path.read_text())["a"] == 1


def test_the_writers_own_names_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="step"):
        MetricsWriter(path).write(1, {"step": 2})


def test_tensorboard_gets_the_same_numbers(path: Path, tmp_path: Path) -> None:
    writer = MetricsWriter(path, tmp_path / "tensorboard")
    writer.write(1, {"a": 0.25})
    writer.close()
    assert writer.tensorboard_problem is None
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_lines_go_on_when_tensorboard_cannot(path: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    writer = MetricsWriter(path, tmp_path / "tensorboard")
    writer.write(1, {"a": 1})
    writer.write(2, {"a": 2})
    writer.truncate_to(writer.offset())
    writer.close()
    assert steps(path) == [1, 2]
    assert writer.tensorboard_problem is not None
    assert writer.tensorboard_problem.startswith("TensorBoard files are no longer written: ")
