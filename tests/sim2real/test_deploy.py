from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.evaluation import evaluate
from rlstab.envs.disturbance import ParameterScale
from rlstab.errors import UserError
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.deploy import check, deploy
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.runtime import Episode


@pytest.mark.parametrize("name", ["pendulum", "hopper"])
def test_the_deployed_return_is_the_evaluated_one(name: str, request: pytest.FixtureRequest) -> None:
    path, policy = request.getfixturevalue(name)
    report = deploy(path, seed=7, episodes=5, realtime=False)
    evaluated = evaluate(policy, report.env_id, episodes=5, seed=7)
    # Only the order of additions in float32 differs; a falling hopper amplifies that a little.
    np.testing.assert_allclose(np.array(report.returns, float), evaluated.returns, rtol=1e-4)
    np.testing.assert_array_equal(report.lengths, evaluated.lengths)
    assert [ended == "terminated" for ended in report.ended] == evaluated.terminated.tolist()


def test_what_was_deployed_is_reported(pendulum: tuple[Path, Any]) -> None:
    episodes: list[tuple[int, Episode]] = []
    report = deploy(
        pendulum[0],
        seed=1,
        episodes=2,
        realtime=False,
        on_episode=lambda number, episode: episodes.append((number, episode)),
    )
    assert (report.returns, report.lengths, report.ended) == (
        (1000.0, 1000.0),
        (1000, 1000),
        ("truncated", "truncated"),
    )
    assert report.mean_return == 1000.0
    assert [number for number, _ in episodes] == [0, 1]
    assert report.rows()[1] == ("0", "1000.0", "1000", "truncated")
    assert report.latency.ticks == 2000
    told = json.loads(json.dumps(report.to_dict()))
    assert told["returns"] == [1000.0, 1000.0]
    assert told["latency_ms"]["inference"]["count"] == 2000
    assert not report.interrupted


def test_real_time_keeps_the_control_period(pendulum: tuple[Path, Any]) -> None:
    report = deploy(pendulum[0], duration=0.4)
    assert (report.backend, report.control_dt, report.lengths, report.ended) == ("mujoco", 0.04, (10,), ("duration",))
    assert report.latency.period_error is not None
    assert report.latency.period_error.count == 9


def test_episodes_with_a_duration_do_not_depend_on_real_time(hopper: tuple[Path, Any]) -> None:
    paced = deploy(hopper[0], seed=3, duration=0.08)
    free = deploy(hopper[0], seed=3, duration=0.08, realtime=False)
    assert paced.returns == free.returns
    assert paced.lengths == (10,)


def test_torch_is_not_needed(pendulum: tuple[Path, Any]) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['stable_baselines3'] = None  # importing them raises\n"
        "from rlstab.sim2real.deploy import deploy\n"
        f"report = deploy({str(pendulum[0])!r}, episodes=1, realtime=False)\n"
        "print(report.mean_return, 'onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["1000.0", "False"], done.stderr


def test_every_tick_can_be_recorded(hopper: tuple[Path, Any], tmp_path: Path) -> None:
    recorder = Recorder()
    report = deploy(hopper[0], episodes=2, realtime=False, recorder=recorder)
    with np.load(recorder.save(tmp_path / "log.npz", check(hopper[0]))) as log:
        assert log["qpos"].shape == (sum(report.lengths), 6)
        # What was recorded is what training sees: the observation is made of these positions and velocities.
        np.testing.assert_array_equal(log["observation"][:, :5], log["qpos"][:, 1:])
        np.testing.assert_array_equal(np.bincount(log["episode"]), report.lengths)


def test_the_simulator_may_differ_in_what_the_contract_leaves_free(hopper: tuple[Path, Any]) -> None:
    heavy = ParameterScale(parameter="mass", factor=1.5)
    nominal, changed = (deploy(hopper[0], realtime=False, disturbances=each) for each in ((), (heavy,)))
    assert nominal.returns != changed.returns


def test_another_environment_is_refused_before_it_moves(hopper: tuple[Path, Any]) -> None:
    for call in (deploy, check):
        with pytest.raises(UserError) as caught:
            call(hopper[0], env_id="Walker2d-v5")
        assert "joint 6 is 'thigh_left_joint', the controller was exported for none" in str(caught.value)
        assert "Walker2d-v5" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_same_environment_under_its_other_name_fits(pendulum: tuple[Path, Any]) -> None:
    assert isinstance(check(pendulum[0], env_id="rlstab/InvertedPendulum-v5"), Contract)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"backend": "mujocco"}, "no backend 'mujocco'; did you mean 'mujoco'"),
        ({"env_id": "Hoper-v5", "backend": "mujoco"}, "no native environment 'Hoper-v5'; did you mean 'Hopper-v5'"),
        ({"episodes": 0}, "episodes is 0"),
        ({"duration": -1.0}, "duration is -1"),
        ({"backend": "mujoco", "env_id": lambda: None}, "takes an environment by name"),
        ({"backend": "gymnasium", "disturbances": (ParameterScale(parameter="mass", factor=2.0),)}, "native"),
    ],
)
def test_a_wrong_setting_is_named(pendulum: tuple[Path, Any], settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named.replace("(", r"\(")):
        deploy(pendulum[0], realtime=False, **settings)


def test_a_damaged_file_never_reaches_the_backend(pendulum: tuple[Path, Any], tmp_path: Path) -> None:
    content = bytearray(pendulum[0].read_bytes())
    content[len(content) // 3] ^= 0x10
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="export the run again"):
        deploy(path)


def test_ctrl_c_ends_the_deployment_and_keeps_the_report(pendulum: tuple[Path, Any]) -> None:
    def press(_reading: Any, action: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return action

    report = deploy(pendulum[0], episodes=5, realtime=False, command_filter=press)
    assert report.interrupted
    assert report.lengths == (1,)


def test_settings_of_the_training_environment_are_kept(export_native: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    settings = {"reset_noise_scale": 0.0}
    export_native("InvertedPendulum-v5", np.zeros(4), path, env_kwargs=settings, max_episode_steps=20)
    assert deploy(path, realtime=False).lengths == (20,)
    # Upright and at rest nothing falls; the registered start, which is not that of training, has noise.
    assert deploy(path, env_id="rlstab/InvertedPendulum-v5", realtime=False, duration=0.4).lengths == (10,)
