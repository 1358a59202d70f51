"""What gymnasium's MuJoCo tasks share: constants named as gymnasium names them, checked, and where the model is."""

from __future__ import annotations

import dataclasses
import numbers
from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlstab.envs.gym_mujoco.model_file import assets_folder
from rlstab.envs.physics.mujoco_engine import MujocoPhysics
from rlstab.envs.task import Task
from rlstab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class GymMujocoTask(Task, ABC):
    """A task whose fields are the arguments of gymnasium's environment of the same id.

    Reward terms have the names that gymnasium gives them in ``info``.

    Raises
    ------
    UserError
        A constant has the wrong type or is out of range.
    """

    xml_file: str = ""
    """MJCF file: a name in gymnasium's assets, or a path that starts with '.', '/' or '~'."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(f"{self.id}: {field.name}", getattr(self, field.name), field.default)
            object.__setattr__(self, field.name, value)
        scale = getattr(self, "reset_noise_scale", 0.0)
        if not scale >= 0:
            message = f"{self.id}: reset_noise_scale must be 0 or more, got {scale}"
            raise UserError(message)

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> MujocoPhysics:
        """MuJoCo on threads."""
        return MujocoPhysics(self.model_path(), num_envs, fields, num_threads)

    def model_path(self) -> Path:
        """The MJCF file."""
        if self.xml_file.startswith((".", "/", "~")):
            return Path(self.xml_file).expanduser()
        return assets_folder() / self.xml_file


def _checked(what: str, value: Any, default: Any) -> Any:
    """Return ``value``, as a pair of floats where the default is one; refuse another kind than the default's."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        expected = "true or false"
    elif isinstance(default, tuple):
        if isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]:
            return float(value[0]), float(value[1])
        expected = "two numbers (low, high) with low <= high"
    elif isinstance(default, str):
        if isinstance(value, str):
            return value
        expected = "text"
    elif isinstance(default, float):
        if _is_number(value):
            return float(value)
        expected = "a number"
    elif isinstance(value, int | str) and not isinstance(value, bool):  # A body, by index or name.
        return value
    else:
        expected = "an index or a name"
    message = f"{what} must be {expected}, got {value!r}"
    raise UserError(message)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value  # NaN is no number
