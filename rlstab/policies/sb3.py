"""Networks of Stable-Baselines3's SAC, TD3 and DQN as policies of ours: exportable, and saved without pickle."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from rlstab.errors import UserError
from rlstab.policies.base import TorchPolicy, as_batch
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import arrays_to_state, state_to_arrays, to_array, to_tensor

ALGORITHMS = ("sac", "td3", "dqn")


class _Network(nn.Module):
    """The part of an off-policy algorithm's networks that acts, fed with raw observations."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: BasePolicy, algorithm: str, channels_last: bool) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.channels_last = channels_last
        self.actor: Any = policy.q_net if algorithm == "dqn" else policy.actor
        if isinstance(policy.action_space, spaces.Box):
            # Not part of the weights: the action space is in the configuration.
            device = next(policy.parameters()).device
            self.register_buffer("low", torch.as_tensor(policy.action_space.low, device=device), persistent=False)
            self.register_buffer("high", torch.as_tensor(policy.action_space.high, device=device), persistent=False)

    def features(self, observation: Tensor) -> Tensor:
        """Network input ``(batch, features)`` from raw observations ``(batch, *space.shape)``."""
        if self.channels_last:
            observation = observation.movedim(-1, 1)
        return self.actor.extract_features(observation, self.actor.features_extractor)

    def unscale(self, squashed: Tensor) -> Tensor:
        """From [-1, 1] to the action space."""
        return self.low + 0.5 * (squashed + 1.0) * (self.high - self.low)

    def gaussian(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``(batch, act_dim)`` of SAC's action before squashing."""
        mean, log_std, _ = self.actor.get_action_dist_params(
            observation.movedim(-1, 1) if self.channels_last else observation
        )
        return mean, log_std.exp()

    def forward(self, observation: Tensor) -> Any:
        """SAC: distribution of actions; TD3: actions; DQN: action values. In units of the environment."""
        if self.algorithm == "dqn":
            return self.actor.q_net(self.features(observation))
        if self.algorithm == "td3":
            return self.unscale(self.actor.mu(self.features(observation)))
        mean, std = self.gaussian(observation)
        scale = 0.5 * (self.high - self.low)
        squash = [TanhTransform(cache_size=1), AffineTransform(self.low + scale, scale)]
        return Independent(TransformedDistribution(Normal(mean, std), squash), 1)


class _DeterministicActor(nn.Module):
    def __init__(self, network: _Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor) -> Tensor:
        network = self.network
        if network.algorithm == "dqn":
            return network.actor.q_net(network.features(observation)).argmax(dim=1)
        if network.algorithm == "td3":
            return network.unscale(network.actor.mu(network.features(observation)))
        # Without the standard deviation and the distribution object, which an exported graph does not need.
        actor = network.actor
        return network.unscale(torch.tanh(actor.mu(actor.latent_pi(network.features(observation)))))


class SB3Policy(TorchPolicy):
    """The policy of one of Stable-Baselines3's off-policy algorithms.

    Parameters
    ----------
    policy
        Stable-Baselines3's policy object; shared, not copied, so that learning goes on in it.
    algorithm
        ``sac``, ``td3`` or ``dqn``.
    observation_space, action_space
        Spaces of one environment. (Stable-Baselines3's own observation space may differ: transposed images, float32.)
    """

    kind = "sb3"

    def __init__(
        self,
        policy: BasePolicy,
        algorithm: str,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise UserError(f"no off-policy algorithm '{algorithm}'; there are {', '.join(ALGORITHMS)}")
        self.observation_space = observation_space
        self.action_space = action_space
        self.algorithm = algorithm
        self._policy = policy
        transposed = policy.observation_space.shape != observation_space.shape
        self._network = _Network(policy, algorithm, channels_last=transposed)

    @property
    def module(self) -> nn.Module:
        """The acting network; ``forward`` gives SAC's action distribution, TD3's action, DQN's action values."""
        return self._network

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self._policy.parameters()).device

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `Policy.predict`; only SAC samples, from torch's global generator as Stable-Baselines3 does."""
        del episode_start
        self._policy.set_training_mode(False)
        array, batched = as_batch(observation, self.observation_space)
        tensor = to_tensor(array, self.device, torch.float32 if array.dtype.kind == "f" else None)
        if self.algorithm == "sac" and not deterministic:
            mean, std = self._network.gaussian(tensor)
            action = self._network.unscale(torch.tanh(mean + std * torch.randn_like(mean)))
        else:
            action = _DeterministicActor(self._network)(tensor)
        if isinstance(self.action_space, spaces.Box):
            # Unscaling rounds; the last bit must not leave the space.
            result = np.clip(to_array(action), self.action_space.low, self.action_space.high)
        else:
            result = to_array(action)
        return (result if batched else result[0]), state

    def deterministic_module(self) -> nn.Module:
        """See `TorchPolicy.deterministic_module`: SAC's squashed mean, TD3's actor, DQN's greedy action."""
        return _DeterministicActor(self._network).eval()

    def config(self) -> dict[str, Any]:
        """See `TorchPolicy.config`."""
        extractor = getattr(self._policy, "features_extractor_class", None)
        return {
            "algorithm": self.algorithm,
            "network": "cnn" if extractor is NatureCNN else "mlp",
            "hidden_sizes": list(cast("list[int]", self._policy.net_arch)),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
        }

    def state_dict(self) -> dict[str, Any]:
        """See `TorchPolicy.state_dict`; the weights are those of actor, critics and target networks."""
        return {"kind": self.kind, "config": self.config(), "weights": state_to_arrays(self._policy)}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Load the ``weights`` part of `state_dict`.

        Raises
        ------
        UserError
            They belong to another network.
        """
        arrays_to_state(self._policy, weights)

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> SB3Policy:
        """Rebuild a policy from `state_dict`."""
        config = state["config"]
        observation_space = space_from_json(config["observation_space"])
        action_space = space_from_json(config["action_space"])
        policy_class = _policy_class(config["algorithm"], config["network"])
        arguments: dict[str, Any] = {"net_arch": list(config["hidden_sizes"])}
        network_space = _as_stable_baselines_sees(observation_space)
        policy = policy_class(network_space, action_space, lambda _: 0.0, **arguments).to(device)
        rebuilt = cls(policy, config["algorithm"], observation_space, action_space)
        rebuilt.load_weights(state["weights"])
        return rebuilt


def _policy_class(algorithm: str, network: str) -> type[BasePolicy]:
    import stable_baselines3

    aliases = getattr(stable_baselines3, algorithm.upper()).policy_aliases
    return aliases["CnnPolicy" if network == "cnn" else "MlpPolicy"]


def _as_stable_baselines_sees(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The space after the channels-first transposition that Stable-Baselines3 wraps around image environments."""
    if is_image_space(space) and not is_image_space_channels_first(cast("spaces.Box", space)):
        box = cast("spaces.Box", space)
        low, high = (bound.transpose(2, 0, 1) for bound in (box.low, box.high))
        return spaces.Box(low, high, dtype=cast("Any", box.dtype).type)
    return space
