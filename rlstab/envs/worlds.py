"""The worlds of a batch: how many, which of them a reset is about, and how to name them in messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.physics.interface import BoolArray, IntArray
from rlstab.errors import UserError

CHOICES = ("worlds", "reset_mask")
"""Options of `reset`: ours, a mask or indices; and gymnasium's, a mask."""

_NAMED = 5


def check_batch(num_envs: Any, seed: Any) -> None:
    """Refuse a number of worlds, or a base seed, that is none.

    Raises
    ------
    UserError
        One is not a whole number, or there would be no world.
    """
    for name, value, example in (("num_envs", num_envs, 8), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise UserError(f"{name} must be a whole number, as in {name}={example}, not {value!r}")
    if num_envs < 1:
        raise UserError(f"num_envs must be at least 1, got {num_envs}")


def where_in_episodes(worlds: list[int], elapsed_steps: IntArray) -> str:
    """Phrase at which step of its own episode each of some worlds is.

    Examples
    --------
    >>> where_in_episodes([2], np.array([7, 7, 1]))
    'in world 2, at step 1 of its episode'
    >>> where_in_episodes([0, 2], np.array([7, 7, 1]))
    'in worlds 0 and 2, at steps 7 and 1 of their episodes'
    """
    if len(worlds) == 1:
        return f"in world {worlds[0]}, at step {elapsed_steps[worlds[0]]} of its episode"
    named = worlds[:_NAMED]
    steps = [int(elapsed_steps[world]) for world in named]
    if len(named) == len(worlds):
        return f"in worlds {_listed(named)}, at steps {_listed(steps)} of their episodes"
    first, more = ", ".join(map(str, named)), len(worlds) - len(named)
    return f"in worlds {first} and {more} more, at steps {', '.join(map(str, steps))}, ... of their episodes"


def chosen_worlds(options: dict[str, Any] | None, num_envs: int) -> tuple[BoolArray, dict[str, Any]]:
    """Read the choice of worlds among the options of a reset.

    Returns
    -------
    mask, rest
        ``(num_envs,)``, all true without a choice; and the other options.

    Raises
    ------
    UserError
        The choice is empty, or names worlds that are not there.
    """
    rest = dict(options or {})
    mask = np.ones(num_envs, np.bool_)
    for name in CHOICES:
        if name not in rest:
            continue
        choice = np.asarray(rest.pop(name))
        if name == "reset_mask" and choice.shape == (num_envs,) and np.isin(choice, (0, 1)).all():
            choice = choice.astype(np.bool_)
        if name == "reset_mask" and choice.dtype != np.bool_:
            raise UserError(f"reset: 'reset_mask' is {choice.tolist()}, it must say true or false for each world")
        if choice.dtype == np.bool_ and choice.shape != (num_envs,):
            raise UserError(f"reset: '{name}' is a mask of shape {choice.shape}, there are {num_envs} worlds")
        chosen = np.zeros(num_envs, np.bool_)
        try:
            if choice.dtype.kind == "i" and (choice < 0).any():
                raise IndexError
            chosen[choice.astype(np.int64) if choice.size == 0 else choice] = True
        except IndexError as error:
            raise UserError(f"reset: '{name}' is {choice.tolist()}, there are worlds 0 to {num_envs - 1}") from error
        mask &= chosen
    if not mask.any():
        raise UserError("reset was asked for no world at all")
    return mask, rest


def _listed(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
