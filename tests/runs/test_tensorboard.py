from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlstab.runs.tensorboard import EventFile


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "deep" / "folder")
    events.write(10, 1e9, {"loss": 0.5, "return": 2.0})
    events.write(20, 1e9 + 1, {"loss": 0.25})
    # Not closed: a run that is killed must be readable as well.
    assert scalars(tmp_path / "deep" / "folder", "loss") == [(10, 0.5), (20, 0.25)]
    assert scalars(tmp_path / "deep" / "folder", "return") == [(10, 2.0)]
    events.close()


def test_after_a_resumption_nothing_is_there_twice(tmp_path: Path) -> None:
    killed = EventFile(tmp_path)
    for step in (10, 20, 30):
        killed.write(step, 1e9, {"loss": 1.0})
    resumed = EventFile(tmp_path)
    resumed.forget_from(11)
    for step in (20, 30, 40):
        resumed.write(step, 2e9, {"loss": 2.0})
    assert scalars(tmp_path, "loss") == [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0)]
    killed.close()
    resumed.close()


def test_nothing_is_touched_before_the_first_record(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "tensorboard")
    events.forget_from(0)
    events.close()
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("module", ["torch", "tensorflow"])
def test_neither_torch_nor_tensorflow_is_imported(tmp_path: Path, module: str) -> None:
    program = (
        "import sys; from pathlib import Path; from rlstab.runs.tensorboard import EventFile; "
        f"EventFile(Path(sys.argv[1])).write(1, 0.0, {{'a': 1.0}}); sys.exit('{module}' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 0
