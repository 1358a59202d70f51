"""Run an exported controller on a backend, episode by episode, and report how it did and whether it kept time."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlstab.envs.disturbance import Disturbance
from rlstab.errors import NonFiniteState, UserError, suggest
from rlstab.runs.environment import EnvSettings
from rlstab.runs.failure import FAILURE_FOLDER, add_clause, failure_name, save_failure
from rlstab.runs.seeding import EVALUATION_SEED
from rlstab.sim2real.clock import Clock
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.interrupts import Interrupts
from rlstab.sim2real.policy_onnx import OnnxPolicy
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.robot import RobotIO
from rlstab.sim2real.runtime import CommandFilter, Episode, Runtime
from rlstab.sim2real.timing import LatencyTable

BACKENDS = ("mujoco", "gymnasium")
"""``mujoco``: native environments, in process. ``gymnasium``: any other."""

_PREFIX = "rlstab/"

_DUMPED = 100
"""Readings that are kept of what led to a fault."""


@dataclass(frozen=True)
class DeployReport:
    """What a deployment did."""

    policy: str
    """The file."""
    env_id: str
    backend: str
    seed: int
    realtime: bool
    """Whether the loop was paced at the control period."""
    control_dt: float | None
    """Seconds."""
    returns: tuple[float | None, ...]
    """Undiscounted return of every episode; none where the backend measures no reward."""
    lengths: tuple[int, ...]
    """Control periods of every episode."""
    ended: tuple[Literal["terminated", "truncated", "duration", "interrupted"], ...]
    """Why each ended."""
    latency: LatencyTable
    interrupted: bool = False
    """Whether a person stopped it before all episodes were done."""
    notices: tuple[str, ...] = ()
    """What the contract states and nothing checked or enforced."""

    @property
    def mean_return(self) -> float | None:
        """Mean over the episodes that were not cut and have a return; none without any."""
        known = [
            value
            for value, ended in zip(self.returns, self.ended, strict=True)
            if value is not None and ended in ("terminated", "truncated")
        ]
        return statistics.fmean(known) if known else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; latencies in milliseconds."""
        return {
            "policy": self.policy,
            "env_id": self.env_id,
            "backend": self.backend,
            "seed": self.seed,
            "realtime": self.realtime,
            "control_dt": self.control_dt,
            "mean_return": self.mean_return,
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "ended": list(self.ended),
            "interrupted": self.interrupted,
            "notices": list(self.notices),
            "latency_ms": self.latency.to_dict(),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Header and one row an episode, as text."""
        columns = zip(self.returns, self.lengths, self.ended, strict=True)
        rows = [
            (str(episode), "not measured" if total is None else f"{total:.1f}", str(length), ended)
            for episode, (total, length, ended) in enumerate(columns)
        ]
        return [("episode", "return", "steps", "ended"), *rows]


def deploy(
    path: str | os.PathLike[str],
    backend: str | None = None,
    *,
    env_id: str | Callable[[], Any] | None = None,
    seed: int = EVALUATION_SEED,
    episodes: int = 1,
    duration: float | None = None,
    realtime: bool = True,
    disturbances: Sequence[Disturbance] = (),
    command_filter: CommandFilter | None = None,
    recorder: Recorder | None = None,
    clock: Clock | None = None,
    on_episode: Callable[[int, Episode], None] | None = None,
    tell: Callable[[str], None] | None = None,
    failure_folder: str | os.PathLike[str] | None = FAILURE_FOLDER,
) -> DeployReport:
    """Check a file, and let it control a backend.

    Episode ``i`` starts exactly as evaluation's episode ``i`` for the same seed. Torch is not needed.

    Ctrl-C ends the deployment after the present pass of the loop, or before the next episode; a second one at once. In
    every case the robot is closed.

    Parameters
    ----------
    path
        What `rlstab.sim2real.export.export_run` wrote.
    backend
        One of `BACKENDS`; default: ``mujoco`` where there is a native environment that knows the settings of training.
    env_id
        Environment to run in; default: that of training. One that does not fit the contract is refused.
    seed, episodes
        Which episodes; the default seed is that of evaluation.
    duration
        Cut each episode after this many seconds of control.
    realtime
        Whether to keep the control period, or run as fast as possible.
    disturbances
        What makes the simulator differ from the one of training; ``mujoco`` only.
    command_filter, recorder, clock
        See `rlstab.sim2real.runtime.Runtime`.
    on_episode
        Called after each episode with its number and outcome.
    tell
        Called, once each, with what the contract states and nothing checks or enforces.
    failure_folder
        Where the last states are saved when a fault ends the deployment; ``None``: nowhere.

    Returns
    -------
    DeployReport
        Also after a Ctrl-C, with the episodes there are until then.

    Raises
    ------
    UserError
        The file is damaged or has no contract, the backend does not fulfil it, or an observation or action is not
        finite; the message then says where the last states are saved, as it does of whatever else ends the loop.
    """
    if episodes < 1:
        raise UserError(f"episodes is {episodes}, it must be at least 1")
    policy = OnnxPolicy.load(path)
    contract = policy.contract
    where = env_id if env_id is not None else contract.training.env_id
    name = backend or _default_backend(where, contract)
    log = recorder if recorder is not None else Recorder(_DUMPED)
    outcomes: list[Episode] = []
    remarks = _Remarks(tell)
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True

    def play(episode: int) -> None:
        robot = _robot(name, where, contract, seed, episode, disturbances, clock, remarks)
        try:
            if asked:
                return
            runtime = Runtime(
                policy, robot, contract, command_filter=command_filter, clock=clock, recorder=log, realtime=realtime
            )
            outcomes.append(runtime.run(duration))
        except Exception as error:
            if failure_folder is not None:
                words = ("deploy", contract.training.env_id, f"seed{seed}-episode{episode}")
                _save_last_states(error, log, contract, Path(failure_folder) / failure_name(*words))
            raise
        finally:
            robot.close()
        if runtime.stopped:
            ask()
        if on_episode is not None:
            on_episode(episode, outcomes[-1])

    # The second Ctrl-C loses the episode in progress, not the others.
    with Interrupts(ask), contextlib.suppress(KeyboardInterrupt):
        for episode in range(episodes):
            if not asked:
                play(episode)
    control_dt = contract.layout.control_dt
    return DeployReport(
        policy=os.fspath(path),
        env_id=where if isinstance(where, str) else contract.training.env_id,
        backend=name,
        seed=seed,
        realtime=realtime,
        control_dt=control_dt,
        returns=tuple(outcome.total_reward for outcome in outcomes),
        lengths=tuple(outcome.length for outcome in outcomes),
        ended=tuple(outcome.ended for outcome in outcomes),
        latency=LatencyTable.of([outcome.ticks for outcome in outcomes], control_dt if realtime else None),
        interrupted=len(outcomes) < episodes or outcomes[-1].ended == "interrupted",
        notices=tuple(remarks.told),
    )


def check(
    path: str | os.PathLike[str],
    backend: str | None = None,
    *,
    env_id: str | Callable[[], Any] | None = None,
    duration: float | None = None,
    realtime: bool = True,
    disturbances: Sequence[Disturbance] = (),
    tell: Callable[[str], None] | None = None,
) -> Contract:
    """Do every check of `deploy` without moving anything, and give the contract.

    Parameters
    ----------
    path, backend, env_id, duration, realtime, disturbances, tell
        As for `deploy`.

    Raises
    ------
    UserError
        As `deploy`.
    """
    policy = OnnxPolicy.load(path)
    where = env_id if env_id is not None else policy.contract.training.env_id
    contract = policy.contract
    name = backend or _default_backend(where, contract)
    robot = _robot(name, where, contract, 0, 0, disturbances, None, _Remarks(tell))
    try:
        Runtime(policy, robot, contract, realtime=realtime).check(duration)
    finally:
        robot.close()
    return contract


class _Remarks:
    """Passes each remark on once: every episode has a robot of its own, and all say the same."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self.told: list[str] = []
        self._tell = tell

    def __call__(self, remark: str) -> None:
        if remark in self.told:
            return
        self.told.append(remark)
        if self._tell is not None:
            self._tell(remark)


def _save_last_states(error: Exception, log: Recorder, contract: Contract, path: Path) -> None:
    """Save what led to a fault and say where; nothing where the robot was refused before it was read."""
    last = log.arrays(contract, newest=_DUMPED)
    if last["episode"].size or isinstance(error, NonFiniteState):
        add_clause(error, save_failure(path, error, **{f"log_{name}": values for name, values in last.items()}))


def _settings(env_id: str | Callable[[], Any], contract: Contract) -> EnvSettings:
    training = contract.training
    return EnvSettings(training.env_id, training.max_episode_steps, training.env_kwargs).elsewhere(env_id)


def _default_backend(env_id: str | Callable[[], Any], contract: Contract) -> str:
    """As training chose: an environment with settings that only gymnasium's knows ran there."""
    from rlstab.envs.registry import make_task

    if not isinstance(env_id, str):
        return "gymnasium"
    try:
        make_task(env_id, **_settings(env_id, contract).env_kwargs)
    except UserError:
        # Under this name it is native or nothing, and the backend says what is wrong with its settings.
        return "mujoco" if env_id.startswith(_PREFIX) else "gymnasium"
    return "mujoco"


def _robot(
    backend: str,
    env_id: str | Callable[[], Any],
    contract: Contract,
    seed: int,
    episode: int,
    disturbances: Sequence[Disturbance],
    clock: Clock | None,
    tell: Callable[[str], None],
) -> RobotIO:
    where = _settings(env_id, contract)
    settings: dict[str, Any] = {
        "max_episode_steps": where.max_episode_steps,
        "env_kwargs": where.env_kwargs,
        "clock": clock,
        "tell": tell,
    }
    if backend == "mujoco":
        if not isinstance(env_id, str):
            raise UserError("the mujoco backend takes an environment by name; use the gymnasium backend for a function")
        from rlstab.sim2real.backends.mujoco import MujocoRobot

        return MujocoRobot(env_id, seed, episode, disturbances=disturbances, **settings)
    if backend == "gymnasium":
        if disturbances:
            raise UserError("disturbances act on native environments only: use the mujoco backend")
        from rlstab.sim2real.backends.gymnasium import GymnasiumRobot

        return GymnasiumRobot(env_id, seed, episode, **settings)
    raise UserError(f"no backend '{backend}'{_nearest_backend(backend)}; there are {', '.join(BACKENDS)}")


def _nearest_backend(name: str) -> str:
    """As `suggest`, which finds slips of the pen; people also shorten names, and know the first by its other one."""
    folded = name.lower()
    if folded == "native":
        return "; did you mean 'mujoco', which runs the native environments?"
    near = [backend for backend in BACKENDS if len(folded) > 1 and backend.startswith(folded)]
    return f"; did you mean '{near[0]}'?" if near else suggest(name, BACKENDS)
