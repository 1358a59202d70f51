"""Attaching a list of disturbances to an environment."""

from __future__ import annotations

from collections.abc import Sequence

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.parameters import ModelChanges, ParameterChange
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
    others = tuple(item.attach(view) for item in disturbances if not isinstance(item, ParameterChange))
    return (ModelChanges(changes, view), *others) if changes else others
