"""From an environment's name to the fastest correct implementation of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gymnasium.vector import VectorEnv

from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.disturbance import Disturbance
    from rlstab.envs.task import Task

Backend = Literal["auto", "native", "gymnasium"]
_PREFIX = "rlstab/"


def native_ids() -> list[str]:
    """Ids that run in batched native code, without the ``rlstab/`` prefix."""
    from rlstab.envs.gym_mujoco import TASKS

    return list(TASKS)


def make_task(env_id: str, **task_kwargs: Any) -> Task:
    """Build the task of a native environment.

    Parameters
    ----------
    env_id
        ``"Hopper-v5"`` or ``"rlstab/Hopper-v5"``.
    task_kwargs
        The task's constants, named as gymnasium's constructor arguments.

    Raises
    ------
    UserError
        No native task has this id, or it has no such constant.
    """
    from rlstab.envs.gym_mujoco import TASKS

    name = env_id.removeprefix(_PREFIX)
    if name not in TASKS:
        from rlstab.errors import suggest

        message = f"no native environment '{env_id}'{suggest(name, TASKS)}"
        raise UserError(message)
    task_class = TASKS[name]
    known = {field.name for field in dataclasses.fields(task_class)}
    unknown = sorted(task_kwargs.keys() - known)
    if unknown:
        message = f"{env_id} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        raise UserError(message)
    return task_class(**task_kwargs)


def runs_natively(
    env_id: str | Callable[[], Any], env_kwargs: Mapping[str, Any] | None = None, backend: Backend = "auto"
) -> bool:
    """Whether `make_vec` would make native batched physics of this: there is such a task, and it has these settings.

    Asked for by its prefix or by ``backend="native"``, it is native whatever the settings; wrong ones are refused.
    """
    from rlstab.envs.gym_mujoco import TASKS

    if not isinstance(env_id, str) or backend == "gymnasium":
        return False
    name = env_id.removeprefix(_PREFIX)
    if name not in TASKS:
        return False
    known = {field.name for field in dataclasses.fields(TASKS[name])}
    return backend == "native" or name != env_id or (env_kwargs or {}).keys() <= known


def make_vec(
    env_id: str | Callable[[], Any],
    num_envs: int = 1,
    seed: int = 0,
    *,
    disturbances: Sequence[Disturbance] = (),
    num_threads: int | None = None,
    max_episode_steps: int | None = None,
    backend: Backend = "auto",
    worker_processes: bool = False,
    world_offset: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Make ``num_envs`` copies of an environment that step together.

    Native batched physics where there is one (`native_ids`; equal to gymnasium's environment of the same name), else
    `gymnasium.vector`. Both reset a world in the step that ends its episode and put the last observation into
    ``infos["final_obs"]`` (see `BatchEnv`).

    Parameters
    ----------
    env_id
        An id known to gymnasium, ``"module:Id"`` (the module is imported first), or a function that makes a
        `gymnasium.Env`.
    num_envs
        Number of worlds.
    seed
        World ``i`` uses ``(seed, world_offset + i)``.
    disturbances
        Applied to every world; native environments only.
    num_threads
        Threads that step native physics; default: the processors this process may use.
    max_episode_steps
        Time limit in steps; default: the registered one.
    backend
        ``"native"`` or ``"gymnasium"`` insists on one.
    worker_processes
        Give each world of a foreign environment a process of its own; pays where a step takes over a millisecond.
        Native environments have threads.
    world_offset
        Index of the first world.
    env_kwargs
        Passed to the environment's constructor.

    Raises
    ------
    UserError
        Unknown environment, unknown setting, or disturbances where they can't be applied.

    Examples
    --------
    >>> env = make_vec("InvertedPendulum-v5", num_envs=4)
    >>> observation, _ = env.reset(seed=1)
    >>> observation.shape
    (4, 4)
    """
    kwargs = env_kwargs or {}
    if backend == "native":
        make_task(str(env_id), **kwargs)  # Raises with the nearest names.
    if isinstance(env_id, str) and runs_natively(env_id, kwargs, backend):
        from rlstab.envs.batch_env import BatchEnv

        return BatchEnv(
            make_task(env_id, **kwargs),
            num_envs,
            seed,
            disturbances=disturbances,
            num_threads=num_threads,
            max_episode_steps=max_episode_steps,
            world_offset=world_offset,
        )
    if disturbances:
        raise UserError(_why_not_native(env_id, kwargs, backend))
    from rlstab.envs.gym_vector import gymnasium_vec

    return gymnasium_vec(
        env_id,
        num_envs,
        seed,
        mode="async" if worker_processes else "sync",
        max_episode_steps=max_episode_steps,
        world_offset=world_offset,
        env_kwargs=kwargs,
    )


def _why_not_native(env_id: str | Callable[[], Any], kwargs: dict[str, Any], backend: Backend) -> str:
    from rlstab.envs.gym_mujoco import TASKS

    rule = "disturbances act on native environments only"
    if isinstance(env_id, str) and env_id in TASKS:
        if backend == "gymnasium":
            return f"{rule}, but the gymnasium backend was asked for"
        foreign = sorted(kwargs.keys() - {field.name for field in dataclasses.fields(TASKS[env_id])})
        return f"{rule}, and the native {env_id} has no setting {', '.join(foreign)}"
    return f"{rule} ({', '.join(TASKS)}); {env_id} is not one"
