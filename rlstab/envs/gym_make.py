"""Making one foreign environment, with errors a user can act on."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.envs.registration import find_highest_version, parse_env_id
from gymnasium.wrappers import TimeLimit

from rlstab.envs.rendering import choose_backend
from rlstab.errors import UserError, suggest

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
        env = env_id(**kwargs)
        if not isinstance(env, gymnasium.Env):
            message = f"{name_of(env_id)} made {type(env).__name__}, which is not a gymnasium.Env"
            raise UserError(message)
        return TimeLimit(env, max_episode_steps) if max_episode_steps and max_episode_steps > 0 else env
    check_known(env_id)
    try:
        with warnings.catch_warnings():
            # An older version of an environment is the user's choice.
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            # Gymnasium's checker slows every step down; `rlstab.envs.check` looks at more, once.
            env = gymnasium.make(env_id, max_episode_steps, disable_env_checker=True, **kwargs)
    except ModuleNotFoundError as error:
        message = f"{env_id} needs the package '{error.name}', which is not installed"
        raise UserError(message) from error
    except (TypeError, gymnasium.error.Error) as error:
        message = f"{env_id} can't be made: {' '.join(str(error).split())}"
        raise UserError(message) from error
    if kwargs.get("render_mode") and "mujoco" in sys.modules:
        # Left to itself, gymnasium tries a window first, which without a screen ends the process.
        choose_backend()
    return env


def check_known(env_id: str) -> None:
    """Import the module of ``"module:Id"`` and look the id up.

    Raises
    ------
    UserError
        The module can't be imported, or nothing has this id; near names are given.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                message = (
                    f"module '{module}' of '{env_id}' is neither installed nor in the working directory or PYTHONPATH"
                )
            else:
                message = f"module '{module}' of '{env_id}' needs '{error.name}', which is not installed"
            raise UserError(message) from error
        except Exception as error:
            message = f"module '{module}' of '{env_id}' fails on import with {type(error).__name__}: {error}"
            raise UserError(message) from error
    if name in gymnasium.registry:
        return
    try:
        namespace, base, version = parse_env_id(name)
    except gymnasium.error.Error:
        namespace, base, version = None, name, None
    if version is None and find_highest_version(namespace, base) is not None:
        return  # "Hopper" means its latest version.
    hint = suggest(name, gymnasium.registry)
    if not hint:
        hint = (
            "; it is none of those that module registers"
            if module
            else "; for an environment of your own write 'module:Id', where importing the module registers it"
        )
    message = f"there is no environment '{name}'{hint}"
    raise UserError(message)


def name_of(env_id: str | EnvMaker) -> str:
    """What to call an environment in messages."""
    return env_id if isinstance(env_id, str) else getattr(env_id, "__name__", type(env_id).__name__)
