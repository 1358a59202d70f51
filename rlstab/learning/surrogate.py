"""The clipped surrogate objective of PPO and its gradient: by autograd for any network, in closed form for perceptrons.

The closed form does the same arithmetic with a quarter of the operations. At 64 samples a gradient step is bound by the
number of operations, not by arithmetic, so this is where most of the time of small-network PPO goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Distribution

from rlstab.learning.on_policy_config import OnPolicyConfig
from rlstab.policies.actor_critic import ActorCritic
from rlstab.policies.distributions import gaussian_log_prob
from rlstab.policies.networks import MLP


@dataclass(frozen=True)
class Targets:
    """What the loss of some samples needs beside the network's outputs; the first axis of every array is the sample."""

    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor


@dataclass(frozen=True)
class Minibatch(Targets):
    """Samples of one gradient step.

    ``inputs`` are the network's inputs: normalised features for perceptrons, raw images for convolutions.
    """

    inputs: Tensor

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.returns.shape[0]

    def minibatches(self, order: Tensor, size: int) -> Iterator[Self]:
        """Cut the samples, taken in ``order``, into pieces of ``size``; the last may be shorter."""
        names = [field.name for field in fields(self)]
        for pieces in zip(*(getattr(self, name)[order].split(size) for name in names), strict=True):
            yield type(self)(**dict(zip(names, pieces, strict=True)))


@dataclass(frozen=True)
class StepStatistics:
    """Samples behind one gradient step, reduced only when somebody asks.

    ``plain`` and ``clipped`` are the two branches of the surrogate, ``squared_error`` the critic's, all ``(batch,)``.
    """

    plain: Tensor
    clipped: Tensor
    squared_error: Tensor
    entropy: Tensor
    log_ratio: Tensor
    ratio: Tensor

    def approx_kl(self) -> Tensor:
        """Divergence from the policy that collected the samples: the non-negative estimator k3 of Schulman (2020)."""
        return (self.ratio - 1.0 - self.log_ratio).mean()

    def summary(self, clip_range: float) -> dict[str, Tensor]:
        """Means over the samples, by the name under which they are logged."""
        return {
            "policy_loss": -torch.minimum(self.plain, self.clipped).mean(),
            "value_loss": self.squared_error.mean(),
            "entropy": self.entropy,
            "approx_kl": self.approx_kl(),
            "clip_fraction": ((self.ratio - 1.0).abs() > clip_range).float().mean(),
        }


class GradientRule(Protocol):
    """Adds the gradient of the loss to the parameters' (zeroed) ``grad``."""

    def __call__(self, batch: Minibatch) -> StepStatistics:
        """Differentiate the loss on one minibatch."""
        ...


def gradient_rule(network: ActorCritic, config: OnPolicyConfig) -> GradientRule:
    """Pick the closed form where it applies, else autograd."""
    if ClosedFormGradient.applies(network, config):
        return ClosedFormGradient(network, config)
    return AutogradGradient(network, config)


def standardise(advantages: Tensor) -> Tensor:
    """Zero mean, unit standard deviation."""
    std, mean = torch.std_mean(advantages)
    return (advantages - mean) / (std + 1e-8)


def surrogate_loss(
    distribution: Distribution, values: Tensor, targets: Targets, config: OnPolicyConfig
) -> tuple[Tensor, StepStatistics]:
    """Loss of PPO as in Stable-Baselines3: clipped surrogate, squared error of the values, entropy.

    Parameters
    ----------
    distribution
        Of the actions now, batch of samples.
    values
        Estimates now, ``(batch,)``.
    targets
        Of the same samples.
    config
        Weights and clips.

    Returns
    -------
    loss, statistics
        A scalar to differentiate, and what it was made of.
    """
    advantages = standardise(targets.advantages) if config.normalize_advantage else targets.advantages
    log_ratio = distribution.log_prob(targets.actions) - targets.log_probs
    ratio = log_ratio.exp()
    plain = ratio * advantages
    clipped = ratio.clamp(1.0 - config.clip_range, 1.0 + config.clip_range) * advantages
    policy_loss = -torch.minimum(plain, clipped).mean()
    if config.clip_range_vf is not None:
        values = targets.values + (values - targets.values).clamp(-config.clip_range_vf, config.clip_range_vf)
    squared_error = (targets.returns - values).square()
    entropy = distribution.entropy().mean()
    loss = policy_loss - config.ent_coef * entropy + config.vf_coef * squared_error.mean()
    samples = (plain, clipped, squared_error, entropy, log_ratio, ratio)
    return loss, StepStatistics(*(sample.detach() for sample in samples))


class AutogradGradient:
    """The loss of PPO as in Stable-Baselines3, differentiated by autograd."""

    def __init__(self, network: ActorCritic, config: OnPolicyConfig) -> None:
        self._network = network
        self._config = config

    def __call__(self, batch: Minibatch) -> StepStatistics:
        """See `GradientRule`."""
        network, config = self._network, self._config
        features = batch.inputs if network.trunk is None else network.features(batch.inputs)
        loss, statistics = surrogate_loss(
            network.head(network.actor(features)), network.critic(features).squeeze(-1), batch, config
        )
        loss.backward()
        return statistics


class ClosedFormGradient:
    """The same loss for separate perceptrons and Gaussian or categorical actions, differentiated by hand."""

    def __init__(self, network: ActorCritic, config: OnPolicyConfig) -> None:
        self._config = config
        self._actor = Perceptron(network.actor)
        self._critic = Perceptron(network.critic)
        self._log_std = network.head.log_std

    @staticmethod
    def applies(network: ActorCritic, config: OnPolicyConfig) -> bool:
        """Whether the network and the loss are of the kind whose derivative is written here."""
        return (
            network.trunk is None
            and config.clip_range_vf is None
            and Perceptron.represents(network.actor)
            and isinstance(network.head.space, spaces.Box | spaces.Discrete)
        )

    @torch.no_grad()
    def __call__(self, batch: Minibatch) -> StepStatistics:
        """See `GradientRule`."""
        config = self._config
        count = batch.inputs.shape[0]
        advantages = standardise(batch.advantages) if config.normalize_advantage else batch.advantages

        actor_layers = self._actor.forward(batch.inputs)
        if self._log_std is not None:
            log_prob, entropy, to_outputs = self._gaussian_terms(actor_layers[-1], batch.actions)
        else:
            log_prob, entropy, to_outputs = self._categorical_terms(actor_layers[-1], batch.actions)
        log_ratio = log_prob - batch.log_probs
        ratio = log_ratio.exp()
        plain = ratio * advantages
        clipped = ratio.clamp(1.0 - config.clip_range, 1.0 + config.clip_range) * advantages
        # Where the clipped branch is smaller, it is constant in the policy: no gradient.
        log_prob_gradient = plain * (plain <= clipped)
        log_prob_gradient *= -1.0 / count
        self._actor.backward(actor_layers, to_outputs(log_prob_gradient))

        critic_layers = self._critic.forward(batch.inputs)
        error = critic_layers[-1].squeeze(-1) - batch.returns
        self._critic.backward(critic_layers, (error * (2.0 * config.vf_coef / count)).unsqueeze(-1))
        return StepStatistics(plain, clipped, error.square(), entropy, log_ratio, ratio)

    def _gaussian_terms(self, means: Tensor, actions: Tensor):
        log_std = self._log_std
        assert log_std is not None
        inverse_std = (-log_std).exp()
        noise = (actions - means) * inverse_std
        log_prob = gaussian_log_prob(noise, log_std)
        # Differential entropy of a diagonal Gaussian; its derivative in each log_std is one.
        entropy = log_std.sum() + 1.4189385332046727 * log_std.shape[0]

        def to_outputs(log_prob_gradient: Tensor) -> Tensor:
            weight = log_prob_gradient.unsqueeze(-1)
            assert log_std.grad is not None
            torch.sum(weight * noise.square(), 0, out=log_std.grad)
            log_std.grad -= log_prob_gradient.sum() + self._config.ent_coef
            return weight * noise * inverse_std

        return log_prob, entropy, to_outputs

    def _categorical_terms(self, logits: Tensor, actions: Tensor):
        log_probabilities = logits.log_softmax(-1)
        index = actions.long().unsqueeze(-1)
        probabilities = log_probabilities.exp()
        entropies = -(probabilities * log_probabilities).sum(-1, keepdim=True)

        def to_outputs(log_prob_gradient: Tensor) -> Tensor:
            gradient = -probabilities * log_prob_gradient.unsqueeze(-1)
            gradient.scatter_add_(-1, index, log_prob_gradient.unsqueeze(-1))
            if self._config.ent_coef:
                # dH/dlogit_k = -p_k (log p_k + H)
                gradient += (self._config.ent_coef / logits.shape[0]) * probabilities * (log_probabilities + entropies)
            return gradient

        return log_probabilities.gather(-1, index).squeeze(-1), entropies.mean(), to_outputs


class Perceptron:
    """Forward and backward pass of an `MLP` with tanh or relu units, as plain matrix products.

    Holds the network's own parameters and their ``grad``, looked up once: both must stay the same tensors, as those of
    `rlstab.learning.flat.FlatParameters` do.
    """

    def __init__(self, network: MLP) -> None:
        linears = network.layers
        self._weights = [linear.weight.detach() for linear in linears]
        self._transposed = [weight.t() for weight in self._weights]
        self._biases = [linear.bias.detach() for linear in linears]
        self._gradients = [(linear.weight.grad, linear.bias.grad) for linear in linears]
        self._tanh = network.activation == "tanh"

    @staticmethod
    def represents(network: MLP) -> bool:
        """Whether the activation is one whose derivative is written here."""
        return network.activation in ("tanh", "relu")

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Inputs ``(batch, inputs)``, activations of every hidden layer, and output."""
        layers = [inputs]
        last = len(self._biases) - 1
        for index, bias in enumerate(self._biases):
            output = torch.addmm(bias, layers[-1], self._transposed[index])
            if index < last:
                output = output.tanh_() if self._tanh else output.relu_()
            layers.append(output)
        return layers

    def backward(self, layers: list[Tensor], output_gradient: Tensor, *, add: bool = False) -> None:
        """Write the gradient of every weight and bias.

        Parameters
        ----------
        layers
            What `forward` returned.
        output_gradient
            Derivative of the loss in the output, ``(batch, outputs)``.
        add
            Add to what is there instead.
        """
        gradient = output_gradient
        for index in range(len(self._weights) - 1, -1, -1):
            weight_gradient, bias_gradient = self._gradients[index]
            if add:
                assert weight_gradient is not None
                assert bias_gradient is not None
                weight_gradient.addmm_(gradient.t(), layers[index])
                bias_gradient.add_(gradient.sum(0))
            else:
                torch.mm(gradient.t(), layers[index], out=weight_gradient)
                torch.sum(gradient, 0, out=bias_gradient)
            if index:
                gradient = gradient.mm(self._weights[index])
                if self._tanh:
                    gradient = torch.ops.aten.tanh_backward(gradient, layers[index])
                else:
                    gradient = torch.ops.aten.threshold_backward(gradient, layers[index], 0.0)
