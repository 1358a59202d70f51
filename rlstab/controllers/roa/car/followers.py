"""Who drives after the car's references: networks, linear regulators, and policies of the learning environment."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from rlstab.controllers.roa.car.drive import FloatArray, Follower, IntArray
from rlstab.envs.hybrid.car import Car
from rlstab.envs.hybrid.car_lqr import CarLqr, car_lqr
from rlstab.envs.hybrid.system import HybridState
from rlstab.policies.base import Policy
from rlstab.policies.roa.car import CarModel, Tuned

Mode = tuple[float, float]
"""Friction and speed."""


class NetworkFollower(Follower):
    """The controller of a trained model.

    Parameters
    ----------
    model
        The networks.
    mode
        The one mode that it is told whatever the road; None: that of the road.
    """

    def __init__(self, model: CarModel, mode: Mode | None = None) -> None:
        self._model, self._mode = model.eval(), mode
        self._tuned: list[Tensor] | None = None

    @torch.no_grad()
    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        """See `Follower.begin`."""
        told = modes if self._mode is None else np.broadcast_to(self._mode, modes.shape)
        new = self._model.tune(torch.tensor(told, dtype=torch.float32))
        if self._tuned is None:
            # All worlds begin together.
            self._tuned = [part.clone() for part in new]
            return
        for kept, part in zip(self._tuned, new, strict=True):
            kept[worlds] = part

    @torch.no_grad()
    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `Follower.act`."""
        assert self._tuned is not None
        parts = self._tuned if len(worlds) == len(self._tuned[0]) else [part[worlds] for part in self._tuned]
        x = torch.from_numpy(state.x[:, :7]).to(torch.float32)
        return self._model.steer(x, Tuned(*parts)).numpy().astype(np.float64)


class LqrFollower(Follower):
    """Linear-quadratic regulator of each mode.

    Parameters
    ----------
    control_weight
        See `car_lqr`.
    mode
        The one mode whose gains it always uses; None: those of the road's.
    """

    def __init__(self, control_weight: float = 1.0, mode: Mode | None = None) -> None:
        self._weight, self._mode = control_weight, mode
        self._gain = np.zeros((0, 2, 7))

    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        """See `Follower.begin`."""
        told = modes if self._mode is None else np.broadcast_to(self._mode, modes.shape)
        if not len(self._gain):
            self._gain = np.zeros((len(worlds), 2, 7))
        self._gain[worlds] = [designed(*map(float, row), self._weight).gain for row in told]

    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `Follower.act`."""
        return -np.einsum("nij,nj->ni", self._gain[worlds], state.x[:, :7])


class PolicyFollower(Follower):
    """A policy of `rlstab/CarTracking-v0`, such as a trained SAC, shown what that environment observes."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, worlds: IntArray, modes: FloatArray) -> None:
        """Nothing: the observation tells the mode."""

    def act(self, worlds: IntArray, state: HybridState) -> FloatArray:
        """See `Follower.act`."""
        car = Car(state.configuration.shape[1] // 6, "bisector")
        here, following, turn = car.of_piece(state), car.of_piece(state, 1), car.turn(state)
        straight = np.zeros(len(worlds))
        parts = (
            *(here[:, 1], straight, here[:, 0]),
            *(0.5 * turn, car.distance_left(state), turn),
            *(following[:, 1], straight, following[:, 0]),
        )
        observation = np.concatenate([state.x[:, :7], np.stack(parts, 1)], 1).astype(np.float32)
        return np.asarray(self._policy.predict(observation, deterministic=True)[0], np.float64)


class QuadraticModes:
    """Lyapunov functions made by hand, for `CarPlanner` without any network: those of `car_lqr`, at any level.

    Parameters
    ----------
    control_weight
        See `car_lqr`; ``V`` is half the squared error to come of the linearised car under that regulator.
    """

    def __init__(self, control_weight: float = 1.0) -> None:
        self._weight = control_weight

    def factor(self, configuration: Tensor, /) -> Tensor:
        """See `rlstab.controllers.roa.car.planner.Modes.factor`."""
        # Rounded as networks read them, so that equal modes are designed once.
        rows = [_cholesky(round(mu, 6), round(speed, 6), self._weight) for mu, speed in configuration.tolist()]
        return torch.tensor(np.array(rows), dtype=configuration.dtype)

    def level(self, configuration: Tensor, /) -> Tensor:
        """Infinite: nothing is known."""
        return torch.full((len(configuration),), torch.inf, dtype=configuration.dtype)


@functools.lru_cache(maxsize=4096)
def designed(friction: float, speed: float, control_weight: float) -> CarLqr:
    """Regulator of a mode, remembered."""
    return car_lqr(friction, speed, control_weight=control_weight)


@functools.lru_cache(maxsize=4096)
def _cholesky(friction: float, speed: float, control_weight: float) -> FloatArray:
    return np.asarray(np.linalg.cholesky(designed(friction, speed, control_weight).p).T, np.float64)
