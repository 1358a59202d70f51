"""Run an exported controller on a backend, episode by episode, and report how it did and whether it kept time."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlstab.envs.disturbance import Disturbance
from rlstab.errors import UserError, suggest
from rlstab.sim2real.clock import Clock
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.policy_onnx import OnnxPolicy
from rlstab.sim2real.recorder import Recorder
from rlstab.sim2real.robot import RobotIO
from rlstab.sim2real.runtime import CommandFilter, Episode, Runtime
from rlstab.sim2real.timing import LatencyTable

BACKENDS = ("mujoco", "gymnasium")
"""``mujoco``: native environments, in process. ``gymnasium``: any other."""

_PREFIX = "rlstab/"


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

    @property
    def mean_return(self) -> float | None:
        """Mean over the episodes that have one."""
        known = [value for value in self.returns if value is not None]
        return statistics.fmean(known) if known else None

    @property
    def interrupted(self) -> bool:
        """Whether a person stopped it."""
        return "interrupted" in self.ended

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
    seed: int = 0,
    episodes: int = 1,
    duration: float | None = None,
    realtime: bool = True,
    disturbances: Sequence[Disturbance] = (),
    command_filter: CommandFilter | None = None,
    recorder: Recorder | None = None,
    clock: Clock | None = None,
    on_episode: Callable[[int, Episode], None] | None = None,
) -> DeployReport:
    """Check a file, and let it control a backend.

    Episode ``i`` starts exactly as evaluation's episode ``i`` for the same seed. Torch is not needed.

    Parameters
    ----------
    path
        What `rlstab.sim2real.export.export_run` wrote.
    backend
        One of `BACKENDS`; default: ``mujoco`` where there is a native environment.
    env_id
        Environment to run in; default: that of training. One that does not fit the contract is refused.
    seed, episodes
        Which episodes.
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

    Returns
    -------
    DeployReport
        Also after a Ctrl-C, with what there is until then.

    Raises
    ------
    UserError
        The file is damaged or has no contract, the backend does not fulfil it, or an observation or action is not
        finite.
    """
    if episodes < 1:
        raise UserError(f"episodes is {episodes}, it must be at least 1")
    policy = OnnxPolicy.load(path)
    contract = policy.contract
    where = env_id if env_id is not None else contract.training.env_id
    name = backend or _default_backend(where)
    outcomes: list[Episode] = []
    for episode in range(episodes):
        robot = _robot(name, where, contract, seed, episode, disturbances, clock)
        runtime = Runtime(
            policy, robot, contract, command_filter=command_filter, clock=clock, recorder=recorder, realtime=realtime
        )
        outcome = runtime.run(duration)
        outcomes.append(outcome)
        if on_episode is not None:
            on_episode(episode, outcome)
        if outcome.ended == "interrupted":
            break
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
    )


def check(path: str | os.PathLike[str], backend: str | None = None, *, env_id: str | None = None) -> Contract:
    """Do every check of `deploy` without moving anything, and give the contract.

    Raises
    ------
    UserError
        As `deploy`.
    """
    policy = OnnxPolicy.load(path)
    where = env_id if env_id is not None else policy.contract.training.env_id
    robot = _robot(backend or _default_backend(where), where, policy.contract, 0, 0, (), None)
    try:
        robot.connect(policy.contract)
    finally:
        robot.close()
    return policy.contract


def _default_backend(env_id: str | Callable[[], Any]) -> str:
    from rlstab.envs.registry import native_ids

    return "mujoco" if isinstance(env_id, str) and env_id.removeprefix(_PREFIX) in native_ids() else "gymnasium"


def _robot(
    backend: str,
    env_id: str | Callable[[], Any],
    contract: Contract,
    seed: int,
    episode: int,
    disturbances: Sequence[Disturbance],
    clock: Clock | None,
) -> RobotIO:
    training = contract.training
    # The settings belong to the environment of training; another one has its own.
    same = isinstance(env_id, str) and env_id.removeprefix(_PREFIX) == training.env_id.removeprefix(_PREFIX)
    settings: dict[str, Any] = {
        "max_episode_steps": training.max_episode_steps if same else None,
        "env_kwargs": training.env_kwargs if same else None,
        "clock": clock,
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
    raise UserError(f"no backend '{backend}'{suggest(backend, BACKENDS)}; there are {', '.join(BACKENDS)}")
