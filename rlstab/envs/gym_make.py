"""Making one foreign environment, with errors a user can act on."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from rlstab.envs.rendering import choose_backend
from rlstab.errors import UserError, suggest
from rlstab.runs.environment import has_version, latest_version

EnvMaker = Callable[..., gymnasium.Env[Any, Any]]


def make_one(
    env_id: str | EnvMaker, max_episode_steps: int | None = None, env_kwargs: dict[str, Any] | None = None
) -> gymnasium.Env[Any, Any]:
    """Make a single environment, with errors a user can act on.

    ``max_episode_steps`` replaces the registered time limit, ``-1`` removes it.

    Raises
    ------
    UserError
        The environment is unknown (near names are given), its module can't be imported, or its constructor fails.
    """
    kwargs = env_kwargs or {}
    if max_episode_steps is not None and max_episode_steps != -1 and max_episode_steps < 1:
        message = f"max_episode_steps must be at least 1, or -1 for none, got {max_episode_steps}"
        raise UserError(message)
    if not isinstance(env_id, str):
        try:
            env = env_id(**kwargs)
        except Exception as error:
            raise _not_made(name_of(env_id), error) from error
        if not isinstance(env, gymnasium.Env):
            message = f"{name_of(env_id)} made {type(env).__name__}, which is not a gymnasium.Env"
            raise UserError(message)
        return _with_time_limit(env, max_episode_steps)
    env_id = resolve_id(env_id)
    check_known(env_id)
    try:
        with warnings.catch_warnings():
            # An older version of an environment is the user's choice.
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            # Instead of gymnasium's checker; `rlstab.envs.check` looks at more, when asked.
            env = gymnasium.make(env_id, max_episode_steps, disable_env_checker=True, **kwargs)
    except ModuleNotFoundError as error:
        message = f"{env_id} needs the package '{error.name}', which is not installed"
        raise UserError(message) from error
    except UserError:
        raise
    except Exception as error:
        raise _not_made(env_id, error) from error
    if kwargs.get("render_mode") and draws_with_mujoco(env):
        # Left to itself, gymnasium tries a window first, which without a screen ends the process.
        choose_backend()
    return env


def draws_with_mujoco(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment's pictures are MuJoCo's: it has a compiled model."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(getattr(env.unwrapped, "model", None), mujoco.MjModel)


def cause(problem: BaseException, home: str = "") -> str:
    """Type, message and place of an exception in one line.

    The place is where it was raised, or the last one before that in the file ``home``, whose author will read this.
    """
    frames = traceback.extract_tb(problem.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename == home), frames[-1] if frames else None)
    place = f" ({Path(frame.filename).name}:{frame.lineno})" if frame else ""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}{place}"


def _not_made(name: str, error: Exception) -> UserError:
    # Gymnasium's own errors and refused settings explain themselves.
    known = isinstance(error, TypeError | gymnasium.error.Error)
    return UserError(f"{name} can't be made: {' '.join(str(error).split()) if known else cause(error)}")


def _with_time_limit(env: gymnasium.Env[Any, Any], max_episode_steps: int | None) -> gymnasium.Env[Any, Any]:
    """Replace the time limits that an environment was made with; -1 removes them, None keeps them."""
    if max_episode_steps is None:
        return env
    inner = env
    while isinstance(inner, gymnasium.Wrapper):
        if isinstance(inner, TimeLimit):
            inner._max_episode_steps = sys.maxsize
        inner = inner.env
    return TimeLimit(env, max_episode_steps) if max_episode_steps > 0 else env


def resolve_id(env_id: str) -> str:
    """Complete an id without version, such as ``Hopper`` or ``my_module:MyEnv``, with the latest one registered.

    An id that nothing has is given back, for whoever needs the environment to complain about.

    Raises
    ------
    UserError
        The module, which has to be asked for its versions, can't be imported.

    Examples
    --------
    >>> resolve_id("Hopper"), resolve_id("rlstab/Hopper"), resolve_id("Hopper-v4")
    ('Hopper-v5', 'rlstab/Hopper-v5', 'Hopper-v4')
    """
    if not has_version(env_id):
        _import_module_of(env_id)
    return latest_version(env_id)


def check_known(env_id: str) -> None:
    """Import the module of ``"module:Id"`` and look the id up.

    Raises
    ------
    UserError
        The module can't be imported, or nothing has this id; near names are given.
    """
    _import_module_of(env_id)
    module, _, name = env_id.rpartition(":")
    if latest_version(name) in gymnasium.registry:
        return
    hint = suggest(name, gymnasium.registry)
    if not hint:
        hint = (
            "; it is none of those that module registers"
            if module
            else "; for an environment of your own write 'module:Id', where importing the module registers it"
        )
    message = f"there is no environment '{name}'{hint}"
    raise UserError(message)


def _import_module_of(env_id: str) -> None:
    module = env_id.rpartition(":")[0]
    if module:
        # Python looks in the working directory only when it is started as `python -m`. At the end of the path, a file
        # that happens to lie there hides nothing.
        if not {"", os.getcwd()} & set(sys.path):
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                message = (
                    f"module '{module}' of '{env_id}' is neither installed nor in the working directory or PYTHONPATH"
                )
            else:
                message = f"module '{module}' of '{env_id}' needs '{error.name}', which is not installed"
            raise UserError(message) from error
        except Exception as error:
            message = f"module '{module}' of '{env_id}' fails on import with {type(error).__name__}: {error}"
            raise UserError(message) from error


def name_of(env_id: str | EnvMaker) -> str:
    """What to call an environment in messages."""
    return env_id if isinstance(env_id, str) else getattr(env_id, "__name__", type(env_id).__name__)
