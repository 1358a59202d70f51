from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rlstab.analysis.evaluation import DEFAULT_SEED, evaluate
from rlstab.envs.disturbance import ExternalWrench, ParameterScale
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError
from rlstab.policies.actor_critic import ActorCriticPolicy
from rlstab.sim2real.artefact import CONTRACT_KEY, DIGEST_KEY
from rlstab.sim2real.contract import Contract, Training
from rlstab.sim2real.deploy import DeployReport, _default_backend, check, deploy
from rlstab.sim2real.export import export_policy
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.runtime import Episode
from rlstab.sim2real.timing import LatencyTable


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


def test_real_time_keeps_the_control_period(pendulum: tuple[Path, Any], clock: Any) -> None:
    began = clock.time
    report = deploy(pendulum[0], duration=0.4, clock=clock)
    assert (report.backend, report.control_dt, report.lengths, report.ended) == ("mujoco", 0.04, (10,), ("duration",))
    assert clock.time - began == pytest.approx(0.4, abs=1e-4)
    assert report.latency.period_error is not None
    assert report.latency.period_error.count == 9
    assert report.latency.period_error.max < 0.01


def test_real_time_passes_on_the_wall_clock(pendulum: tuple[Path, Any]) -> None:
    began = time.perf_counter()
    deploy(pendulum[0], duration=0.2)
    assert time.perf_counter() - began >= 0.2


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
        commanded = ~log["final"]
        assert log["qpos"].shape == (sum(report.lengths) + 2, 6)
        # What was recorded is what training sees: the observation is made of these positions and velocities.
        np.testing.assert_array_equal(log["observation"][commanded, :5], log["qpos"][commanded, 1:])
        np.testing.assert_array_equal(np.bincount(log["episode"][commanded]), report.lengths)
        for episode, total in enumerate(report.returns):
            assert np.nansum(log["reward"][log["episode"] == episode]) == pytest.approx(total, rel=1e-12)


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
        ({"backend": "gym"}, "no backend 'gym'; did you mean 'gymnasium'"),
        ({"backend": "Native"}, "no backend 'Native'; did you mean 'mujoco'"),
        ({"backend": "foo"}, "no backend 'foo'; there are mujoco, gymnasium"),
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


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"duration": -1.0}, "duration is -1"),
        ({"duration": math.inf}, "duration is inf"),
        ({"disturbances": (ExternalWrench("torso"),)}, "no body named 'torso'"),
        ({"backend": "gymnasium", "disturbances": (ParameterScale(parameter="mass", factor=2.0),)}, "native"),
        ({"backend": "mujoco", "env_id": lambda: None}, "takes an environment by name"),
    ],
)
def test_checking_refuses_what_deploying_would(
    pendulum: tuple[Path, Any], settings: dict[str, Any], named: str
) -> None:
    for call in (check, deploy):
        with pytest.raises(UserError, match=named):
            call(pendulum[0], **settings)


@pytest.mark.parametrize(
    ("returns", "ended", "mean"),
    [
        ((10.0, 20.0), ("terminated", "truncated"), 15.0),
        ((10.0, 90.0, 90.0), ("terminated", "duration", "interrupted"), 10.0),
        ((10.0, None), ("truncated", "terminated"), 10.0),
        ((90.0,), ("duration",), None),
        ((), (), None),
    ],
)
def test_episodes_that_were_cut_are_not_in_the_mean(returns: Any, ended: Any, mean: float | None) -> None:
    lengths = (1,) * len(ended)
    table = LatencyTable.of([], 0.02)
    report = DeployReport("policy.onnx", "Cart-v0", "mujoco", 0, False, 0.02, returns, lengths, ended, table)
    assert report.mean_return == mean
    assert report.to_dict()["mean_return"] == mean


def test_a_damaged_file_never_reaches_the_backend(pendulum: tuple[Path, Any], tmp_path: Path) -> None:
    content = bytearray(pendulum[0].read_bytes())
    content[len(content) // 3] ^= 0x10
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="export the run again"):
        deploy(path)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller of the hopper that normalises its observation."""
    import torch

    env = make_vec("Hopper-v5")
    policy = ActorCriticPolicy(env.single_observation_space, env.single_action_space, seed=2)
    assert policy.module.normalizer is not None
    policy.module.normalizer.update(torch.from_numpy(np.random.default_rng(0).normal(2, 3, (50, 11))))
    path = tmp_path_factory.mktemp("normalised") / "policy.onnx"
    export_policy(policy, path, layout_of(env, "Hopper-v5"), Training("Hopper-v5"))
    env.close()
    return path


def edited(path: Path, target: Path, *keys: str | int, value: Any) -> Path:
    """A file that is whole by its checksums, with one entry of its contract changed."""
    model = onnx.load(path)
    tree = json.loads(next(entry.value for entry in model.metadata_props if entry.key == CONTRACT_KEY))
    del model.metadata_props[:]
    network = model.SerializeToString(deterministic=True)
    part = tree
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    tree["sha256"] = hashlib.sha256(network).hexdigest()
    text = json.dumps(tree)
    entries = {CONTRACT_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
    for key, entry in entries.items():
        model.metadata_props.add(key=key, value=entry)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return target


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("normaliser", "baked"), False, "normaliser.baked is false"),
        (("normaliser", "mean"), [0.0], "normaliser.mean has 1 entries"),
        (("normaliser", "mean", 3), 7.0, "the mean of the contract's normaliser is not the one in the graph"),
        (("normaliser", "var", 3), 7.0, "the variance of the contract's normaliser is not the one in the graph"),
        (("normaliser", "clip"), 5.0, "the clip of the contract's normaliser is not the one in the graph"),
        (("normaliser",), None, "the graph normalises its observation, its contract has no normaliser"),
        (("opset",), 17, "the graph has ONNX operator set 18, its contract says 17"),
        (("layout", "action", "kind"), "position", "its actuators are of kind 'torque'"),
        (("layout", "action", "kind"), "continuous", "action kind is 'torque'"),
        (("layout", "action", "scale"), [1.0] * 3, "the action scale is"),
        (("layout", "action", "scale"), None, "the action scale is [200.0, 200.0, 200.0]"),
        (("layout", "action", "offset"), [0.1] * 3, "the action offset is [0.0, 0.0, 0.0]"),
        (("layout", "action", "dtype"), "float64", "the action dtype is 'float32'"),
        (("layout", "physics_dt"), 0.001, "4 physics steps of 0.001 s"),
        (("layout", "joints", 5, "pos_limit"), [-3.0, 3.0], "the limit of joint 'foot_joint'"),
        (("layout", "joints", 1, "default_pos"), [1.0], "the default position of joint 'rootz' is [1.25]"),
        (("layout", "actuators", 0, "ctrl_range"), [-2.0, 2.0], "the control range of actuator 'thigh_joint'"),
        (("layout", "observation", "low"), [0.0] * 11, "the lower observation bound"),
    ],
)
def test_a_contract_that_contradicts_graph_environment_or_itself_never_runs(
    normalised: Path, tmp_path: Path, keys: tuple[str | int, ...], value: Any, named: str
) -> None:
    path = edited(normalised, tmp_path / "edited.onnx", *keys, value=value)
    with pytest.raises(UserError) as caught:
        deploy(path, realtime=False)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_edit_that_says_the_same_still_runs(normalised: Path, tmp_path: Path) -> None:
    path = edited(normalised, tmp_path / "edited.onnx", "training", "run", value="renamed")
    assert deploy(path, realtime=False).returns == deploy(normalised, realtime=False).returns


def test_limits_that_are_not_enforced_are_told_once(normalised: Path, tmp_path: Path) -> None:
    path = edited(normalised, tmp_path / "edited.onnx", "safety", value={"tilt": 0.8})
    told: list[str] = []
    report = deploy(path, episodes=3, realtime=False, tell=told.append)
    assert len(told) == 1
    assert "safety limits are not enforced by this version of rlstab: tilt" in told[0]
    assert report.notices == tuple(told)
    assert report.to_dict()["notices"] == told
    check(path, tell=told.append)
    assert told[1] == told[0]
    assert deploy(normalised, realtime=False).notices == ()


def test_a_native_policy_runs_in_gymnasiums_environment_of_the_same_name(
    pendulum: tuple[Path, Any], hopper: tuple[Path, Any]
) -> None:
    native, foreign = (deploy(pendulum[0], backend, episodes=2, realtime=False) for backend in ("mujoco", "gymnasium"))
    # It is balanced from whatever start.
    assert foreign.returns == native.returns == (1000.0, 1000.0)
    assert native.notices == ()
    assert len(foreign.notices) == 1
    assert "does not name the parts of the observation" in foreign.notices[0]
    with pytest.raises(UserError, match="joint 6"):
        deploy(hopper[0], "gymnasium", env_id="Walker2d-v5")


def test_the_simulator_may_have_another_gain_than_in_training(hopper: tuple[Path, Any]) -> None:
    weak = ParameterScale(parameter="gain", factor=0.5)
    assert deploy(hopper[0], realtime=False, disturbances=(weak,)).lengths[0] > 0


def test_ctrl_c_ends_the_deployment_and_keeps_the_report(pendulum: tuple[Path, Any]) -> None:
    def press(_reading: Any, action: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return action

    report = deploy(pendulum[0], episodes=5, realtime=False, command_filter=press)
    assert report.interrupted
    assert report.lengths == (1,)


def test_a_second_ctrl_c_keeps_the_episodes_before(pendulum: tuple[Path, Any]) -> None:
    episodes: list[int] = []

    def press_twice(_reading: Any, action: Any) -> Any:
        for _ in range(2 * len(episodes)):
            signal.raise_signal(signal.SIGINT)
        return action

    report = deploy(
        pendulum[0],
        episodes=5,
        duration=0.2,
        realtime=False,
        command_filter=press_twice,
        on_episode=lambda episode, _: episodes.append(episode),
    )
    assert (report.interrupted, report.lengths, report.ended) == (True, (5,), ("duration",))
    assert report.to_dict()["interrupted"]


def test_ctrl_c_between_episodes_keeps_those_before(pendulum: tuple[Path, Any]) -> None:
    handler = signal.getsignal(signal.SIGINT)
    report = deploy(
        pendulum[0],
        episodes=5,
        duration=0.2,
        realtime=False,
        on_episode=lambda *_: signal.raise_signal(signal.SIGINT),
    )
    assert (report.interrupted, report.lengths) == (True, (5,))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_a_robot_is_made_gives_what_there_is(
    pendulum: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, presses: int
) -> None:
    from rlstab.sim2real.backends.mujoco import MujocoRobot

    made, closed = [], []

    class Slow(MujocoRobot):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if made:
                for _ in range(presses):
                    signal.raise_signal(signal.SIGINT)
            super().__init__(*args, **kwargs)
            made.append(self)

        def close(self) -> None:
            super().close()
            closed.append(self)

    monkeypatch.setattr("rlstab.sim2real.backends.mujoco.MujocoRobot", Slow)
    report = deploy(pendulum[0], episodes=5, duration=0.2, realtime=False)
    assert (report.interrupted, report.lengths) == (True, (5,))
    assert set(made) == set(closed)


def test_the_robot_is_closed_also_where_the_loop_cannot_begin(
    pendulum: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlstab.sim2real.backends.mujoco import MujocoRobot

    closed: list[Any] = []
    close = MujocoRobot.close
    monkeypatch.setattr(MujocoRobot, "close", lambda self: (close(self), closed.append(self)))
    with pytest.raises(UserError, match="duration is -1"):
        deploy(pendulum[0], duration=-1.0)
    assert len(closed) == 1


def test_a_fault_saves_the_last_states_and_says_where(pendulum: tuple[Path, Any], tmp_path: Path) -> None:
    class Tilt(UserError):
        pass

    count = 0

    def refuse(_reading: Any, action: Any) -> Any:
        nonlocal count
        count += 1
        if count > 150:
            raise Tilt("tilted")
        return action

    path = tmp_path / "kept" / "deploy-InvertedPendulum-v5-seed3-episode0.npz"
    with pytest.raises(Tilt) as caught:
        deploy(pendulum[0], seed=3, realtime=False, command_filter=refuse, failure_folder=tmp_path / "kept")
    assert str(caught.value) == f"tilted; the state is saved in {path}"
    with np.load(path) as saved:
        assert len(saved["log_observation"]) == 100
        assert saved["log_final"].tolist() == [False] * 99 + [True]


def test_a_simulator_that_diverges_leaves_its_state(
    pendulum: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlstab.envs.batch_env import BatchEnv

    step = BatchEnv.step

    def diverge(self: BatchEnv, actions: Any) -> Any:
        if self.total_steps == 7:
            raise NonFiniteState("NaN in world 0", step=8, worlds=[0], arrays={"qpos": np.full((1, 2), np.nan)})
        return step(self, actions)

    monkeypatch.setattr(BatchEnv, "step", diverge)
    with pytest.raises(NonFiniteState, match=r"^NaN in world 0; the state is saved in failure.deploy-.*\.npz$"):
        deploy(pendulum[0], realtime=False)
    with np.load("failure/deploy-InvertedPendulum-v5-seed10000-episode0.npz") as saved:
        assert np.isnan(saved["qpos"]).all()
        assert len(saved["log_observation"]) == 8


def test_what_is_refused_before_it_moves_leaves_nothing(hopper: tuple[Path, Any]) -> None:
    with pytest.raises(UserError):
        deploy(hopper[0], env_id="Walker2d-v5")
    assert not Path("failure").exists()


def test_the_plain_episodes_are_those_of_a_plain_evaluation(pendulum: tuple[Path, Any]) -> None:
    assert deploy(pendulum[0], realtime=False, duration=0.2).seed == DEFAULT_SEED


def test_the_backend_is_that_of_training(pendulum: tuple[Path, Any], export_native: Any, tmp_path: Path) -> None:
    contract = check(pendulum[0])
    assert _default_backend("InvertedPendulum-v5", contract) == "mujoco"
    assert _default_backend("CartPole-v1", contract) == "gymnasium"
    # Only gymnasium's environment has this setting, so training took that one.
    training = dataclasses.replace(contract.training, env_kwargs={"camera_name": "track"})
    foreign = dataclasses.replace(contract, training=training)
    assert _default_backend("InvertedPendulum-v5", foreign) == "gymnasium"
    assert _default_backend("rlstab/InvertedPendulum-v5", foreign) == "mujoco"
    assert _default_backend("Hopper-v5", foreign) == "mujoco", "the settings are those of another environment"
    path = tmp_path / "policy.onnx"
    export_native("InvertedPendulum-v5", np.array([0.3, 3.0, 0.5, 0.6]), path, env_kwargs={"camera_name": "track"})
    report = deploy(path, realtime=False, duration=0.2)
    assert (report.backend, report.lengths) == ("gymnasium", (5,))


def test_settings_of_the_training_environment_are_kept(export_native: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    settings = {"reset_noise_scale": 0.0}
    export_native("InvertedPendulum-v5", np.zeros(4), path, env_kwargs=settings, max_episode_steps=20)
    assert deploy(path, realtime=False).lengths == (20,)
    # Upright and at rest nothing falls; the registered start, which is not that of training, has noise.
    assert deploy(path, env_id="rlstab/InvertedPendulum-v5", realtime=False, duration=0.4).lengths == (10,)
