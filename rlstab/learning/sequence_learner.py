"""PPO with a transformer that remembers the newest steps of an episode."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from torch import Tensor
from torch.nn.utils import parametrize

from rlstab.errors import UserError
from rlstab.learning.flat import FlatAdam, FlatParameters, Optimizer
from rlstab.learning.on_policy import OnPolicyLearner
from rlstab.learning.sequence_config import SequenceConfig
from rlstab.learning.stable_spam import StableSpam
from rlstab.learning.surrogate import StepStatistics, Targets, surrogate_loss
from rlstab.learning.timeline import SequenceMinibatch, SequenceSamples, Timeline
from rlstab.policies.tensors import pick_device
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.monitors import attention_figures
from rlstab.policies.transformer.network import Memory, Sequences, TransformerActorCritic
from rlstab.policies.transformer.policy import TransformerPolicy
from rlstab.policies.transformer.size import check_weights, check_window
from rlstab.runs.config import validate

_WATCHED = 8


class SequenceLearner(OnPolicyLearner):
    """Proximal policy optimisation of a transformer policy.

    Acting costs one step a layer, whatever the window: keys and values stay in ring buffers. Training sees sequences
    with all that the policy saw when it acted, across the ends of rollouts too, so that with equal weights both give
    equal probabilities: before the first gradient step all ratios are one. After each update the buffers are filled
    anew from the remembered observations, with the new weights.

    Parameters
    ----------
    env, total_steps, seed, device
        See `OnPolicyLearner`.
    config
        Hyper-parameters of the learning.
    transformer
        Shape of the network.

    Raises
    ------
    UserError
        A value out of its range, lengths that do not divide each other, sizes that do not fit, also into the memory
        that is free, or settings that would do nothing.
    """

    policy: TransformerPolicy

    def __init__(
        self,
        env: VectorEnv,
        config: SequenceConfig | None = None,
        transformer: TransformerConfig | None = None,
        *,
        total_steps: int = 1_000_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._settings = config or SequenceConfig()
        self._transformer = transformer or TransformerConfig()
        validate(self._settings)
        validate(self._transformer)
        self._length = self._settings.sequence_length or self._settings.n_steps
        self._check(env, total_steps, pick_device(device))
        super().__init__(env, self._settings, total_steps=total_steps, seed=seed, device=device)
        lead = (self.config.n_steps, self.num_envs)
        self._outputs = torch.zeros(*lead, self.network.head.inputs, device=self.device)
        self._values = torch.zeros(lead[0] + 1, lead[1], device=self.device)
        self._cut_values: list[Tensor] = []
        self._memory: Memory = self.network.empty_memory(self.num_envs, values=True)
        self._gradient_norms: list[Tensor] = []
        self._raw_gradient: Tensor | None = None
        self._watched: Sequences | None = None

    @torch.no_grad()
    def collect(self, watcher: Any = None) -> bool:
        """See `OnPolicyLearner.collect`."""
        # Weights that are functions of parameters are computed once.
        with parametrize.cached():
            return super().collect(watcher)

    def update(self) -> dict[str, float]:
        """See `OnPolicyLearner.update`."""
        self._gradient_norms.clear()
        every = self._settings.monitor_every
        self._raw_gradient = torch.empty_like(self._flat.gradient) if every and self.iterations % every == 0 else None
        metrics = super().update()
        metrics["train/gradient_norm"] = float(torch.stack(self._gradient_norms).mean())
        metrics["train/gradient_norm_max"] = float(torch.stack(self._gradient_norms).max())
        if self._raw_gradient is not None and self._watched is not None:
            self._flat.gradient.copy_(self._raw_gradient)
            metrics |= attention_figures(self.network, self._watched, since=self._timeline.context)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """See `OnPolicyLearner.state_dict`."""
        return super().state_dict() | {"timeline": self._timeline.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `OnPolicyLearner.load_state_dict`."""
        super().load_state_dict(state)
        self._timeline.load_state_dict(state["timeline"])
        if not getattr(self.env, "resumes_exactly", False):
            self._timeline.begin_anew()

    @property
    def _timeline(self) -> Timeline:
        assert isinstance(self._rollout, Timeline)
        return self._rollout

    def _check(self, env: VectorEnv, total_steps: int, device: torch.device) -> None:
        config, transformer, length = self._settings, self._transformer, self._length
        # Gradients and the optimiser's averages are as large as the weights.
        check_weights(transformer, device, copies=4)
        check_window(transformer, device, env.num_envs)
        self._refuse_what_does_nothing(total_steps)
        if config.n_steps % length:
            raise UserError(f"sequence_length {length} does not divide n_steps {config.n_steps}: choose a divisor")
        if config.batch_size % length:
            raise UserError(
                f"batch_size {config.batch_size} is no multiple of {length}, the steps of a sequence: choose one, or "
                "set sequence_length"
            )
        if config.z_loss and not isinstance(env.single_action_space, (spaces.Discrete, spaces.MultiDiscrete)):
            kinds = "Discrete and MultiDiscrete"
            raise UserError(f"z_loss is for {kinds} actions, these are {env.single_action_space}: set it to 0")

    def _refuse_what_does_nothing(self, total_steps: int) -> None:
        transformer, warmup = self._transformer, self._settings.warmup_steps
        if transformer.attention == "softmax" and transformer.score_bias in ("window", "head"):
            raise UserError(
                f"score_bias {transformer.score_bias} is of sigmoid's scores, attention is softmax: leave it out"
            )
        if transformer.residual == "plain" and transformer.gate_bias != TransformerConfig().gate_bias:
            raise UserError("gate_bias is of the gate of residual gru, residual is plain: leave it out")
        if warmup > total_steps:
            raise UserError(
                f"warmup_steps {warmup} is more than the total_steps {total_steps}, so that the learning rate would "
                "never be reached: choose fewer"
            )

    def _make_policy(self, seed: int) -> TransformerPolicy:
        observation, action = self.env.single_observation_space, self.env.single_action_space
        return TransformerPolicy(observation, action, self._network_config(), self._transformer, seed, self.device)

    def _make_optimizer(self, parameters: FlatParameters) -> Optimizer:
        decay = self._settings.weight_decay
        if self._settings.optimizer == "stable_spam":
            return StableSpam(parameters, weight_decay=decay)
        return FlatAdam(parameters, weight_decay=decay)

    def _make_gradient(self) -> SequenceGradient:
        return SequenceGradient(self.network, self._settings)

    def _make_rollout(self) -> Timeline:
        context = max(1, self.network.receptive_field)
        return Timeline(context, self.config.n_steps, self.num_envs, self._storage(), self.device)

    def _act(self, step: int, observation: Tensor) -> Tensor:
        timeline, network = self._timeline, self.network
        if step == 0:
            self._cut_values.clear()
            self._memory = network.remember(timeline.before())
            self._memory.previous = network.head.encode(timeline.previous(0))
        self._memory.begin(timeline.starts[timeline.context + step])
        features, judged = network.step_both(observation, self._memory)
        self._values[step] = network.critic(judged).squeeze(-1)
        self._outputs[step] = network.actor(features)
        return self._outputs[step]

    def _note(self, step: int) -> None:
        network, rollout = self.network, self._rollout
        self._memory.previous = network.head.encode(rollout.actions[step])
        cut = rollout.truncations(step)
        if cut is not None:
            _, worlds, final = cut
            self._cut_values.append(self._value(final, self._memory.rows(worlds)))

    def _step(self, learning_rate: float) -> None:
        if self._raw_gradient is not None:
            # Both optimisers scale it in place, which would hide what monitors look for.
            self._raw_gradient.copy_(self._flat.gradient)
        if self._settings.optimizer == "adam":
            norm = self._flat.clip_gradient(self.config.max_grad_norm)
        else:
            norm = torch.linalg.vector_norm(self._flat.gradient)
        self._gradient_norms.append(norm)
        self._optimizer.step(learning_rate)
        self.network.after_gradient_step()

    def _learn_normalisation(self) -> None:
        timeline = self._timeline
        begins = timeline.starts[timeline.context : -1]
        self.network.learn_normalisation(timeline.observations[:-1], begins, timeline.newest_before)

    def _learning_rate(self) -> float:
        warmup = self._settings.warmup_steps
        return super()._learning_rate() * (min(1.0, self.num_timesteps / warmup) if warmup else 1.0)

    @torch.no_grad()
    def _samples(self) -> SequenceSamples:
        network, timeline = self.network, self._timeline
        # The state after the last step is valued by a copy of the memory: the next rollout begins with that state.
        newest = self._memory.rows(slice(None))
        newest.begin(timeline.starts[-1])
        self._values[-1] = self._value(timeline.observations[-1], newest)
        cut_values = torch.cat(self._cut_values) if self._cut_values else None
        advantages, returns = self._advantages(self._values, cut_values)
        log_probs = network.head(self._outputs.flatten(0, 1)).log_prob(timeline.actions.flatten(0, 1))
        targets = Targets(
            actions=timeline.actions,
            log_probs=log_probs.view_as(advantages),
            advantages=advantages,
            returns=returns,
            values=self._values[:-1],
        )
        samples = SequenceSamples(
            timeline, targets, self._length, self._settings.context, *self._memories_for_training()
        )
        worlds = torch.arange(min(_WATCHED, self.num_envs), device=self.device)
        self._watched = timeline.pieces(worlds, 0, timeline.context + self.config.n_steps)
        return samples

    def _value(self, observation: Tensor, memory: Memory) -> Tensor:
        return self.network.critic(self.network.step_both(observation, memory)[1]).squeeze(-1)

    def _memories_for_training(self) -> tuple[list[Tensor], int]:
        if self._settings.context == "recompute":
            return [], 0
        timeline = self._timeline
        worlds = torch.arange(self.num_envs, device=self.device)
        memories: list[Tensor] = []
        self.network.encode_both(timeline.pieces(worlds, 0, timeline.context + self.config.n_steps), keep=memories)
        return memories, min(self._transformer.window - 1, timeline.context)


class SequenceGradient:
    """The loss of PPO over the steps of sequences, differentiated by autograd."""

    def __init__(self, network: TransformerActorCritic, config: SequenceConfig) -> None:
        self._network = network
        self._config = config

    def __call__(self, batch: SequenceMinibatch) -> StepStatistics:
        """Add the gradient of the loss to the parameters' (zeroed) ``grad``."""
        network = self._network
        features, judged = (of[:, batch.context :].flatten(0, 1) for of in network.encode_both(batch.sequences))
        outputs = network.actor(features)
        values = network.critic(judged).squeeze(-1)
        loss, statistics = surrogate_loss(network.head(outputs), values, batch, self._config)
        if self._config.z_loss:
            loss = loss + self._config.z_loss * network.head.log_normalizers(outputs).square().mean()
        loss.backward()
        return statistics
