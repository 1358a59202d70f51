"""PPO that is charged for answering nearby observations differently."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from rlstab.controllers.sa_ppo.state_adversarial_config import StateAdversarialConfig
from rlstab.errors import UserError
from rlstab.learning.ascent import climb
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.surrogate import Minibatch, Perceptron, StepStatistics
from rlstab.policies.actor_critic import ActorCritic
from rlstab.policies.observation_input import is_picture

# Of the noise in the search, as in the authors' code.
_TEMPERATURE = 1e-5


class StateAdversarialLearner(OnPolicyLearner):
    """Proximal policy optimisation with state-adversarial regularisation, SA-PPO.

    Two things are not the authors'. The changes that move the policy most are searched for once a pass over the
    samples, for all of them at once, from the second pass on by a few more steps from where the pass before ended, and
    not for each minibatch anew: on small networks that costs a fraction, and the policy moves little within a pass. And
    the standard deviation of a Gaussian policy is left out of the regulariser's gradient, while the answer to the true
    observation is in it: more noise would lower the divergence without making the mean, which is what acts in the end,
    less sensitive.

    Parameters
    ----------
    env, total_steps, seed, device
        See `OnPolicyLearner`.
    config
        Of the learning and of the regulariser.

    Raises
    ------
    UserError
        As `OnPolicyLearner`, or observations are pictures.

    References
    ----------
    Zhang et al. 2020, "Robust Deep Reinforcement Learning against Adversarial Perturbations on State Observations",
    arXiv:2003.08938.
    """

    config: StateAdversarialConfig

    def __init__(
        self,
        env: VectorEnv,
        config: StateAdversarialConfig | None = None,
        *,
        total_steps: int = 1_000_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        settings = config or StateAdversarialConfig()
        if is_picture(env.single_observation_space):
            raise UserError(
                "sa_ppo changes vectors of numbers, but the environment observes pictures: train it with ppo"
            )
        super().__init__(env, settings, total_steps=total_steps, seed=seed, device=device)

    def update(self) -> dict[str, float]:
        """See `OnPolicyLearner.update`."""
        rule = self._gradient
        assert isinstance(rule, RegularisedGradient)
        rule.found.clear()
        metrics = super().update() | {"train/epsilon": self._radius()}
        if rule.found:
            # Of the last pass, as what is reported of the surrogate.
            last = self.config.n_steps * self.num_envs // self.config.batch_size
            metrics["train/divergence"] = float(torch.stack(rule.found[-last:]).mean())
        return metrics

    def _make_gradient(self) -> Callable[[Any], StepStatistics]:
        return RegularisedGradient(self.network, super()._make_gradient(), self.config.kappa)

    def _radius(self) -> float:
        """Epsilon at the start of this rollout."""
        done = (self.num_timesteps - self.config.n_steps * self.num_envs) / self.total_steps
        share = 1.0 if self.config.ramp == 0.0 else min(1.0, max(0.0, done) / self.config.ramp)
        return self.config.epsilon * share

    def _samples(self) -> Any:
        samples = super()._samples()
        radius = self._radius()
        if self.config.kappa == 0.0 or radius == 0.0:
            return samples
        return _Searched(samples, functools.partial(self._worst_change, radius))

    def _worst_change(self, radius: float, features: Tensor, before: Tensor | None) -> Tensor:
        """Changes of normalised observations ``(N, size)`` that move the policy most; ``before``: found by a search."""
        config, network, generator = self.config, self.network, self._generator
        with torch.no_grad():
            clean = network.actor(features)

        def divergence(change: Tensor) -> Tensor:
            return network.head.divergence(clean, network.actor(features + change))

        def noise(number: int) -> Tensor:
            drawn = torch.randn(features.shape, generator=generator, device=self.device)
            return drawn * ((2.0 * step * _TEMPERATURE) ** 0.5 / (number + 2))

        step = radius / config.inner_steps
        if before is not None:
            return climb(divergence, before, radius, math.ceil(config.inner_steps / 5), step)
        start = torch.rand(features.shape, generator=generator, device=self.device) - 0.5
        if config.inner == "pgd":
            return climb(divergence, 2.0 * radius * start, radius, config.inner_steps, 2.5 * step)
        # One step away in a random direction: at the observation itself the divergence has no slope.
        return climb(divergence, step * start.sign(), radius, config.inner_steps, step, noise)


@dataclass(frozen=True)
class NearbyMinibatch(Minibatch):
    """Samples with ``nearby``: network inputs close to theirs, to which the policy should answer alike."""

    nearby: Tensor


class RegularisedGradient:
    """The gradient of another rule, and that of the divergence between the answers to nearby observations.

    Parameters
    ----------
    network
        Whose parameters are differentiated.
    rule
        The other rule; may write its gradient, as it comes first.
    kappa
        Weight of the mean divergence.

    Attributes
    ----------
    found
        Mean divergence of every minibatch, in nats.
    """

    def __init__(self, network: ActorCritic, rule: Callable[[Any], StepStatistics], kappa: float) -> None:
        self._network = network
        self._rule = rule
        self._kappa = kappa
        self._closed = Perceptron(network.actor) if Perceptron.represents(network.actor) else None
        self.found: list[Tensor] = []

    def __call__(self, batch: Minibatch) -> StepStatistics:
        """Differentiate the loss on a minibatch; only a `NearbyMinibatch` has the second term."""
        statistics = self._rule(batch)
        if isinstance(batch, NearbyMinibatch):
            self.found.append(self._add(torch.cat([batch.inputs, batch.nearby])))
        return statistics

    def _add(self, inputs: Tensor) -> Tensor:
        """Add the gradient in the actor's parameters; observations ``(2 N, size)``, then those nearby."""
        network = self._network
        if self._closed is None:
            divergence = network.head.divergence(*network.actor(inputs).chunk(2)).mean()
            (self._kappa * divergence).backward(inputs=list(network.actor.parameters()))
            return divergence.detach()
        with torch.no_grad():
            layers = self._closed.forward(inputs)
            divergence, slope = self._slope(layers[-1])
            self._closed.backward(layers, slope, add=True)
        return divergence

    def _slope(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Mean divergence of ``(2 N, outputs)``, and the derivative of the second term in them."""
        head = self._network.head
        if head.log_std is None:
            with torch.enable_grad():
                answers = answers.detach().requires_grad_()
                divergence = head.divergence(*answers.chunk(2)).mean()
                (slope,) = torch.autograd.grad(self._kappa * divergence, answers)
            return divergence.detach(), slope
        # Written out for Gaussians: autograd's bookkeeping would double the time of this term.
        clean, nearby = answers.chunk(2)
        scaled = (nearby - clean) * (-2.0 * head.log_std).exp()
        slope = scaled * (self._kappa / len(clean))
        return 0.5 * (scaled * (nearby - clean)).sum(-1).mean(), torch.cat([-slope, slope])


class _Searched:
    """Samples whose neighbours are searched for at the beginning of every pass, from where the pass before ended."""

    def __init__(self, samples: Minibatch, search: Callable[[Tensor, Tensor | None], Tensor]) -> None:
        self._samples = samples
        self._search = search
        self._change: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._samples, name)

    def minibatches(self, order: Tensor, size: int) -> Iterator[NearbyMinibatch]:
        """See `Minibatch.minibatches`."""
        inputs = self._samples.inputs
        self._change = self._search(inputs, self._change)
        parts = {field.name: getattr(self._samples, field.name) for field in dataclasses.fields(self._samples)}
        yield from NearbyMinibatch(**parts, nearby=inputs + self._change).minibatches(order, size)
