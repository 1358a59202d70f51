"""Which worlds of a batch a reset is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.physics.interface import BoolArray
from rlstab.errors import UserError

CHOICES = ("worlds", "reset_mask")
"""Options of `reset`: ours, a mask or indices; and gymnasium's, a mask."""


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
