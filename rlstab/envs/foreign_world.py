"""One world of somebody else's making: what is wrong with it is told in one line to whoever can mend it."""

from __future__ import annotations

import inspect
import re
import traceback
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium import spaces

from rlstab.envs.check_values import observation_findings, reset_findings, step_findings
from rlstab.envs.gym_make import EnvMaker, cause, name_of
from rlstab.errors import UserError, command

_OWN_CODE = Path(__file__).parents[1]


class ForeignWorld(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that is told apart from this package when something fails.

    What it raises, and what it returns in a form that gymnasium does not know, becomes a `UserError` that names the
    cause and the place. The last observation of an episode is copied, since some environments overwrite it when they
    are reset.

    Parameters
    ----------
    env
        The environment.
    env_id
        What it was made from.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str | EnvMaker) -> None:
        super().__init__(env)
        self._id = env_id
        self._space = env.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """See `gymnasium.Env.reset`."""
        try:
            result: Any = self.env.reset(seed=seed, options=options)
        except Exception as error:
            self._raise(error, "reset()")
        if type(result) is not tuple or len(result) != 2 or not _can_be_batched(self._space, result[0]):
            findings = [*reset_findings(result)] or [*observation_findings(self._space, result[0], "reset()")]
            self._refuse(findings[0].what, findings[0].fix)
        return result

    def step(self, action: Any) -> Any:
        """See `gymnasium.Env.step`."""
        try:
            result: Any = self.env.step(action)
        except Exception as error:
            self._raise(error, "step()")
        if (
            type(result) is not tuple
            or len(result) != 5
            or not all(map(_is_single, result[1:4]))
            or not _can_be_batched(self._space, result[0])
        ):
            findings = [*step_findings(result)] or [*observation_findings(self._space, result[0], "step()")]
            self._refuse(findings[0].what, findings[0].fix)
        observation, reward, terminated, truncated, info = result
        if terminated or truncated:
            observation = deepcopy(observation)
        return observation, reward, terminated, truncated, info

    def _raise(self, error: Exception, where: str) -> NoReturn:
        four = re.search(r"\(expected 5, got (\d+)\)", str(error)) if isinstance(error, ValueError) else None
        if four and not _raised_in(error, self._home()):
            # A wrapper, such as gymnasium's time limit, took the five values before they could be looked at here.
            told = next(step_findings((None,) * int(four[1])))
            self._refuse(told.what, told.fix)
        raise_told(error, self._id, where, self._home())

    def _refuse(self, what: str, fix: str) -> NoReturn:
        made_by = type(self.env.unwrapped)
        place = f"{made_by.__name__} in {Path(self._home()).name}" if self._home() else made_by.__name__
        raise UserError(f"{name_of(self._id)}: {what} ({place}). {fix}; {look_into(self._id)}")

    def _home(self) -> str:
        """File that holds the environment's class."""
        try:
            return inspect.getfile(type(self.env.unwrapped))
        except (TypeError, OSError):
            return ""


def raise_told(error: Exception, env_id: str | EnvMaker, where: str, home: str = "") -> NoReturn:
    """Raise an environment's exception as one for its author; one of this package's own is raised as it is.

    Parameters
    ----------
    error
        What was raised.
    env_id
        What the environment was made from.
    where
        What was called.
    home
        File of the environment's code, where the author will look first.

    Raises
    ------
    UserError
        Names the cause and the place.
    """
    if isinstance(error, UserError) or _raised_in(error, str(_OWN_CODE)):
        raise error
    raise UserError(f"{name_of(env_id)}: {where} raised {cause(error, home)}; {look_into(env_id)}") from error


def look_into(env_id: str | EnvMaker) -> str:
    """Phrase how to find out what is wrong with an environment."""
    if isinstance(env_id, str):
        return f"this looks into it: {command('check-env', env_id)}"
    return f"this looks into it: rlstab.envs.check.check_env({name_of(env_id)})"


def _raised_in(error: Exception, path: str) -> bool:
    """Whether the statement that raised an exception is in a file, or in a file of a folder."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and bool(path) and Path(frames[-1].filename).is_relative_to(path)


def _is_single(value: Any) -> bool:
    """Whether a reward or flag is one number and not an array of them."""
    return isinstance(value, int | float | np.generic) or (value is not None and getattr(value, "shape", None) == ())


def _can_be_batched(space: spaces.Space[Any], value: Any) -> bool:
    """Whether an observation can be batched; its numbers are not looked at."""
    if isinstance(space, spaces.Box):
        if not isinstance(value, np.ndarray):
            return np.shape(value) == space.shape
        same_type = value.dtype == space.dtype or np.can_cast(value.dtype, space.dtype, "same_kind")
        return same_type and value.shape == space.shape
    if isinstance(space, spaces.Dict):
        return isinstance(value, dict) and all(
            name in value and _can_be_batched(part, value[name]) for name, part in space.spaces.items()
        )
    if isinstance(space, spaces.Tuple):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(space.spaces)
            and all(map(_can_be_batched, space.spaces, value))
        )
    return True
