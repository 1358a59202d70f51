"""Stable-Baselines3's callbacks and logger on our learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import configure


def attach(learner: Any, callback: BaseCallback | list[BaseCallback] | Callable[..., bool] | None) -> BaseCallback:
    """Give the learner a logger if it has none, and initialise the callback on it.

    Parameters
    ----------
    learner
        Has Stable-Baselines3's public attributes: ``num_timesteps``, ``logger``, ``get_env()``, ``predict``.
    callback
        One callback, a list, a function of ``(locals, globals)`` that returns whether to go on, or None.
    """
    if learner.logger is None:
        learner.logger = configure(None, [])
    if isinstance(callback, BaseCallback):
        watcher = callback
    elif isinstance(callback, list):
        watcher = CallbackList(callback)
    else:
        watcher = ConvertCallback(callback) if callback is not None else CallbackList([])
    watcher.init_callback(learner)
    return watcher
