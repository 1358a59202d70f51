from __future__ import annotations

import dataclasses
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlstab.errors import UserError
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.policy_onnx import OnnxPolicy
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.robot import Reading
from rlstab.sim2real.runtime import Runtime
from rlstab.sim2real.timing import LatencyTable


class Proportional:
    """A policy that is no network: any object with `predict` can be run. Counts its steps in its state."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, bool]] = []

    def predict(
        self, observation: NDArray[Any], state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        assert deterministic
        self.seen.append((state, bool(episode_start[0])))
        return -observation[:1], (state or 0) + 1


@pytest.fixture
def run(contract: Contract, clock: Any) -> Callable[..., Runtime]:
    def make(robot: Any, policy: Any = None, **settings: Any) -> Runtime:
        return Runtime(policy or Proportional(), robot, contract, clock=clock, **settings)

    return make


def test_the_loop_reads_infers_sends_in_turn_and_closes(run: Any, make_robot: Any) -> None:
    robot, policy = make_robot(length=3), Proportional()
    episode = run(robot, policy).run()
    assert robot.calls == ["connect", *["read", "write"] * 3, "read", "close"]
    np.testing.assert_allclose(np.ravel(robot.actions), [0.0, -0.1, -0.2])
    assert policy.seen == [(None, True), (1, False), (2, False)]
    assert (episode.total_reward, episode.length, episode.ended) == (3.0, 3, "truncated")


def test_an_exported_network_runs_in_the_loop(run: Any, make_robot: Any, policy_file: Path) -> None:
    robot = make_robot(length=5)
    run(robot, OnnxPolicy.load(policy_file)).run()
    np.testing.assert_allclose(np.ravel(robot.actions), 0.375 * 0.1 * np.arange(5), rtol=1e-6)


def test_commands_go_out_at_the_contract_rate(run: Any, make_robot: Any) -> None:
    episode = run(make_robot(length=200, work=lambda tick: 0.004 + 0.01 * (tick % 2))).run()
    sent = np.array([tick.t_start for tick in episode.ticks])
    np.testing.assert_allclose(sent - sent[0], 0.02 * np.arange(200), atol=1e-5)
    table = LatencyTable.of([episode.ticks], 0.02)
    assert table.overruns == 0
    assert table.sensor_to_command.p50 == pytest.approx(9.0, abs=6.0)


def test_a_stall_is_counted_once_and_not_made_up_for(run: Any, make_robot: Any) -> None:
    episode = run(make_robot(length=20, work=lambda tick: 0.5 if tick == 5 else 0.0)).run()
    assert [tick.overrun for tick in episode.ticks].index(True) == 6
    assert LatencyTable.of([episode.ticks], 0.02).overruns == 1
    periods = np.diff([tick.t_start for tick in episode.ticks])
    np.testing.assert_allclose(np.delete(periods, 5), 0.02, atol=1e-5)


def test_without_real_time_the_loop_does_the_same_and_does_not_wait(run: Any, make_robot: Any, clock: Any) -> None:
    paced, free = make_robot(length=50), make_robot(length=50)
    run(paced).run()
    began = clock.time
    run(free, realtime=False).run()
    assert clock.time - began < 0.01
    np.testing.assert_array_equal(paced.actions, free.actions)
    assert paced.calls == free.calls


def test_every_moment_of_a_tick_is_recorded_in_order(run: Any, make_robot: Any) -> None:
    recorder = Recorder()
    episode = run(make_robot(length=4), recorder=recorder).run()
    assert len(recorder) == 5
    for tick in episode.ticks:
        moments = tick[:5]
        assert list(moments) == sorted(moments)


@pytest.mark.parametrize("duration", [None, 0.04])
def test_the_recorded_rewards_sum_to_the_return(
    run: Any, make_robot: Any, contract: Contract, duration: float | None
) -> None:
    recorder = Recorder()
    episode = run(make_robot(length=4), recorder=recorder).run(duration)
    log = recorder.arrays(contract)
    assert np.nansum(log["reward"]) == episode.total_reward == episode.length
    assert log["final"].tolist() == [False] * episode.length + [True]
    np.testing.assert_array_equal(np.isnan(log["t_send"]), log["final"])


@pytest.mark.parametrize("faulty", ["observation", "action", "filter"])
def test_the_reading_that_ended_in_a_fault_is_recorded(
    run: Any, make_robot: Any, contract: Contract, faulty: str
) -> None:
    def refuse(reading: Reading, action: NDArray[np.generic]) -> NDArray[np.generic]:
        if faulty == "filter" and reading.observation[0] > 0.15:
            raise UserError("tilt")
        return action

    class Diverging(Proportional):
        def predict(self, observation: NDArray[Any], *args: Any, **kwargs: Any) -> tuple[NDArray[Any], Any]:
            action, state = super().predict(observation, *args, **kwargs)
            return np.where(faulty == "action" and observation[0] > 0.15, np.inf, action), state

    robot, recorder = make_robot(), Recorder()
    if faulty == "observation":
        robot.observations[2] = np.full(3, np.nan)
    with pytest.raises(UserError):
        run(robot, Diverging(), command_filter=refuse, recorder=recorder).run()
    log = recorder.arrays(contract)
    assert log["final"].tolist() == [False, False, True]
    assert np.isnan(log["t_send"]).tolist() == [False, False, True]
    last = {"observation": np.nan, "action": np.inf, "filter": -0.2}[faulty]
    np.testing.assert_allclose(log["action"][-1], [last], equal_nan=True)


class Rehearsing(Proportional):
    """Takes its time; notes what it is asked to get ready with."""

    def __init__(self, clock: Any, seconds: float = 1e-5) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.rehearsed: list[float] = []

    def predict(self, *args: Any, **kwargs: Any) -> tuple[NDArray[Any], Any]:
        self.clock.time += self.seconds
        return super().predict(*args, **kwargs)

    def warm_up(self, observation: NDArray[Any]) -> None:
        self.clock.time += self.seconds
        self.rehearsed.append(float(observation[0]))


def test_a_policy_is_warmed_up_before_each_deadline_that_is_slept_for(run: Any, make_robot: Any, clock: Any) -> None:
    policy, robot = Rehearsing(clock), make_robot(length=4)
    episode = run(robot, policy).run()
    assert policy.rehearsed == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert len(policy.seen) == 4
    np.testing.assert_allclose(np.diff([tick.t_start for tick in episode.ticks]), 0.02, atol=1e-5)
    for pace in ({"realtime": False}, {}):
        policy = Rehearsing(clock, seconds=1e-5 if pace else 2e-3)
        run(make_robot(length=4), policy, **pace).run()
        assert policy.rehearsed == [], "nothing to wait for, or too slow to be done in time"


def test_the_command_filter_stands_between_policy_and_robot(run: Any, make_robot: Any) -> None:
    readings: list[Reading] = []

    def halve(reading: Reading, action: NDArray[np.generic]) -> NDArray[Any]:
        readings.append(reading)
        return 0.5 * np.asarray(action, np.float64)

    robot = make_robot(length=3)
    run(robot, command_filter=halve).run()
    np.testing.assert_allclose(np.ravel(robot.actions), [0.0, -0.05, -0.1])
    assert [reading.observation[0] for reading in readings] == pytest.approx([0.0, 0.1, 0.2])


def test_a_filter_that_raises_stops_the_robot(run: Any, make_robot: Any) -> None:
    def refuse(reading: Reading, action: NDArray[np.generic]) -> NDArray[np.generic]:
        raise UserError("tilt")

    robot = make_robot()
    with pytest.raises(UserError, match="tilt"):
        run(robot, command_filter=refuse).run()
    assert robot.calls == ["connect", "read", "close"]


def test_duration_is_counted_in_control_periods(run: Any, make_robot: Any) -> None:
    episode = run(make_robot(length=100)).run(duration=0.5)
    assert (episode.length, episode.ended, episode.total_reward) == (25, "duration", 25.0)


def test_a_filtered_command_that_is_not_finite_is_not_sent(run: Any, make_robot: Any) -> None:
    robot = make_robot()
    with pytest.raises(UserError, match=r"command entry 0 \(motor\) is nan at step 0.*check the command filter"):
        run(robot, command_filter=lambda reading, action: np.array([np.nan])).run()
    assert robot.calls == ["connect", "read", "close"]


@pytest.mark.parametrize("shape", [(2,), (), (1, 1)])
def test_an_action_of_another_shape_stops_before_a_command(
    run: Any, make_robot: Any, contract: Contract, shape: tuple[int, ...]
) -> None:
    class Misshapen(Proportional):
        def predict(self, observation: NDArray[Any], *args: Any, **kwargs: Any) -> tuple[NDArray[Any], Any]:
            action, state = super().predict(observation, *args, **kwargs)
            return np.zeros(shape) if state == 3 else action, state

    robot, recorder = make_robot(), Recorder()
    with pytest.raises(UserError, match=r"the action has shape .* at step 2, .* \(1,\).*check the policy") as caught:
        run(robot, Misshapen(), recorder=recorder).run()
    assert str(shape) in str(caught.value)
    assert (len(robot.actions), robot.calls[-1]) == (2, "close")
    assert recorder.arrays(contract)["final"].tolist() == [False, False, True]


@pytest.mark.parametrize("command", [np.zeros(2), 0.0, None])
def test_a_filtered_command_of_another_shape_is_not_sent(run: Any, make_robot: Any, command: Any) -> None:
    robot = make_robot()
    with pytest.raises(UserError, match=r"the command has shape .* at step 0.*check the command filter"):
        run(robot, command_filter=lambda reading, action: command).run()
    assert robot.calls == ["connect", "read", "close"]


@pytest.mark.parametrize("duration", [0.0, -1.0, math.inf, math.nan])
def test_a_duration_that_is_none_is_refused(run: Any, make_robot: Any, duration: float) -> None:
    robot = make_robot()
    with pytest.raises(UserError, match="must be positive and finite"):
        run(robot).run(duration)
    assert robot.calls == []


def test_checking_connects_and_closes_and_moves_nothing(run: Any, make_robot: Any, contract: Contract) -> None:
    robot = make_robot()
    run(robot).check(0.5)
    assert robot.calls == ["connect", "close"]
    with pytest.raises(UserError, match="must be positive"):
        run(robot).check(-1.0)
    assert robot.calls == ["connect", "close", "close"]
    unknown = dataclasses.replace(contract, layout=dataclasses.replace(contract.layout, control_dt=None))
    with pytest.raises(UserError, match="states a control period"):
        Runtime(Proportional(), robot, unknown, realtime=False).check(0.5)

    def refuse(contract: Contract) -> None:
        raise UserError("wrong joints")

    robot.calls.clear()
    robot.connect = refuse
    with pytest.raises(UserError, match="wrong joints"):
        run(robot).check()
    assert robot.calls == ["close"]


def test_an_observation_that_is_not_finite_stops_before_a_command(run: Any, make_robot: Any) -> None:
    robot = make_robot()
    robot.observations[2] = np.array([0.0, 0.0, np.nan])
    with pytest.raises(UserError, match=r"observation entry 2 \(velocity\) is nan at step 2") as caught:
        run(robot).run()
    assert len(robot.actions) == 2
    assert robot.calls[-1] == "close"
    assert "\n" not in str(caught.value)


def test_an_action_that_is_not_finite_stops_before_a_command(run: Any, make_robot: Any) -> None:
    class Diverged(Proportional):
        def predict(self, *args: Any, **kwargs: Any) -> tuple[NDArray[Any], Any]:
            return np.array([np.inf]), None

    robot = make_robot()
    with pytest.raises(UserError, match=r"action entry 0 \(motor\) is inf at step 0"):
        run(robot, Diverged()).run()
    assert robot.calls == ["connect", "read", "close"]


def test_a_robot_that_refuses_to_connect_is_closed(run: Any, make_robot: Any) -> None:
    robot = make_robot()

    def refuse(contract: Contract) -> None:
        raise UserError("wrong joints")

    robot.connect = refuse
    with pytest.raises(UserError, match="wrong joints"):
        run(robot).run()
    assert robot.calls == ["close"]


def test_real_time_needs_a_control_period(contract: Contract, make_robot: Any) -> None:
    layout = dataclasses.replace(contract.layout, control_dt=None)
    unknown = dataclasses.replace(contract, layout=layout)
    with pytest.raises(UserError, match="states no control period"):
        Runtime(Proportional(), make_robot(), unknown)
    assert Runtime(Proportional(), make_robot(length=4), unknown, realtime=False).run().length == 4


def test_ctrl_c_finishes_the_pass_closes_the_robot_and_gives_what_there_is(run: Any, make_robot: Any) -> None:
    def press(tick: int) -> float:
        if tick == 3:
            signal.raise_signal(signal.SIGINT)
        return 0.0

    before = signal.getsignal(signal.SIGINT)
    robot = make_robot(length=100, work=press)
    episode = run(robot).run()
    assert (episode.length, episode.ended) == (4, "interrupted")
    assert robot.calls[-2:] == ["read", "close"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait_and_still_closes_the_robot(run: Any, make_robot: Any) -> None:
    def press_twice(tick: int) -> float:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return 0.0

    robot = make_robot(length=100, work=press_twice)
    with pytest.raises(KeyboardInterrupt):
        run(robot).run()
    assert robot.calls == ["connect", "read", "write", "close"]


def test_ctrl_c_while_connecting_stops_before_a_command(run: Any, make_robot: Any) -> None:
    robot = make_robot()

    def connect(contract: Contract) -> None:
        signal.raise_signal(signal.SIGINT)
        robot.calls.append("connected")

    robot.connect = connect
    runtime = run(robot)
    assert runtime.run().ended == "interrupted"
    assert robot.calls == ["connected", "read", "close"]
    assert runtime.stopped


def test_ctrl_c_does_not_interrupt_closing(run: Any, make_robot: Any) -> None:
    robot = make_robot(length=2)

    def close() -> None:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        robot.calls.append("closed")

    robot.close = close
    episode = run(robot).run()
    assert (episode.length, episode.ended, robot.calls[-1]) == (2, "truncated", "closed")


def test_the_loop_runs_and_stops_in_another_thread(run: Any, make_robot: Any) -> None:
    robot = make_robot(length=10**9)
    runtime = run(robot, realtime=False)
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(runtime.run().ended))
    thread.start()
    while "write" not in robot.calls:
        pass
    runtime.stop()
    thread.join(timeout=30)
    assert ended == ["interrupted"]
