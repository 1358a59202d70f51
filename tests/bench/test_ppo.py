from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from rlstab.bench import ppo
from rlstab.bench.common import BenchmarkResult
from rlstab.bench.ppo import Options, measure
from rlstab.errors import UserError

SCRIPT = """
import argparse, sys
parser = argparse.ArgumentParser()
for flag in ("--env-id", "--seed", "--total-timesteps"):
    parser.add_argument(flag)
parser.add_argument("--no-cuda", action="store_true")
given = parser.parse_args()
assert given.env_id == "Hopper-v4"
open("log.txt", "w").write("what the real one writes into its folder")
for episode in range(200):
    print(f"global_step={20 * (episode + 1)}, episodic_return=[{25.0 * episode}]", flush=True)
"""


class FakeTrainings:
    """Stands in for the processes that train: every step takes 1 microsecond of ours, 2 of SB3's."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.never: set[tuple[str, int]] = set()
        self.broken: set[tuple[str, int]] = set()

    def run(self, command: list[str], **kwargs: Any) -> Any:
        if "rlstab.bench.ppo_worker" not in command:
            return subprocess.run(command, **kwargs)
        name, seed = command[3], int(command[command.index("--seed") + 1])
        self.begun.append((name, seed))
        if (name, seed) in self.broken:
            return types.SimpleNamespace(returncode=1, stdout="", stderr="...\nImportError: no such module\n")
        steps, until = int(command[command.index("--steps") + 1]), float(command[command.index("--until") + 1])
        seconds = steps * {"rlstab": 1e-6, "SB3": 2e-6}[name]
        reached = None if until == float("inf") or (name, seed) in self.never else {"steps": steps, "seconds": seconds}
        report = {"steps": steps, "seconds": seconds, "reached": reached}
        return types.SimpleNamespace(returncode=0, stdout=f"chatter\n{json.dumps(report)}\n", stderr="")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTrainings:
    fake = FakeTrainings()
    replacement = types.SimpleNamespace(
        run=fake.run,
        Popen=subprocess.Popen,
        PIPE=subprocess.PIPE,
        STDOUT=subprocess.STDOUT,
        CalledProcessError=subprocess.CalledProcessError,
    )
    monkeypatch.setattr(ppo, "subprocess", replacement)
    return fake


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "ppo_continuous_action.py"
    path.write_text(SCRIPT)
    return path


def test_the_page(fake: FakeTrainings, tmp_path: Path) -> None:
    options = Options(repetitions=3, speed_steps=1000, limit_steps=2_000_000, threads=1)
    result = measure(options, lambda _: None)
    assert fake.begun[:4] == [("rlstab", 0), ("SB3", 0), ("SB3", 1), ("rlstab", 1)]
    page = result.to_markdown()
    assert "Made by `rlstab bench ppo --docs --repetitions 3 --speed-steps 1000 --limit-steps 2000000" in page
    assert "| microseconds a step | 1 (1 to 1) | 2 (2 to 2) |" in page
    assert "| seconds to return 2000 | 2 (2 to 2) | 4 (4 to 4) |" in page
    assert "| seconds to return 2000 | 2.00 (2.00 to 2.00) |" in page
    assert "| speed steps | 1000 |" in page
    assert "| given up after steps | 2000000 |" in page
    assert "| rlstab, SB3 | python " in page
    assert "## Not measured" not in page
    path = result.save(tmp_path / "ppo")
    assert BenchmarkResult.load(path).to_markdown() == page


def test_speed_alone(fake: FakeTrainings) -> None:
    result = measure(Options(repetitions=1, until=0.0), lambda _: None)
    assert result.cases() == [("microseconds a step",)]
    assert "--until 0" in result.command
    assert not any("given up" in name for name in result.settings)


def test_seeds_that_do_not_reach_the_return_are_named(fake: FakeTrainings) -> None:
    fake.never = {("SB3", 1), ("SB3", 2), ("SB3", 0), ("rlstab", 2)}
    options = Options(repetitions=3, limit_steps=1_000_000)
    result = measure(options, lambda _: None)
    case = ("seconds to return 2000",)
    ours = result.find(case, "rlstab")
    assert ours is not None
    assert ours.samples == pytest.approx((1.0, 1.0))
    assert ours.missed == (2,)
    assert result.missing() == [
        "rlstab: seed 2 did not reach 2000 in 1,000,000 steps (seconds to return 2000)",
        "SB3: seed 0 did not reach 2000 in 1,000,000 steps; seed 1 did not reach 2000 in 1,000,000 steps; "
        "seed 2 did not reach 2000 in 1,000,000 steps (seconds to return 2000)",
    ]
    # The implementation that never arrived keeps its column.
    page = result.to_markdown()
    assert "| seconds to return 2000 | 1 (1 to given up) | given up |" in page


def test_one_missed_seed_of_a_peer_is_longer_than_the_others(fake: FakeTrainings) -> None:
    fake.never = {("SB3", 1)}
    result = measure(Options(repetitions=3, limit_steps=1_000_000), lambda _: None)
    assert result.advantage(("seconds to return 2000",), "SB3") == pytest.approx(2.0)
    assert result.missing() == ["SB3: seed 1 did not reach 2000 in 1,000,000 steps (seconds to return 2000)"]


def test_a_failing_peer_is_noted_and_not_tried_again(fake: FakeTrainings) -> None:
    fake.broken = {("SB3", 1)}
    result = measure(Options(repetitions=3, until=0.0), lambda _: None)
    assert result.missing() == ["SB3: seed 1 failed: ImportError: no such module (everywhere)"]
    assert fake.begun.count(("SB3", 2)) == 0
    assert result.find(("microseconds a step",), "rlstab") is not None


def test_our_own_failure_is_an_error(fake: FakeTrainings) -> None:
    fake.broken = {("rlstab", 0)}
    with pytest.raises(UserError, match="rlstab failed with seed 0: ImportError"):
        measure(Options(repetitions=3), lambda _: None)


def test_cleanrl_runs_in_its_own_interpreter(fake: FakeTrainings, script: Path) -> None:
    python = Path(sys.executable)
    options = Options(repetitions=1, until=2000.0, cleanrl=script, cleanrl_python=python, threads=1)
    result = measure(options, lambda _: None)
    for case in result.cases():
        measurement = result.find(case, "CleanRL")
        assert measurement is not None, result.missing()
        assert measurement.samples[0] > 0
    assert set(result.conditions.versions["CleanRL"]) >= {"python", "gymnasium", "torch"}
    assert "--cleanrl CLEANRL --cleanrl-python PYTHON" in result.command
    assert str(python) not in result.to_markdown()
    assert not (Path.cwd() / "log.txt").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("raise SystemExit('no module named gym')", "no module named gym"), ("print('hello')", "it ended no episode")],
)
def test_a_script_that_fails_is_noted(fake: FakeTrainings, script: Path, text: str, reason: str) -> None:
    script.write_text(text)
    options = Options(repetitions=1, until=0.0, cleanrl=script, cleanrl_python=Path(sys.executable))
    result = measure(options, lambda _: None)
    assert len(result.missing()) == 1
    assert result.missing()[0].startswith(f"CleanRL: seed 0 failed: {reason}")


def test_wrong_options_are_refused_before_anything_starts(fake: FakeTrainings, script: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure(Options(repetitions=0))
    with pytest.raises(UserError, match="--cleanrl-python"):
        measure(Options(cleanrl=script))
    with pytest.raises(UserError, match=r"--cleanrl needs the path"):
        measure(Options(cleanrl=tmp_path / "absent.py", cleanrl_python=Path(sys.executable)))
    with pytest.raises(UserError, match="is no interpreter that runs"):
        measure(Options(cleanrl=script, cleanrl_python=tmp_path / "python"))
    assert fake.begun == []
