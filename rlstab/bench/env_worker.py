"""Steps one implementation of batched environments in a process of its own, on request.

Reads one JSON object a line from standard input and answers each with one on standard output: ``build`` prepares a
case, ``run`` steps it for a while, ``close`` releases it. It imports nothing of rlstab unless rlstab or a task of its
own is what it measures, so that a peer may live in another virtual environment: ``PYTHON -I env_worker.py NAME``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# Mean length of an episode of uniformly random actions in gymnasium's environments, in control steps. Peers that offer
# physics alone put each world back to the start that often, so that they step the same mixture of states.
EPISODE_STEPS = {
    "InvertedPendulum-v5": 6,
    "InvertedDoublePendulum-v5": 6,
    "Hopper-v5": 23,
    "Walker2d-v5": 22,
    "HalfCheetah-v5": 1000,
    "Ant-v5": 169,
    "Humanoid-v5": 24,
    "Swimmer-v5": 1000,
    "Reacher-v5": 50,
}
OWN_EPISODE_STEPS = {"rlstab/Go1Velocity-v0": 81}
"""The same of tasks of this package's own. Peers that offer physics alone step the model of the task, for which rlstab
has to be installed beside them."""

Step = Callable[[Any], Any]
Built = tuple[Step, Any, Callable[[], Any]]
"""What steps all worlds, the action space of one world, and what closes them."""

_ACTION_BATCHES = 32
_MOST_WARM_UP = 200
LEAST_STEPS = 30
"""Batch steps that a repetition takes at least."""


def rlstab_environment(task: str, worlds: int, threads: int) -> Built:
    """Build ours."""
    from rlstab.envs.registry import make_vec

    envs = make_vec(task, worlds, num_threads=threads, backend="native")
    envs.reset(seed=0)
    return envs.step, envs.single_action_space, envs.close


def gymnasium_sync(task: str, worlds: int, threads: int) -> Built:
    """Build gymnasium's serial vector environment."""
    import gymnasium

    envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(task, disable_env_checker=True)] * worlds)
    envs.reset(seed=0)
    return envs.step, envs.single_action_space, envs.close


def gymnasium_async(task: str, worlds: int, threads: int) -> Built:
    """Build gymnasium's vector environment of worker processes."""
    import gymnasium

    envs = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make(task, disable_env_checker=True)] * worlds)
    envs.reset(seed=0)
    return envs.step, envs.single_action_space, envs.close


def sb3_dummy(task: str, worlds: int, threads: int) -> Built:
    """Build Stable-Baselines3's serial vector environment."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs = DummyVecEnv([lambda: gymnasium.make(task, disable_env_checker=True)] * worlds)
    envs.reset()
    return envs.step, envs.action_space, envs.close


def sb3_subproc(task: str, worlds: int, threads: int) -> Built:
    """Build Stable-Baselines3's vector environment of worker processes."""
    import gymnasium
    from stable_baselines3.common.vec_env import SubprocVecEnv

    # fork: the default start method imports torch again in every worker, 250 MB each.
    envs = SubprocVecEnv([lambda: gymnasium.make(task, disable_env_checker=True)] * worlds, start_method="fork")
    envs.reset()
    return envs.step, envs.action_space, envs.close


def envpool_environment(task: str, worlds: int, threads: int) -> Built:
    """Build EnvPool's environment in its synchronous mode."""
    envpool = importlib.import_module("envpool")
    envs = envpool.make(task, env_type="gymnasium", num_envs=worlds, num_threads=min(threads, worlds), seed=0)
    envs.reset()
    return envs.step, envs.action_space, envs.close


def mujoco_rollout(task: str, worlds: int, threads: int) -> Built:
    """Build physics alone on the pool of ``mujoco.rollout``."""
    import mujoco
    from mujoco import rollout

    model, frame_skip, space, starts = _physics(task, worlds)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    models, data = [model] * worlds, [mujoco.MjData(model) for _ in range(threads)]
    first = np.empty((worlds, size))
    for row, (qpos, qvel) in zip(first, starts, strict=True):
        data[0].qpos[:], data[0].qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data[0], row, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    state, pool, due = first.copy(), rollout.Rollout(nthread=threads), _EpisodeClock(task, worlds)
    states = np.empty((worlds, frame_skip, size))
    sensors = np.empty((worlds, frame_skip, model.nsensordata))

    def step(action: np.ndarray) -> None:
        control = np.repeat(action[:, None, :], frame_skip, axis=1)
        pool.rollout(models, data, state, control, skip_checks=True, nstep=frame_skip, state=states, sensordata=sensors)
        state[:] = states[:, -1]
        ended = due()
        state[ended] = first[ended]

    return step, space, pool.close


def mjbatch_physics(task: str, worlds: int, threads: int) -> Built:
    """Build physics alone on mjbatch's pool."""
    model, frame_skip, space, starts = _physics(task, worlds)
    batch = importlib.import_module("mjbatch").Batch(model, worlds, min(threads, worlds))
    qpos, qvel, control = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
    first_qpos, first_qvel = (np.array(part) for part in zip(*starts, strict=True))
    qpos[:], qvel[:], due = first_qpos, first_qvel, _EpisodeClock(task, worlds)

    def step(action: np.ndarray) -> None:
        control[:] = action
        batch.step(nstep=frame_skip)
        ended = due()
        qpos[ended], qvel[ended] = first_qpos[ended], first_qvel[ended]

    return step, space, lambda: None


def rlstab_physics(task: str, worlds: int, threads: int) -> Built:
    """Build our engine without observation, reward and termination: what the task costs on top."""
    from rlstab.envs.registry import make_task

    definition = make_task(task)
    physics = definition.make_physics(worlds, definition.fields, threads)
    _, frame_skip, space, starts = _physics(task, worlds)
    qpos, qvel = (np.array(part) for part in zip(*starts, strict=True))
    everyone, due = np.arange(worlds), _EpisodeClock(task, worlds)
    physics.reset(everyone, qpos, qvel)

    def step(action: np.ndarray) -> None:
        physics.step(action.astype(np.float64), frame_skip)
        ended = everyone[due()]
        if len(ended):
            physics.reset(ended, qpos[ended], qvel[ended])

    return step, space, physics.close


_OURS = ("mujoco", "numba", "numpy")
_GYMNASIUM = ("gymnasium", "mujoco", "numpy")

IMPLEMENTATIONS: dict[str, tuple[Callable[[str, int, int], Built], str, tuple[str, ...]]] = {
    "rlstab": (rlstab_environment, "rlstab", _OURS),
    "gymnasium Sync": (gymnasium_sync, "gymnasium", _GYMNASIUM),
    "gymnasium Async": (gymnasium_async, "gymnasium", _GYMNASIUM),
    "SB3 Dummy": (sb3_dummy, "stable_baselines3", _GYMNASIUM),
    "SB3 Subproc": (sb3_subproc, "stable_baselines3", _GYMNASIUM),
    "EnvPool": (envpool_environment, "envpool", ("numpy",)),
    "mjbatch (physics)": (mjbatch_physics, "mjbatch", ("mujoco", "numpy")),
    "mujoco.rollout (physics)": (mujoco_rollout, "mujoco", ("numpy",)),
    "rlstab (physics)": (rlstab_physics, "rlstab", _OURS),
}
"""Name to builder, the module it needs, and the other packages whose versions matter."""


def episode_steps(task: str) -> int:
    """Mean length of an episode of random actions, control steps."""
    return EPISODE_STEPS[task] if task in EPISODE_STEPS else OWN_EPISODE_STEPS[task]


class _EpisodeClock:
    """Says which worlds' episodes are over, spread evenly over time, one after `episode_steps` each."""

    def __init__(self, task: str, worlds: int) -> None:
        self._steps = episode_steps(task)
        self._age = np.arange(worlds) * self._steps // worlds

    def __call__(self) -> np.ndarray:
        self._age += 1
        over = self._age >= self._steps
        self._age[over] = 0
        return over


def _physics(task: str, worlds: int) -> tuple[Any, int, Any, list[tuple[np.ndarray, np.ndarray]]]:
    """Model, frame skip and action space of an environment, and a start of it for each world."""
    import gymnasium

    if task in OWN_EPISODE_STEPS:
        definition: Any = importlib.import_module("rlstab.envs.registry").make_task(task)
        low, high = definition.model.actuator_ctrlrange.astype(np.float32).T
        drawn = [definition.initial_state(definition.model, np.random.default_rng(world)) for world in range(worlds)]
        return definition.model, definition.frame_skip, gymnasium.spaces.Box(low, high), drawn
    env: Any = gymnasium.make(task).unwrapped
    starts = []
    for world in range(worlds):
        env.reset(seed=world)
        starts.append((env.data.qpos.copy(), env.data.qvel.copy()))
    return env.model, env.frame_skip, env.action_space, starts


class _Case:
    """One task with a number of worlds, ready to step."""

    def __init__(self, name: str, task: str, worlds: int, threads: int) -> None:
        self.worlds = worlds
        self._step, space, self.close = IMPLEMENTATIONS[name][0](task, worlds, threads)
        random = np.random.default_rng(0)
        shape = (_ACTION_BATCHES, worlds, *space.shape)
        self._actions = list(random.uniform(space.low, space.high, shape).astype(space.dtype))
        self._next = 0
        # All worlds began their episodes at once. Timed from there, a slow implementation would see other states than a
        # fast one does; contacts are what costs.
        for _ in range(min(_MOST_WARM_UP, episode_steps(task))):
            self._advance()

    def run(self, seconds: float) -> dict[str, float]:
        """Step for at least ``seconds``; the number of environment steps and the exact time."""
        taken, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or taken < LEAST_STEPS:
            self._advance()
            taken += 1
        return {"steps": taken * self.worlds, "seconds": elapsed}

    def _advance(self) -> None:
        self._step(self._actions[self._next])
        self._next = (self._next + 1) % _ACTION_BATCHES


def _versions(name: str) -> dict[str, str]:
    _, module, others = IMPLEMENTATIONS[name]
    # What is installed but broken must show as an error before anything is measured.
    importlib.import_module(module)
    packages = (module.replace("_", "-"), *others)
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def main() -> None:
    """Serve requests until standard input ends."""
    name = sys.argv[1]
    # Libraries may print; the answers go to a duplicate of standard output that they do not know.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    case: _Case | None = None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal case
        action = request.pop("do")
        if action == "versions":
            return {"versions": _versions(name)}
        if action == "build":
            case = _Case(name, **request)
            return {}
        if case is None:
            return {"error": "no case is built"}
        if action == "run":
            return dict(case.run(**request))
        case.close()
        case = None
        return {}

    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        answers.write(json.dumps(reply) + "\n")
    if case is not None:
        with contextlib.suppress(Exception):
            case.close()


if __name__ == "__main__":
    main()
