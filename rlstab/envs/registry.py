"""From an environment's name to the fastest correct implementation of it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import gymnasium
from gymnasium.vector import VectorEnv

from rlstab.envs.gym_make import resolve_id
from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from rlstab.envs.disturbance import Disturbance
    from rlstab.envs.task import Task

Backend = Literal["auto", "native", "gymnasium"]
_PREFIX = "rlstab/"


def native_ids() -> list[str]:
    """Ids of gymnasium's that run in batched native code, without the ``rlstab/`` prefix."""
    from rlstab.envs.tasks import TASKS

    return list(TASKS)


def own_ids() -> list[str]:
    """Ids of this package's own environments: ``rlstab/...``, without a namesake in gymnasium."""
    from rlstab.envs import memory
    from rlstab.envs.tasks import OWN_TASKS

    return [*OWN_TASKS, *memory.TASKS, *memory.ROOMS]


def make_task(env_id: str, **task_kwargs: Any) -> Task:
    """Build the task of a native environment.

    Parameters
    ----------
    env_id
        ``"Hopper-v5"`` or ``"rlstab/Hopper-v5"``, ``"rlstab/HopperP-v0"``; without a version, the latest.
    task_kwargs
        The task's constants, named as gymnasium's constructor arguments.

    Raises
    ------
    UserError
        No native task has this id, it has no such constant, or text or nothing is given where the constant is a number.
    """
    from rlstab.envs.tasks import ALL_TASKS

    full = resolve_id(env_id)
    name = _native_name(full)
    if name is None:
        near = suggest(full.removeprefix(_PREFIX), ALL_TASKS) or suggest(full, ALL_TASKS)
        raise UserError(f"no native environment '{env_id}'{near}")
    known = _settings(name)
    unknown = sorted(task_kwargs.keys() - known)
    if unknown:
        raise UserError(_no_setting(env_id, unknown, known))
    for field in dataclasses.fields(ALL_TASKS[name]):
        given = task_kwargs.get(field.name, field.default)
        if isinstance(field.default, (int, float)) and (given is None or isinstance(given, str)):
            raise UserError(f"{env_id}: {field.name} must be a number, got {given!r}")
    return ALL_TASKS[name](**task_kwargs)


def runs_natively(
    env_id: str | Callable[[], Any], env_kwargs: Mapping[str, Any] | None = None, backend: Backend = "auto"
) -> bool:
    """Whether `make_vec` would make a native batch of this: there is such a task, and it has these settings.

    Asked for by its prefix or by ``backend="native"``, it is native whatever the settings; wrong ones are refused.
    """
    if not isinstance(env_id, str) or backend == "gymnasium":
        return False
    full = resolve_id(env_id)
    name = _native_name(full)
    if name is None:
        return _needs_memory(full)
    return backend == "native" or full.startswith(_PREFIX) or (env_kwargs or {}).keys() <= _settings(name)


def make_vec(
    env_id: str | Callable[[], Any],
    num_envs: int = 1,
    seed: int = 0,
    *,
    disturbances: Sequence[Disturbance] | Disturbance | str = (),
    num_threads: int | None = None,
    max_episode_steps: int | None = None,
    backend: Backend = "auto",
    worker_processes: bool = False,
    world_offset: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Make ``num_envs`` copies of an environment that step together.

    A native batch where there is one (`native_ids`, equal to gymnasium's environment of the same name, and most of
    `own_ids`), else `gymnasium.vector`. Both reset a world in the step that ends its episode and put the last
    observation into ``infos["final_obs"]`` (see `BatchEnv`).

    Parameters
    ----------
    env_id
        An id known to gymnasium, ``"module:Id"`` (the module is imported first), or a function that makes a
        `gymnasium.Env`. Without a version, as in ``"Hopper"``, the latest.
    num_envs
        Number of worlds.
    seed
        World ``i`` uses ``(seed, world_offset + i)``.
    disturbances
        Applied to every world, in order; a list, a single one, or text such as ``"latency=1"``. Native environments
        only.
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
        Unknown environment, unknown setting, disturbances where they can't be applied, or an argument of another type
        than above.

    Examples
    --------
    >>> env = make_vec("InvertedPendulum-v5", num_envs=4)
    >>> observation, _ = env.reset(seed=1)
    >>> observation.shape
    (4, 4)
    """
    kwargs = env_kwargs or {}
    if backend not in get_args(Backend):
        raise UserError(f"backend is {' or '.join(map(repr, get_args(Backend)))}, not {backend!r}")
    if isinstance(env_id, str):
        env_id = resolve_id(env_id)
    if isinstance(env_id, str) and backend != "gymnasium" and _needs_memory(env_id):
        from rlstab.envs.memory import make_task as make_memory_task
        from rlstab.envs.memory.batch import MemoryVec

        if disturbances:
            raise UserError(f"disturbances act on the physics of a robot, and {env_id} has none")
        task = make_memory_task(env_id, **kwargs)
        return MemoryVec(task, num_envs, seed, max_episode_steps=max_episode_steps, world_offset=world_offset)
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
    if isinstance(env_id, str):
        _refuse_own_without_prefix(env_id)
        _refuse_what_no_backend_has(env_id, kwargs)
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


def _native_name(full: str) -> str | None:
    """Under which name the tasks have an id; None if they don't. Those that gymnasium has need no prefix."""
    from rlstab.envs.tasks import ALL_TASKS, TASKS

    if full in ALL_TASKS:
        return full
    name = full.removeprefix(_PREFIX)
    return name if name in TASKS else None


def _needs_memory(full: str) -> bool:
    """Whether an id is a memory task's, which is batched too, but has no physics."""
    from rlstab.envs import memory

    return full in memory.TASKS


def _settings(name: str) -> set[str]:
    """Constants of a native task."""
    from rlstab.envs.tasks import ALL_TASKS

    return {field.name for field in dataclasses.fields(ALL_TASKS[name])}


def _no_setting(env_id: str, unknown: Sequence[str], known: Iterable[str]) -> str:
    hint = suggest(unknown[0], known)
    near = f"{hint} It" if hint else "; it"
    return f"{env_id} has no setting {', '.join(unknown)}{near} has {', '.join(sorted(known))}"


def _refuse_own_without_prefix(env_id: str) -> None:
    # Gymnasium's ids stand for the native tasks too; ours are asked for by their whole name.
    full = resolve_id(f"{_PREFIX}{env_id}")
    if full in own_ids() and env_id not in gymnasium.registry:
        raise UserError(f"there is no environment '{env_id}'; did you mean '{full}'?")


def _refuse_what_no_backend_has(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Complain about a setting that neither a native task nor gymnasium's environment of the same name has."""
    from rlstab.envs.tasks import TASKS

    if env_id not in TASKS or not kwargs:
        return
    foreign = _constructor_arguments(env_id)
    if foreign is None:
        return
    unknown = sorted(kwargs.keys() - foreign - _settings(env_id))
    if unknown:
        raise UserError(_no_setting(env_id, unknown, _settings(env_id)))


def _constructor_arguments(env_id: str) -> set[str] | None:
    """What the constructor of a registered environment takes, its base classes included; None if it may be anything."""
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.registry.get(env_id)
    if spec is None or spec.entry_point is None:
        return None
    creator: Any = spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
    names: set[str] = set()
    for cls in getattr(creator, "__mro__", ()):
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters.values()
        names |= {parameter.name for parameter in parameters}
        # A constructor passes what it does not name itself on to the next class.
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return names
    return None


def _why_not_native(env_id: str | Callable[[], Any], kwargs: dict[str, Any], backend: Backend) -> str:
    from rlstab.envs.tasks import TASKS

    rule = "disturbances act on native environments only"
    name = _native_name(env_id) if isinstance(env_id, str) else None
    if name is not None:
        if backend == "gymnasium":
            return f"{rule}, but the gymnasium backend was asked for"
        foreign = sorted(kwargs.keys() - _settings(name))
        return f"{rule}, and the native {env_id} has no setting {', '.join(foreign)}"
    return f"{rule} ({', '.join(TASKS)}); {env_id} is not one"
