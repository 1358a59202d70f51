"""Attaching a list of disturbances to an environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.parameters import ModelChanges, ParameterChange
from rlstab.envs.disturbance.streams import occurrences
from rlstab.errors import UserError


def required_fields(disturbances: Sequence[Disturbance]) -> tuple[str, ...]:
    """Derived engine quantities that must be requested when the engine is made, named as in ``mjData``.

    Raises
    ------
    UserError
        Something is not a disturbance.
    """
    for disturbance in disturbances:
        if not isinstance(disturbance, Disturbance):
            message = f"{disturbance!r} is not a disturbance; rlstab.envs.disturbance has those there are"
            raise UserError(message)
    return tuple(dict.fromkeys(name for disturbance in disturbances for name in disturbance.fields))


def attach_all(disturbances: Sequence[Disturbance], view: EnvView) -> tuple[Effect, ...]:
    """Effects of ``disturbances`` on one batch, in their order.

    Changes of parameters come first, as one effect: two that touch the same field must multiply, not replace each
    other.

    Raises
    ------
    UserError
        One does not fit the model.
    """
    changes = tuple(item for item in disturbances if isinstance(item, ParameterChange))
    others = [item for item in disturbances if not isinstance(item, ParameterChange)]
    views = [_numbered(view, number) for number in occurrences([item.stream for item in others])]
    effects = tuple(item.attach(seen) for item, seen in zip(others, views, strict=True))
    return (ModelChanges(changes, view), *effects) if changes else effects


class _Numbered:
    """A view in which the second of two disturbances with one stream draws other numbers than the first."""

    def __init__(self, view: EnvView, number: int) -> None:
        self._view = view
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def rng(self, world: int, purpose: str) -> np.random.Generator:
        return self._view.rng(world, f"{purpose}#{self._number}")


def _numbered(view: EnvView, number: int) -> EnvView:
    return cast("EnvView", _Numbered(view, number)) if number else view
