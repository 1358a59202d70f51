"""From raw observations to what a network reads."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstab.errors import UserError
from rlstab.policies.networks import SMALLEST_PICTURE, NatureCNN
from rlstab.policies.normalizer import RunningNormalizer
from rlstab.policies.spaces import space_to_json


def is_picture(space: gymnasium.Space) -> bool:
    """Whether observations go through the convolutional trunk: ``uint8``, three axes, and large enough for it.

    Smaller grids of bytes are flattened and treated as vectors.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    # Channels are the smaller end axis (see `ActorCritic`).
    first, middle, last = space.shape
    return min(middle, max(first, last)) >= SMALLEST_PICTURE


class ObservationInput(nn.Module):
    """Base of networks that read observations.

    Vector observations are flattened and normalised; discrete observations become one-hot vectors; pictures
    (`is_picture`) go through a `NatureCNN`.

    Parameters
    ----------
    space
        Of one observation.
    generator
        Source of the initial weights.
    normalize
        Whether vectors are normalised by running statistics.
    cnn_features
        Width of the convolutional trunk's output.

    Attributes
    ----------
    size
        Number of features.

    Raises
    ------
    UserError
        The observation space is a dictionary or tuple.
    """

    def __init__(
        self, space: gymnasium.Space, generator: torch.Generator, *, normalize: bool = True, cnn_features: int = 512
    ) -> None:
        super().__init__()
        self.normalizer: RunningNormalizer | None = None
        self.trunk: NatureCNN | None = None
        self.classes = 0
        self.channels_last = False
        match space:
            case spaces.Box(shape=shape) if is_picture(space):
                # Channels come last in raw images and first after frame stacking; the smaller end axis tells.
                self.channels_last = shape[-1] < shape[0]
                chw = (shape[2], shape[0], shape[1]) if self.channels_last else (shape[0], shape[1], shape[2])
                self.trunk = NatureCNN(chw, cnn_features, generator)
                self.size = cnn_features
            case spaces.Box():
                self.size = int(np.prod(space.shape))
                if normalize:
                    self.normalizer = RunningNormalizer(self.size)
            case spaces.Discrete():
                self.classes = self.size = int(space.n)
                self.first_class = int(space.start)
            case _:
                space_to_json(space)  # Raises with what to do about Dict and Tuple.
                raise UserError(f"{type(space).__name__} observations are not supported by this policy")

    def features(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Network input ``(batch, size)`` from raw observations ``(batch, *space.shape)``."""
        return self.normalized(self.flat(observation, dtype))

    def flat(self, observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Do as `features` without normalising vectors."""
        if self.trunk is not None:
            image = observation.movedim(-1, 1) if self.channels_last else observation
            return self.trunk(image.float())
        if self.classes:
            return nn.functional.one_hot(observation.long() - self.first_class, self.classes).to(dtype)
        flat = observation.to(dtype)
        # One number has no axis of its own.
        flat = flat[:, None] if flat.ndim == 1 else flat.flatten(start_dim=1)
        if flat.shape[1] != self.size:
            raise UserError(f"observations must be of {self.size} numbers each, got shape {tuple(observation.shape)}")
        return flat

    def normalized(self, flat: Tensor) -> Tensor:
        """Features of what `flat` returned."""
        return flat if self.normalizer is None else self.normalizer(flat)
