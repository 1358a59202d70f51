"""Environments: batched physics, tasks on top of it, disturbances, and adapters to gymnasium and Stable-Baselines3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlstab.envs.library_order import prepare_import_of_mujoco
from rlstab.envs.registration import register

if TYPE_CHECKING:
    from rlstab.envs.batch_env import BatchEnv
    from rlstab.envs.registry import make_task, make_vec, native_ids

__all__ = ["BatchEnv", "make_task", "make_vec", "native_ids"]

prepare_import_of_mujoco()
register()

_HOMES = {"BatchEnv": "batch_env", "make_task": "registry", "make_vec": "registry", "native_ids": "registry"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"rlstab.envs.{_HOMES[name]}"), name)
    message = f"module 'rlstab.envs' has no attribute '{name}'"
    raise AttributeError(message)
