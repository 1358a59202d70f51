from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlstab.bench import runs
from rlstab.errors import UserError
from rlstab.runs.run import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    made: list[list[str]] = []

    def call(command: Sequence[str], what: str) -> str:
        made.append(list(command))
        return ""

    monkeypatch.setattr(runs, "call", call)
    return made


def test_a_training_is_begun_then_gone_on_with_then_left_alone(calls: list[list[str]], tmp_path: Path) -> None:
    path = tmp_path / "w" / "mine"
    flags = {"env": "InvertedPendulum-v5", "total_steps": 64}
    assert runs.train(path, "ppo", flags, "mine", threads=2) == path
    begun = " ".join(calls[0][1:])
    assert begun.startswith(f"-m rlstab train ppo --run-dir {path.parent} --name mine")
    assert begun.endswith("--env InvertedPendulum-v5 --total-steps 64 --num-threads 2")

    run = Run.create(
        path.parent,
        method="ppo",
        env_id="InvertedPendulum-v5",
        config={},
        seed=0,
        device="cpu",
        command=[],
        name="mine",
    )
    runs.train(path, "ppo", flags, "mine")
    assert calls[1][1:] == ["-m", "rlstab", "train", "--resume", str(path)]

    with run.lock():
        run.update(status="finished")
    runs.train(path, "ppo", flags, "mine")
    assert len(calls) == 2


def test_a_command_computes_on_one_core_and_gives_what_it_prints() -> None:
    program = "import os; print(os.environ['OMP_NUM_THREADS'])"
    assert runs.call([sys.executable, "-c", program], "x") == "1\n"


def test_a_command_that_fails_is_told_by_its_last_line() -> None:
    with pytest.raises(UserError, match="training x failed: boom"):
        runs.call([sys.executable, "-c", "import sys; sys.exit('boom')"], "training x")
