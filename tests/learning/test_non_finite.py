from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.errors import NonFiniteState, UserError
from rlstab.learning.non_finite import refuse_non_finite, save_non_finite
from rlstab.runs import failure
from rlstab.runs.atomic import disk_error
from rlstab.runs.run import Run


@pytest.fixture
def run(runs_root: Path) -> Run:
    return Run.create(runs_root, method="m", env_id="e", config={}, seed=0, device="cpu", command=[])


def test_finite_metrics_pass() -> None:
    refuse_non_finite({"a": 1.0, "b": -1e300}, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, np.float32("nan")])
def test_others_are_named_with_the_step(value: float) -> None:
    with pytest.raises(UserError, match=r"^b became NaN or infinite at step 3: [^;]*$"):
        refuse_non_finite({"a": 1.0, "b": value}, 3)


def test_arrays_of_objects_are_left_out(run: Run) -> None:
    error = NonFiniteState("x", step=1, worlds=[0], arrays={"qpos": np.zeros(1), "info": np.array([{}], dtype=object)})
    save_non_finite(error, run, 5)
    saved = np.load(run.path / "failure" / "step-000000000005.npz", allow_pickle=False)
    assert set(saved) == {"qpos", "worlds", "environment_step", "training_step"}


def test_a_full_disk_does_not_hide_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> Any:
        raise disk_error(f"cannot write {path}", OSError(errno.ENOSPC, ""))

    monkeypatch.setattr(failure, "write_bytes", refuse)
    told = save_non_finite(NonFiniteState("NaN in world 2", step=1, worlds=[2], arrays={}), run, 5)
    stopped = "training stopped after step 5, counted over all worlds"
    assert str(told).startswith(f"NaN in world 2; {stopped}; the state could not be saved: cannot")


def test_the_error_survives_the_way_from_a_worker_process() -> None:
    error = NonFiniteState("NaN in world 2", step=7, worlds=[2], arrays={"qpos": np.zeros(3)})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.step, copy.worlds) == ("NaN in world 2", 7, [2])
    np.testing.assert_array_equal(copy.arrays["qpos"], np.zeros(3))
