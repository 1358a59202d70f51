"""What every policy offers, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray


@runtime_checkable
class Policy(Protocol):
    """Stable-Baselines3's ``predict`` protocol, shared by networks, controllers, ONNX files and SB3's own models."""

    observation_space: gymnasium.Space
    action_space: gymnasium.Space

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch of them, and the recurrent state.

        Parameters
        ----------
        observation
            ``space.shape`` or ``(batch, *space.shape)``.
        state
            Recurrent state of the previous call, ``None`` for memoryless policies.
        episode_start
            ``(batch,)`` bool: where an episode begins, and memory must be cleared.
        deterministic
            The mode of the action distribution instead of a sample.
        """
        ...


class TorchPolicy(ABC):
    """A policy whose network is at hand: differentiable, exportable, saved without pickle."""

    kind: str
    observation_space: gymnasium.Space
    action_space: gymnasium.Space

    @property
    @abstractmethod
    def module(self) -> torch.nn.Module:
        """The differentiable network: ``forward(observation)`` gives a distribution or action values."""

    @abstractmethod
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `Policy.predict`."""

    @abstractmethod
    def deterministic_module(self) -> torch.nn.Module:
        """Raw observations ``(batch, *space.shape)`` float32 to environment actions; this is what `export` writes."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON description from which the network is rebuilt."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """``{"kind", "config", "weights"}``: a tree of arrays and JSON values (see `rlstab.policies.loading`)."""


def as_batch(observation: Any, space: gymnasium.Space) -> tuple[NDArray[Any], bool]:
    """Add the batch axis if it is missing; also tell whether it was there.

    Raises
    ------
    ValueError
        The shape fits neither one observation nor a batch, or there is NaN or infinity in it.
    """
    array = np.asarray(observation)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"the observation holds {array[place]} at {list(place)}: no action follows from it")
    shape = space.shape or ()
    if array.shape == shape:
        return array[None], False
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array, True
    message = f"observation has shape {array.shape}; expected {shape} or (batch, {', '.join(map(str, shape))})"
    raise ValueError(message)
