"""Networks that carry a state from one step to the next, beside those that do not, when a policy is exported.

A module carries state if it has ``state_names`` and ``empty_state(batch)``, takes the state's tensors after the
observation, and gives those of the next step after the action (`rlstab.policies.transformer.recurrent`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rlstab.sim2real.contract import RecurrentState

if TYPE_CHECKING:
    import torch

    from rlstab.sim2real.policy_onnx import OnnxPolicy


def has_state(module: torch.nn.Module) -> bool:
    """Whether a module carries state."""
    return hasattr(module, "state_names")


def states_of(module: torch.nn.Module) -> tuple[RecurrentState, ...]:
    """Describe the state of a module; empty if it has none."""
    if not has_state(module):
        return ()
    names = cast("tuple[str, ...]", module.state_names)
    return tuple(
        RecurrentState(name, tuple(part.shape[1:])) for name, part in zip(names, _empty(module, 1), strict=True)
    )


def actions_of(module: torch.nn.Module, observations: NDArray[np.float32]) -> NDArray[Any]:
    """Actions ``(n, ...)`` for observations ``(n, ...)``: of each alone, or of all in turn where there is state."""
    import torch

    rows: Any = torch.from_numpy(observations)  # pyright: ignore[reportUnknownMemberType]
    with torch.no_grad():
        if not has_state(module):
            return module(rows).numpy()
        state, actions = _empty(module, 1), list[Any]()
        for row in rows.split(1):
            action, *state = module(row, *state)
            actions.append(action)
    return torch.cat(actions).numpy()


def rolled(policy: OnnxPolicy, observations: NDArray[Any]) -> NDArray[Any]:
    """Actions ``(n, ...)`` of a policy that sees ``observations (n, ...)`` one after the other."""
    state: Any = None
    actions: list[NDArray[Any]] = []
    for observation in observations:
        action, state = policy.predict(observation, state)
        actions.append(action)
    return np.stack(actions)


def example_inputs(
    module: torch.nn.Module, observations: NDArray[np.float32]
) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
    """Inputs to trace a module with, and the names of those after the observation."""
    import torch

    # Two rows: tracing takes an extent of one for a constant.
    rows: Any = torch.from_numpy(observations[:2])  # pyright: ignore[reportUnknownMemberType]
    if not has_state(module):
        return (rows,), ()
    return (rows, *_empty(module, 2)), cast("tuple[str, ...]", module.state_names)


def _empty(module: Any, batch: int) -> list[torch.Tensor]:
    return list(module.empty_state(batch))
