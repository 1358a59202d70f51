"""Tasks that can't be solved without memory, written for many worlds at once."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from rlstab.errors import UserError, suggest

if TYPE_CHECKING:
    from rlstab.envs.memory.task import MemoryTask

__all__ = ["ROOMS", "TASKS", "make_task"]

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rlstab/PassiveTMaze-v0": ("t_maze:PassiveTMaze", {}),
    "rlstab/RepeatPreviousEasy-v0": ("repeat:RepeatPrevious", {"num_decks": 1, "k": 4}),
    "rlstab/RepeatPreviousMedium-v0": ("repeat:RepeatPrevious", {"num_decks": 2, "k": 32}),
    "rlstab/RepeatPreviousHard-v0": ("repeat:RepeatPrevious", {"num_decks": 3, "k": 64}),
    "rlstab/RepeatFirstEasy-v0": ("repeat:RepeatFirst", {"num_decks": 1}),
    "rlstab/RepeatFirstMedium-v0": ("repeat:RepeatFirst", {"num_decks": 8}),
    "rlstab/RepeatFirstHard-v0": ("repeat:RepeatFirst", {"num_decks": 16}),
}
"""Ids, each with its task and that task's settings. A task is imported when it is made."""

ROOMS: dict[str, int] = {f"rlstab/MiniGridMemoryS{size}-v0": size for size in (7, 9, 11, 13)}
"""Ids of MiniGrid's memory rooms, each with its size in cells: not batched, and only with the extra ``minigrid``."""


def make_task(env_id: str, **settings: Any) -> MemoryTask:
    """Build the task of an id.

    Parameters
    ----------
    env_id
        One of `TASKS`.
    settings
        The task's, in place of those that belong to the id.

    Raises
    ------
    UserError
        There is no such task, it has no such setting, or a setting is out of range.

    Examples
    --------
    >>> make_task("rlstab/PassiveTMaze-v0", length=10).horizon
    11
    """
    if env_id not in TASKS:
        raise UserError(f"no memory task '{env_id}'{suggest(env_id, TASKS)}")
    place, usual = TASKS[env_id]
    module, _, name = place.partition(":")
    task = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    known = sorted(field.name for field in dataclasses.fields(task))
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        hint = suggest(unknown[0], known)
        near = f"{hint} It" if hint else "; it"
        raise UserError(f"{env_id} has no setting {', '.join(unknown)}{near} has {', '.join(known)}")
    return task(**usual | settings)
