"""The parts of every disturbance: a value that says what may happen, and the effect it has on one batch of worlds."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics.interface import FloatArray, IntArray, Physics


class EnvView(Protocol):
    """What an effect may see of the batch it acts on; `rlstab.envs.batch_env.BatchEnv` is one."""

    @property
    def num_envs(self) -> int:
        """Number of worlds."""
        ...

    @property
    def dt(self) -> float:
        """Control period, seconds."""
        ...

    @property
    def model(self) -> Any:
        """The compiled model shared by all worlds, undisturbed."""
        ...

    @property
    def physics(self) -> Physics:
        """The engine."""
        ...

    @property
    def elapsed_steps(self) -> IntArray:
        """Control steps completed in each world's episode, ``(num_envs,)``; 0 while the first one is prepared."""
        ...

    def rng(self, world: int, purpose: str) -> np.random.Generator:
        """Begin a stream that depends only on the seed, the world, its present episode and the purpose."""
        ...


class Effect:
    """One disturbance attached to one batch: the drawn values and whatever memory it needs.

    In each control step the environment calls `action`, `wrench` and, after stepping, `observation`. For worlds whose
    episode begins it calls `begin` before they are put at their initial state, then `first_observation`. Subclasses
    override what they need; arrays named in ``memory`` are saved and restored with the environment.
    """

    memory: ClassVar[tuple[str, ...]] = ()

    def begin(self, worlds: IntArray) -> None:
        """Draw new values for ``worlds (k,)``, whose episode begins."""

    def action(self, action: NDArray[Any]) -> NDArray[Any]:
        """What reaches the robots of the commanded ``action (num_envs, act_dim)``."""
        return action

    def wrench(self) -> FloatArray | None:
        """Wrench ``(num_envs, nbody, 6)`` held during the step about to be taken, as `Physics.step` takes it."""
        return None

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """What the policies see of the true ``observation (num_envs, ...)`` after a step."""
        return observation

    def first_observation(self, observation: NDArray[Any], worlds: IntArray) -> NDArray[Any]:
        """What the policies see of the true ``observation (k, ...)`` that begins an episode of ``worlds (k,)``."""
        return observation

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays in ``memory``."""
        return {name: np.array(getattr(self, name)) for name in self.memory if getattr(self, name) is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in self.memory:
            setattr(self, name, np.array(state[name]) if name in state else None)


@dataclass(frozen=True)
class Disturbance(ABC):
    """Something the world does to the robot, as a value: comparable, printable, storable in a configuration.

    The same object can serve any number of environments; `attach` makes what belongs to one of them.
    """

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        # A sweep over numpy.arange gives numpy's numbers, which JSON does not know.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())

    @property
    def fields(self) -> tuple[str, ...]:
        """Derived engine quantities that the effect reads, named as in ``mjData``."""
        return ()

    @property
    def stream(self) -> str:
        """Purpose of this disturbance's random numbers.

        It does not contain sizes, so that a weaker and a stronger variant draw alike and can be compared in pairs.
        """
        return self.kind

    @abstractmethod
    def attach(self, view: EnvView) -> Effect:
        """The effect on one batch.

        Raises
        ------
        UserError
            The disturbance does not fit the model, for example an unknown body.
        """
