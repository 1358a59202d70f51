"""How an action depends on what was observed some steps ago: how strongly a glitch of a sensor acts later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlstab.analysis.bootstrap import FloatArray
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.policies.transformer.network import TransformerActorCritic
    from rlstab.policies.transformer.policy import TransformerPolicy


@dataclass(frozen=True, eq=False, repr=False)
class HistoryGains(Result):
    """Spectral norms of the derivative of a policy's output in the observation of each age.

    Measured at the episodes given: an empirical statement about them, no bound for others.
    """

    kind: ClassVar[str] = "history_gains"

    mean: FloatArray = field(metadata={"unit": "output per observation"})
    """``(T,)``: mean over episodes of the norm for the observation 0, 1, ... steps ago. Outputs are means of the action
    or logits; observations count in standard deviations of what the policy has seen if it normalises them."""
    worst: FloatArray = field(metadata={"unit": "output per observation"})
    """``(T,)``: largest over episodes."""
    bias: float = 0.0
    """Largest over episodes of the sum over ages: bounds, to first order, what a constant offset of a sensor does."""

    def summary(self) -> dict[str, Scalar]:
        """Gains now and of the past."""
        past = self.worst[1:] if len(self.worst) > 1 else np.zeros(1)
        return {
            "largest gain now": float(self.worst[0]),
            "largest gain of the past": float(past.max()),
            "at an age of": int(past.argmax()) + 1,
            "gain of a constant offset": self.bias,
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw both gains against the age."""
        from rlstab.analysis import plots

        ax = ax if ax is not None else plots.new_axes()
        ages = np.arange(len(self.mean))
        ax.plot(ages, self.worst, label="largest")
        ax.plot(ages, self.mean, label="mean")
        ax.set_yscale("log")
        ax.set_xlabel("age of the observation (steps)")
        ax.set_ylabel("gain")
        ax.legend()
        return ax


def history_gains(network: TransformerActorCritic, observations: Tensor, actions: Tensor | None = None) -> HistoryGains:
    """Differentiate a policy's output at the last step in every observation up to it.

    Parameters
    ----------
    network
        A transformer policy's network.
    observations
        ``(B, T, *space.shape)``, raw: the first ``T`` steps of some episodes, or any ``T`` consecutive ones.
    actions
        ``(B, T, ...)``: those at the step before each; see `TransformerActorCritic.forward`. They are held fixed: what
        an observation does through the action that followed it is left out.

    Raises
    ------
    UserError
        Observations are not real numbers, or there are none.

    Examples
    --------
    >>> from gymnasium.spaces import Box
    >>> from rlstab.policies.transformer.policy import TransformerPolicy
    >>> policy = TransformerPolicy(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)))
    >>> history_gains(policy.module, torch.randn(4, 50, 3)).mean.shape
    (50,)
    """
    if not observations.is_floating_point() or observations.ndim < 3 or 0 in observations.shape:
        raise UserError(
            f"observations must be real numbers of shape (B, T, ...), got {observations.dtype} "
            f"{tuple(observations.shape)}"
        )
    seen = observations.detach().clone().requires_grad_()
    outputs = network.outputs(seen, actions)
    rows = [torch.autograd.grad(column.sum(), seen, retain_graph=True)[0] for column in outputs.unbind(1)]
    jacobian = torch.stack([row.flatten(2) for row in rows], dim=2)
    if network.normalizer is not None:
        jacobian = jacobian * network.normalizer.var.sqrt().to(jacobian.dtype)
    # Newest first; double precision for the singular values.
    norms = torch.linalg.matrix_norm(jacobian.double(), 2).flip(1).cpu().numpy()
    return HistoryGains(mean=norms.mean(0), worst=norms.max(0), bias=float(norms.sum(1).max()))


def first_steps(
    policy: TransformerPolicy, env_id: str, steps: int, *, episodes: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Play the beginning of some episodes, for `history_gains`.

    Parameters
    ----------
    policy
        Acts deterministically.
    env_id
        Where.
    steps
        How many; fewer if an episode ends earlier.
    episodes
        How many.
    seed
        Of the environment.

    Returns
    -------
    observations, actions
        ``(episodes, T, *space.shape)``, and ``(episodes, T, ...)``: the actions at the step before each, as the head
        samples them, zero at the first.
    """
    from rlstab.envs.registry import make_vec

    env = make_vec(env_id, episodes, seed)
    observations: list[Tensor] = []
    actions: list[Tensor] = []
    try:
        observation, state, action = env.reset(seed=seed)[0], None, None
        for _ in range(steps):
            observations.append(torch.as_tensor(np.array(observation, np.float32)))
            chosen, state = policy.predict(observation, state, deterministic=True)
            taken = policy.module.head.from_environment(torch.as_tensor(np.asarray(chosen)))
            actions.append(torch.zeros_like(taken) if action is None else action)
            action = taken
            observation, _, terminated, truncated, _ = env.step(chosen)
            if np.any(terminated | truncated):
                break
    finally:
        env.close()
    return torch.stack(observations, 1), torch.stack(actions, 1)
