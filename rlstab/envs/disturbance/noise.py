"""Noise on the observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.ranges import Scalar, check_bounds, draw
from rlstab.envs.disturbance.streams import StreamEffect
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError


@dataclass(frozen=True)
class ObservationNoise(Disturbance):
    """Independent noise added to every component of every observation, the last of an episode included.

    Parameters
    ----------
    sigma
        Size in the observation's units, or in those of ``scale``; a `Range` is drawn once an episode.
    distribution
        ``"gaussian"``: ``sigma`` is the standard deviation. ``"uniform"``: on ``[-sigma, sigma]``.
    scale
        Size of one unit of each component, for example the standard deviations of a policy's normaliser; empty for
        ones.

    Raises
    ------
    UserError
        A value is out of range; later, the observation is not a vector of floats of the length of ``scale``.
    """

    kind: ClassVar[str] = "observation_noise"

    sigma: Scalar
    distribution: Literal["gaussian", "uniform"] = "gaussian"
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("sigma", self.sigma, 0.0)
        if self.distribution not in ("gaussian", "uniform"):
            message = f"noise is 'gaussian' or 'uniform', not '{self.distribution}'"
            raise UserError(message)
        object.__setattr__(self, "scale", tuple(float(item) for item in self.scale))

    @property
    def stream(self) -> str:
        """See `Disturbance.stream`."""
        return f"{self.kind}/{self.distribution}"

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return _NoiseEffect(self, view)


class _NoiseEffect(StreamEffect):
    memory = ("sigma",)

    def __init__(self, noise: ObservationNoise, view: EnvView) -> None:
        super().__init__(view, noise.stream)
        self.noise = noise
        self.unit = np.array(noise.scale) if noise.scale else np.ones(1)
        self.sigma: FloatArray = np.zeros(view.num_envs)

    def begin(self, worlds: IntArray) -> None:
        super().begin(worlds)
        for world in worlds.tolist():
            self.sigma[world] = draw(self.noise.sigma, self.streams[world])

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return self.first_observation(observation, np.arange(self.view.num_envs))

    def first_observation(self, observation: NDArray[Any], worlds: IntArray) -> NDArray[Any]:
        if not np.issubdtype(observation.dtype, np.floating):
            message = f"observation noise needs observations of floats, this environment's are {observation.dtype}"
            raise UserError(message)
        size = observation.shape[1:]
        if len(self.unit) not in (1, int(np.prod(size))):
            message = f"the noise has {len(self.unit)} scales, the observation has shape {size}"
            raise UserError(message)
        gaussian = self.noise.distribution == "gaussian"
        drawn = np.empty(observation.shape)
        for row, world in enumerate(worlds.tolist()):
            rng = self.streams[world]
            drawn[row] = rng.standard_normal(size) if gaussian else rng.uniform(-1.0, 1.0, size)
        unit = self.unit if len(self.unit) == 1 else self.unit.reshape(size)
        sigma = self.sigma[worlds].reshape(-1, *(1,) * len(size))
        return (observation + sigma * unit * drawn).astype(observation.dtype)
