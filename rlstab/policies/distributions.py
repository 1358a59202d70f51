"""From network outputs to action distributions, one head a kind of action space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal
from torch.nn.functional import logsigmoid

from rlstab.errors import UserError


class MultiCategorical(Distribution):
    """Independent categorical choices, one a component of a ``MultiDiscrete`` action.

    Parameters
    ----------
    logits
        ``(batch, sum of nvec)``.
    nvec
        Number of choices of each component.
    """

    def __init__(self, logits: Tensor, nvec: list[int]) -> None:
        self.parts = [Categorical(logits=part, validate_args=False) for part in logits.split(nvec, dim=-1)]
        super().__init__(logits.shape[:-1], torch.Size([len(nvec)]), validate_args=False)

    @property
    def mode(self) -> Tensor:
        """Most probable choice of each component, ``(batch, len(nvec))``."""
        return torch.stack([part.mode for part in self.parts], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Joint log-probability, ``(batch,)``."""
        return torch.stack([part.log_prob(value[..., i]) for i, part in enumerate(self.parts)]).sum(dim=0)

    def entropy(self) -> Tensor:
        """Joint entropy in nats, ``(batch,)``."""
        return torch.stack([part.entropy() for part in self.parts]).sum(dim=0)


class ActionHead(nn.Module):
    """Turns the actor's output into a distribution over ``space`` and samples from it.

    Parameters
    ----------
    space
        ``Box`` (Gaussian with a state-independent standard deviation), ``Discrete``, ``MultiDiscrete`` or
        ``MultiBinary``.
    log_std_init
        Initial logarithm of the standard deviation, in the units of the action.

    Attributes
    ----------
    inputs
        Numbers that the distribution needs for each action, and in which `encode` describes one.
    """

    log_std: nn.Parameter | None
    low: Tensor
    high: Tensor

    def __init__(self, space: spaces.Space, log_std_init: float = 0.0) -> None:
        super().__init__()
        self.space = space
        self.log_std = None
        match space:
            case spaces.Box():
                self.inputs = int(np.prod(space.shape))
                self.log_std = nn.Parameter(torch.full((self.inputs,), float(log_std_init)))
                self.register_buffer("low", torch.as_tensor(space.low, dtype=torch.float32).flatten(), persistent=False)
                self.register_buffer(
                    "high", torch.as_tensor(space.high, dtype=torch.float32).flatten(), persistent=False
                )
            case spaces.Discrete():
                self.inputs = int(space.n)
            case spaces.MultiDiscrete():
                self.choices = [int(count) for count in space.nvec.flatten()]
                self.inputs = sum(self.choices)
            case spaces.MultiBinary():
                self.inputs = int(np.prod(space.shape))
            case _:
                message = (
                    f"{type(space).__name__} actions are not supported: use Box, Discrete, MultiDiscrete or MultiBinary"
                )
                raise UserError(message)

    def forward(self, outputs: Tensor) -> Distribution:
        """Distribution for actor outputs ``(batch, inputs)``."""
        match self.space:
            case spaces.Box():
                assert self.log_std is not None
                normal = Normal(outputs, self.log_std.exp().expand_as(outputs), validate_args=False)
                return Independent(normal, 1, validate_args=False)
            case spaces.Discrete():
                return Categorical(logits=outputs, validate_args=False)
            case spaces.MultiDiscrete():
                return MultiCategorical(outputs, self.choices)
            case _:
                return Independent(Bernoulli(logits=outputs, validate_args=False), 1, validate_args=False)

    def mode(self, outputs: Tensor) -> Tensor:
        """Deterministic action; for ``Box`` the mean, not yet clipped to the bounds."""
        match self.space:
            case spaces.Box():
                return outputs
            case spaces.Discrete():
                return outputs.argmax(dim=-1)
            case spaces.MultiDiscrete():
                parts = outputs.split(self.choices, dim=-1)
                return torch.stack([part.argmax(dim=-1) for part in parts], dim=-1)
            case _:
                return (outputs > 0).to(outputs.dtype)

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a row; without a generator, from torch's global one."""
        match self.space:
            case spaces.Box():
                assert self.log_std is not None
                noise = torch.randn(outputs.shape, generator=generator, device=outputs.device)
                return outputs + self.log_std.exp() * noise
            case spaces.Discrete():
                return _draw(outputs, generator)
            case spaces.MultiDiscrete():
                parts = outputs.split(self.choices, dim=-1)
                return torch.stack([_draw(part, generator) for part in parts], dim=-1)
            case _:
                return torch.bernoulli(outputs.sigmoid(), generator=generator)

    def sampler(self, n_steps: int, batch: int, generator: torch.Generator) -> Callable[[int, Tensor], Tensor]:
        """Sampling function of ``(step, outputs)`` for one rollout; Gaussian noise is drawn once for all its steps."""
        if self.log_std is None:
            return lambda _, outputs: self.sample(outputs, generator)
        noise = torch.randn((n_steps, batch, self.inputs), generator=generator, device=self.log_std.device)
        noise *= self.log_std.detach().exp()
        return lambda step, outputs: outputs + noise[step]

    def log_normalizers(self, outputs: Tensor) -> Tensor:
        """Logarithms of the sums of exponentiated logits, ``(batch, components)``; ``(Multi)Discrete`` actions only."""
        multi = isinstance(self.space, spaces.MultiDiscrete)
        parts = outputs.split(self.choices, dim=-1) if multi else (outputs,)
        return torch.stack([part.logsumexp(-1) for part in parts], dim=-1)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Kullback-Leibler divergence ``KL(outputs || others)`` of two distributions, in nats.

        Parameters
        ----------
        outputs, others
            Actor outputs ``(batch, inputs)``.

        Returns
        -------
        Tensor
            ``(batch,)``, non-negative.
        """
        if isinstance(self.space, spaces.Box):
            assert self.log_std is not None
            return 0.5 * ((others - outputs) * (-self.log_std).exp()).square().sum(-1)
        if isinstance(self.space, spaces.MultiBinary):
            one = outputs.sigmoid() * (logsigmoid(outputs) - logsigmoid(others))
            zero = (-outputs).sigmoid() * (logsigmoid(-outputs) - logsigmoid(-others))
            return (one + zero).sum(-1)
        sizes = self.choices if isinstance(self.space, spaces.MultiDiscrete) else [self.inputs]
        pairs = zip(outputs.split(sizes, dim=-1), others.split(sizes, dim=-1), strict=True)
        return torch.stack([_categorical_divergence(*pair) for pair in pairs]).sum(0)

    def encode(self, action: Tensor) -> Tensor:
        """Describe sampled actions to a network, ``(batch, inputs)``: clipped to the bounds, bits, or one-hot."""
        match self.space:
            case spaces.Box():
                return action.clamp(self.low, self.high)
            case spaces.Discrete():
                return nn.functional.one_hot(action.long(), self.inputs).float()
            case spaces.MultiDiscrete():
                parts = [nn.functional.one_hot(action[:, i].long(), n) for i, n in enumerate(self.choices)]
                return torch.cat(parts, dim=1).float()
            case _:
                return action.float()

    def from_environment(self, action: Tensor) -> Tensor:
        """What `to_environment` was given for actions ``(batch, *space.shape)``, as far as clipping has left it."""
        if isinstance(self.space, spaces.Discrete):
            return action.reshape(-1) - int(self.space.start)
        flat = action.flatten(1)
        if isinstance(self.space, spaces.MultiDiscrete):
            return flat - torch.as_tensor(self.space.start, dtype=flat.dtype, device=flat.device).flatten()
        return flat.float()

    def to_environment(self, action: Tensor) -> Tensor:
        """What the environment gets: ``Box`` actions are clipped to the bounds and given the space's shape.

        Discrete spaces that start at numbers other than zero are shifted, and bits become integers.
        """
        if isinstance(self.space, spaces.Box):
            return action.clamp(self.low, self.high).reshape(-1, *self.space.shape)
        if isinstance(self.space, spaces.Discrete) and self.space.start:
            return action + int(self.space.start)
        if isinstance(self.space, spaces.MultiDiscrete):
            start = torch.as_tensor(self.space.start, dtype=action.dtype, device=action.device)
            return action.reshape(-1, *self.space.shape) + start
        if isinstance(self.space, spaces.MultiBinary):
            return action.to(torch.int8).reshape(-1, *self.space.shape)
        return action


def gaussian_log_prob(noise: Tensor, log_std: Tensor) -> Tensor:
    """Log-density ``(...,)`` of ``mean + exp(log_std) * noise``, from the standardised ``noise (..., dim)``."""
    constant = 0.5 * noise.shape[-1] * math.log(2.0 * math.pi)
    return -0.5 * noise.square().sum(-1) - log_std.sum() - constant


def _categorical_divergence(logits: Tensor, others: Tensor) -> Tensor:
    log_probabilities = logits.log_softmax(-1)
    return (log_probabilities.exp() * (log_probabilities - others.log_softmax(-1))).sum(-1)


def _draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    probabilities: Any = logits.softmax(dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
