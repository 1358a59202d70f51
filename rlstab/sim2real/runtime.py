"""The control loop: read, infer, filter, send, record, once every control period."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError
from rlstab.sim2real.clock import SPIN, Clock, Pacer, WallClock
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.interrupts import Interrupts
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.robot import Reading, RobotIO
from rlstab.sim2real.timing import Tick

CommandFilter = Callable[[Reading, NDArray[np.generic]], NDArray[np.generic]]
"""What stands between the policy and the robot: reading and action in, the action to send out.

A safety layer limits rates, clips to joint ranges or replaces the action here, and raises to stop: the robot is then
closed, which leaves it passive. It runs inside the control period; what goes into it and what comes out are checked to
be finite.
"""


_CULPRITS = {"observation": "sensors or the simulator", "action": "policy", "command": "command filter"}


class Predictor(Protocol):
    """The part of the policy protocol that the loop needs."""

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Give the action for one observation."""
        ...


@runtime_checkable
class WarmUp(Protocol):
    """A policy that can be asked to get ready.

    While the loop sleeps, the network leaves the processor's caches and the clock rate falls, so that the first
    inference after it takes much longer than one in a loop that does not sleep. The runtime is awake a moment before
    each deadline anyway; it then asks the policy to compute something with the previous observation.
    """

    def warm_up(self, observation: NDArray[Any]) -> None:
        """Compute an action and forget it. Must change nothing that `predict` depends on."""
        ...


@dataclass(frozen=True)
class Episode:
    """One run of the loop."""

    total_reward: float | None
    """Sum of rewards; none where the robot measures none."""
    length: int
    """Commands sent."""
    ended: Literal["terminated", "truncated", "duration", "interrupted"]
    ticks: tuple[Tick, ...]


class Runtime:
    """Runs a policy on a robot at the contract's rate.

    Deadlines are absolute: each pass is due one period after the previous deadline, whatever the work took, so the rate
    does not drift. The loop sleeps until shortly before a deadline and spins for the rest. A pass that is late by more
    than a period counts as an overrun, and deadlines are counted anew from there.

    Parameters
    ----------
    policy
        Anything with `predict`.
    robot
        What is controlled.
    contract
        What the robot must fulfil; gives the control period.
    command_filter
        See `CommandFilter`. Default: commands go to the robot unchanged.
    clock
        Where time comes from.
    recorder
        Keeps every tick, and the last reading of each episode, if given.
    realtime
        ``False`` runs the same loop without waiting. For simulated robots only: the physics do not notice.

    Raises
    ------
    UserError
        Real time is asked for and the contract states no control period.
    """

    def __init__(
        self,
        policy: Predictor,
        robot: RobotIO,
        contract: Contract,
        *,
        command_filter: CommandFilter | None = None,
        clock: Clock | None = None,
        recorder: Recorder | None = None,
        realtime: bool = True,
    ) -> None:
        if realtime and contract.layout.control_dt is None:
            raise UserError(
                f"the contract for {contract.layout.env_id} states no control period, so it cannot run in real time; "
                "run it without (--no-realtime, realtime=False)"
            )
        self._policy = policy
        self._warm_up = policy.warm_up if isinstance(policy, WarmUp) else None
        self._robot = robot
        self._contract = contract
        self._filter = command_filter
        self._clock = clock or WallClock()
        self._recorder = recorder
        self._period = contract.layout.control_dt if realtime else None
        self._stop = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether somebody called `stop`, or pressed Ctrl-C, since `run` began."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the loop after the present pass; callable from any thread and from signal handlers."""
        self._stop.set()

    def run(self, duration: float | None = None) -> Episode:
        """Connect, control until the episode ends, and close the robot in every case.

        Ctrl-C ends the loop after the present pass; a second one interrupts it where it is. None interrupts closing.

        Parameters
        ----------
        duration
            Stop after this many seconds of control (counted in periods, not on the clock); default: no limit.

        Raises
        ------
        UserError
            The robot does not fulfil the contract, or an observation, action or filtered command is not finite. The
            robot is closed.
        """
        self._stop.clear()
        if self._recorder is not None:
            self._recorder.begin()
        limit = None if duration is None else self._ticks_in(duration)
        with Interrupts(self.stop) as interrupts:
            # Two steps, so that a Ctrl-C that comes just before the shield is up still finds the outer one.
            try:
                try:
                    self._robot.connect(self._contract)
                    return self._loop(limit)
                finally:
                    interrupts.shield()
            finally:
                self._robot.close()

    def check(self, duration: float | None = None) -> None:
        """Do what `run` does before the first command, and close the robot.

        Raises
        ------
        UserError
            The robot does not fulfil the contract, or the duration cannot be.
        """
        try:
            if duration is not None:
                self._ticks_in(duration)
            self._robot.connect(self._contract)
        finally:
            self._robot.close()

    def _ticks_in(self, duration: float) -> int:
        control_dt = self._contract.layout.control_dt
        if control_dt is None or not 0 < duration < math.inf:
            reason = (
                "must be positive and finite"
                if control_dt is not None
                else "needs a contract that states a control period"
            )
            raise UserError(f"duration is {duration:g} s; it {reason}")
        return max(1, round(duration / control_dt))

    def _loop(self, limit: int | None) -> Episode:
        clock, robot = self._clock, self._robot
        pacer = None if self._period is None else Pacer(clock, self._period)
        ticks: list[Tick] = []
        rewards: list[float] = []
        state: Any = None
        reading: Reading | None = None
        while True:
            overrun = pacer.wait(self._rehearsal(reading, ticks)) if pacer is not None else False
            t_start = clock.now()
            reading = robot.read()
            if reading.reward is not None:
                rewards.append(reading.reward)
            without_command = Tick(t_start, reading.time, math.nan, math.nan, math.nan, overrun)
            ended = reading.ended or ("duration" if len(ticks) == limit else None)
            if ended is None and self._stop.is_set():
                ended = "interrupted"
            if ended is not None:
                self._record(reading, None, without_command, final=True)
                return Episode(sum(rewards) if rewards else None, len(ticks), ended, tuple(ticks))
            action: NDArray[Any] | None = None
            try:
                self._require_finite(reading.observation, "observation", len(ticks))
                t_observed = clock.now()
                chosen, state = self._policy.predict(
                    reading.observation, state=state, episode_start=np.array([not ticks]), deterministic=True
                )
                t_infer = clock.now()
                self._require_shape(chosen, "action", len(ticks))
                action = chosen
                self._require_finite(action, "action", len(ticks))
                if self._filter is not None:
                    filtered = self._filter(reading, action)
                    self._require_shape(filtered, "command", len(ticks))
                    action = filtered
                    self._require_finite(action, "command", len(ticks))
                robot.write(action)
            except BaseException:
                # What led to a fault is what one wants to look at.
                self._record(reading, action, without_command, final=True)
                raise
            tick = Tick(t_start, reading.time, t_observed, t_infer, clock.now(), overrun)
            ticks.append(tick)
            self._record(reading, action, tick)

    def _rehearsal(self, reading: Reading | None, ticks: list[Tick]) -> Callable[[], None] | None:
        """What to do while waiting for the next deadline: see `WarmUp`. Nothing, if it could make the pass late."""
        warm_up = self._warm_up
        if warm_up is None or reading is None or ticks[-1].t_infer - ticks[-1].t_observed > SPIN / 2:
            return None
        observation = reading.observation
        return lambda: warm_up(observation)

    def _record(self, reading: Reading, action: NDArray[Any] | None, tick: Tick, final: bool = False) -> None:
        if self._recorder is not None:
            self._recorder.record(reading, action, tick, final=final)

    def _require_shape(self, values: NDArray[Any], what: str, tick: int) -> None:
        wanted = self._contract.layout.action.shape
        if np.shape(values) != wanted:
            raise UserError(
                f"the {what} has shape {np.shape(values)} at step {tick}, the contract says {wanted}: stopped before "
                f"sending a command; check the {_CULPRITS[what]}"
            )

    def _require_finite(self, values: NDArray[Any], what: str, tick: int) -> None:
        finite = np.isfinite(values)
        if finite.all():
            return
        index = int(np.flatnonzero(~finite)[0])
        layout = self._contract.layout
        names = (
            _entry_names(self._contract) if what == "observation" else [actuator.name for actuator in layout.actuators]
        )
        name = f" ({names[index]})" if index < len(names) else ""
        raise UserError(
            f"{what} entry {index}{name} is {np.ravel(values)[index]} at step {tick}: stopped before sending a "
            f"command; check the {_CULPRITS[what]}"
        )


def _entry_names(contract: Contract) -> list[str]:
    return [part.name for part in contract.layout.observation.fields for _ in range(part.dim * part.history)]
