"""Actor and critic on transformers that read observations and the actions before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import gymnasium
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import RingCache, Segments, segments_to_rows
from rlstab.kernels.sigmoid_attention.ring_cache import episode_starts
from rlstab.policies.actor_critic import NetworkConfig
from rlstab.policies.distributions import ActionHead
from rlstab.policies.networks import MLP, orthogonal_
from rlstab.policies.normalizer import RunningNormalizer
from rlstab.policies.observation_input import ObservationInput
from rlstab.policies.transformer.blocks import Block, Transformer
from rlstab.policies.transformer.config import TransformerConfig


@dataclass
class Memory:
    """What a transformer policy remembers of each environment.

    Parameters
    ----------
    caches
        Keys and values of the newest steps, one a layer of the actor's transformer.
    previous
        ``(B, head.inputs)``: the action before, as the network reads it; zero at an episode's first step.
    observed
        ``(B, size)``: the observation before, as `ObservationInput.flat` gives it; not read at an episode's first step.
    critic_caches
        As ``caches``, of the critic's own transformer. Empty: it has none, or values are not asked for.
    """

    caches: list[RingCache]
    previous: Tensor
    observed: Tensor
    critic_caches: list[RingCache] = field(default_factory=list)

    def begin(self, episode_start: ArrayLike | Tensor) -> None:
        """Forget everything in the environments where ``episode_start``, ``(B,)`` bool, is true."""
        episode_start = episode_starts(episode_start, self.previous)
        for cache in (*self.caches, *self.critic_caches):
            cache.begin(episode_start)
        self.previous.masked_fill_(episode_start[:, None], 0.0)

    def fits(self, other: Memory) -> bool:
        """Whether the other has as many environments and is of a network of the same shape."""
        return [part.shape for part in self._parts()] == [part.shape for part in other._parts()]

    def _parts(self) -> list[Tensor]:
        caches = (*self.caches, *self.critic_caches)
        return [self.previous, self.observed, *(part for c in caches for part in (c.k, c.v, c.count))]

    def rows(self, index: Tensor | slice) -> Memory:
        """Copy the memory of some environments."""
        caches, critic_caches = (
            [RingCache(*(part[index].clone() for part in (c.k, c.v, c.count))) for c in of]
            for of in (self.caches, self.critic_caches)
        )
        return Memory(caches, self.previous[index].clone(), self.observed[index].clone(), critic_caches)


@dataclass(frozen=True)
class Sequences:
    """Pieces of episodes as the network reads them; the axes are sequence and step.

    Parameters
    ----------
    observations
        ``(B, T, *space.shape)``, raw.
    actions
        ``(B, T, ...)``: those taken at the step *before* each, as the head samples them. None: the network sees zeros
        in their place.
    starts
        ``(B, M + T)`` bool: where episodes begin. What was before is not read there.
    steps
        ``(B, M + T)`` int64: number of each step in its episode.
    memories
        See `Transformer.forward`; with them, ``starts`` and ``steps`` also cover the ``M`` steps before. Those of the
        critic's own transformer, if it has one, come after the actor's.
    before
        ``(B, *space.shape)``: the observation before the first. None: it was the same.
    """

    observations: Tensor
    actions: Tensor | None
    starts: Tensor
    steps: Tensor
    memories: Sequence[Tensor] | None = None
    before: Tensor | None = None


class CriticEncoder(nn.Module):
    """Embedding and transformer of the critic's own.

    Parameters
    ----------
    inputs
        What a token is embedded from.
    config
        The transformer.
    generator
        Source of the initial weights.
    """

    def __init__(self, inputs: int, config: TransformerConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Linear(inputs, config.width)
        orthogonal_(self.embedding, 1.0, generator)
        self.transformer = Transformer(config, generator)


class TransformerActorCritic(ObservationInput):
    """Actor and critic on one transformer, or on one each.

    A token is a linear function of the observation's features and, if so configured, of how they have changed and of
    the action before. Both read the same normalised inputs; pictures go through one convolution.

    Parameters
    ----------
    observation_space, action_space
        Of one environment.
    heads
        Perceptrons from the transformer's output to action and value, the action's initial noise, and whether
        observations are normalised.
    config
        The transformer.
    generator
        Source of the initial weights.

    Raises
    ------
    UserError
        A space that cannot be read or acted in, or sizes that do not fit.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        heads: NetworkConfig,
        config: TransformerConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            observation_space, generator, normalize=heads.normalize_observation, cnn_features=heads.cnn_features
        )
        self.head = ActionHead(action_space, heads.log_std_init)
        self.reads_actions = config.previous_action
        self.reads_changes = config.observation_change
        self.change_normalizer: RunningNormalizer | None = None
        if self.reads_changes and self.normalizer is not None:
            self.change_normalizer = RunningNormalizer(self.size)
        inputs = self.size * (1 + self.reads_changes) + self.head.inputs * self.reads_actions
        self.embedding = nn.Linear(inputs, config.width)
        orthogonal_(self.embedding, 1.0, generator)
        self.transformer = Transformer(config, generator)
        self.actor = MLP((config.width, *heads.hidden_sizes, self.head.inputs), heads.activation, 0.01, generator)
        self.critic = MLP((config.width, *heads.hidden_sizes, 1), heads.activation, 1.0, generator)
        # Made last, so that the actor begins with the same weights as without it.
        self.critic_encoder = CriticEncoder(inputs, config, generator) if config.separate_critic else None

    @property
    def receptive_field(self) -> int:
        """How many steps before its own a step's output depends on."""
        return self.transformer.receptive_field + self.reads_changes

    def read(self, observations: Tensor) -> Tensor:
        """Raw observations ``(N, *space.shape)`` to ``(N, size)``, not normalised."""
        return self.flat(observations, self.embedding.weight.dtype)

    @property
    def layers(self) -> dict[str, Block]:
        """All blocks by name: ``layer0``, ``layer1``, ...; of the critic's own transformer ``critic_layer0``, ..."""
        named = {f"layer{index}": block for index, block in enumerate(self.transformer.layers)}
        if self.critic_encoder is not None:
            blocks = self.critic_encoder.transformer.layers
            named |= {f"critic_layer{index}": block for index, block in enumerate(blocks)}
        return named

    def inputs(self, flat: Tensor, observed: Tensor, previous: Tensor, begins: Tensor) -> Tensor:
        """What tokens are embedded from, ``(..., inputs)``.

        Parameters
        ----------
        flat, observed
            ``(..., size)``: observations, and those before, from `read`.
        previous
            ``(..., head.inputs)``: encoded actions before.
        begins
            ``(...)`` bool: where episodes begin, and nothing has changed.
        """
        parts = [self.normalized(flat)]
        if self.reads_changes:
            change = flat - observed
            if self.change_normalizer is not None:
                change = self.change_normalizer(change)
            parts.append(change.masked_fill(begins[..., None], 0.0))
        if self.reads_actions:
            parts.append(previous)
        return torch.cat(parts, dim=-1)

    def read_sequences(self, sequences: Sequences) -> Tensor:
        """Do as `inputs` for sequences: ``(B, T, inputs)``."""
        batch, length = sequences.observations.shape[:2]
        begins = sequences.starts[:, -length:]
        flat = self.read(sequences.observations.flatten(0, 1)).unflatten(0, (batch, length))
        previous = flat.new_zeros(batch, length, self.head.inputs)
        if sequences.actions is not None:
            previous = self.head.encode(sequences.actions.flatten(0, 1)).view_as(previous)
            previous = previous.masked_fill(begins[..., None], 0.0)
        observed = flat
        if self.reads_changes:
            first = flat[:, 0] if sequences.before is None else self.read(sequences.before)
            observed = torch.cat([first[:, None], flat[:, :-1]], dim=1)
        return self.inputs(flat, observed, previous, begins)

    @torch.no_grad()
    def learn_normalisation(self, observations: Tensor, begins: Tensor, before: Tensor) -> None:
        """Bring the statistics up to date.

        Parameters
        ----------
        observations
            ``(T, N, *space.shape)``: consecutive steps of ``N`` environments, raw.
        begins
            ``(T, N)`` bool: where episodes begin. What changes there is left out.
        before
            ``(N, *space.shape)``: observations of the step before.
        """
        if self.normalizer is not None:
            self.normalizer.update(observations)
        if self.change_normalizer is not None:
            flat = torch.cat([before[None], observations])
            flat = flat.reshape(*flat.shape[:2], self.size).double()
            self.change_normalizer.update(flat.diff(dim=0)[~begins])

    def encode(self, sequences: Sequences, keep: list[Tensor] | None = None) -> Tensor:
        """Features ``(B, T, width)`` for the actor; see `Transformer.forward` for ``keep``."""
        inputs, rows = self.read_sequences(sequences), self.segments(sequences.starts)
        return self.transformer(self.embedding(inputs), rows, sequences.steps, sequences.memories, keep)

    def encode_both(self, sequences: Sequences, keep: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Features ``(B, T, width)`` for actor and for critic: one tensor twice if they share the transformer.

        ``keep`` is as in `Transformer.forward`, in the order of `layers`.
        """
        inputs, rows, memories = self.read_sequences(sequences), self.segments(sequences.starts), sequences.memories
        features = self.transformer(self.embedding(inputs), rows, sequences.steps, memories, keep)
        own = self.critic_encoder
        if own is None:
            return features, features
        memories = None if memories is None else memories[len(self.transformer.layers) :]
        return features, own.transformer(own.embedding(inputs), rows, sequences.steps, memories, keep)

    @torch.no_grad()
    def step(self, observation: Tensor, memory: Memory) -> Tensor:
        """Features ``(B, width)`` for the actor of the next observation of each environment, which is remembered.

        The caller sets ``memory.previous`` when it has acted, and calls ``memory.begin`` where episodes begin.
        """
        return self.transformer.step(self.embedding(self._remember_inputs(observation, memory)), memory.caches)

    @torch.no_grad()
    def step_both(self, observation: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Do as `step` for actor and critic; the memory is of `remember`, or of `empty_memory` with ``values``."""
        inputs = self._remember_inputs(observation, memory)
        features = self.transformer.step(self.embedding(inputs), memory.caches)
        own = self.critic_encoder
        if own is None:
            return features, features
        return features, own.transformer.step(own.embedding(inputs), memory.critic_caches)

    def _remember_inputs(self, observation: Tensor, memory: Memory) -> Tensor:
        flat = self.read(observation)
        inputs = self.inputs(flat, memory.observed, memory.previous, memory.caches[0].count == 0)
        memory.observed = flat
        return inputs

    @torch.no_grad()
    def remember(self, sequences: Sequences) -> Memory:
        """Memory after sequences, as if they had been given to `step_both`; at least `receptive_field` steps.

        ``previous`` is left zero.
        """
        memory = self.empty_memory(sequences.observations.shape[0], values=True)
        rows, inputs = self.segments(sequences.starts), self.read_sequences(sequences)
        self.transformer.prefill(self.embedding(inputs), rows, sequences.steps, memory.caches)
        own = self.critic_encoder
        if own is not None:
            own.transformer.prefill(own.embedding(inputs), rows, sequences.steps, memory.critic_caches)
        memory.observed = self.read(sequences.observations[:, -1])
        return memory

    def empty_memory(self, batch: int, *, values: bool = False) -> Memory:
        """Memory of ``batch`` environments before a first step; ``values``: also for a critic's own transformer."""
        weight = self.embedding.weight
        previous, observed = (
            torch.zeros(batch, size, dtype=weight.dtype, device=weight.device) for size in (self.head.inputs, self.size)
        )
        own = self.critic_encoder if values else None
        critic_caches = [] if own is None else own.transformer.empty_caches(batch)
        return Memory(self.transformer.empty_caches(batch), previous, observed, critic_caches)

    def after_gradient_step(self) -> None:
        """See `Transformer.after_gradient_step`."""
        self.transformer.after_gradient_step()
        if self.critic_encoder is not None:
            self.critic_encoder.transformer.after_gradient_step()

    def segments(self, starts: Tensor) -> Segments:
        """What each step sees, from ``(B, T)`` bool where episodes begin."""
        return segments_to_rows(starts, self.transformer.config.window)

    def forward(self, observations: Tensor, actions: Tensor | None = None) -> Distribution:
        """Distribution of the action at the last of the first steps of an episode; differentiable.

        Parameters
        ----------
        observations
            ``(B, T, *space.shape)``, raw.
        actions
            ``(B, T, ...)``: those at the step before each; the first is not read. Default: the network sees zeros in
            their place.
        """
        return self.head(self.outputs(observations, actions))

    def outputs(self, observations: Tensor, actions: Tensor | None = None) -> Tensor:
        """Means or logits ``(B, head.inputs)`` of the distribution that `forward` gives."""
        return self.actor(self.encode(_from_the_start(observations, actions))[:, -1])

    def value(self, observations: Tensor, actions: Tensor | None = None) -> Tensor:
        """State value ``(B,)`` at the last of the first steps of an episode; see `forward`."""
        return self.critic(self.encode_both(_from_the_start(observations, actions))[1][:, -1]).squeeze(-1)


def _from_the_start(observations: Tensor, actions: Tensor | None) -> Sequences:
    if observations.ndim < 2 or not observations.shape[1]:
        raise UserError(f"observations must be (B, T, ...) with a step at least, got {tuple(observations.shape)}")
    batch, length = observations.shape[:2]
    steps = torch.arange(length, device=observations.device).expand(batch, length)
    return Sequences(observations, actions, steps == 0, steps)
