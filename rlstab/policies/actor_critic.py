"""Actor-critic policies for on-policy learning: multilayer perceptrons, and a shared convolutional trunk for images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import gymnasium
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Distribution

from rlstab.policies.distributions import ActionHead
from rlstab.policies.network_policy import NetworkPolicy, sizes_as_lists, sizes_as_tuples
from rlstab.policies.networks import MLP
from rlstab.policies.observation_input import ObservationInput
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import to_array


@dataclass(frozen=True)
class NetworkConfig:
    """Shape and initialisation of an actor-critic network."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, the same for actor and critic; behind the convolutional trunk there are none."""
    actor_hidden_sizes: tuple[int, ...] | None = None
    """Those of the actor where they are others; ``()``: the actor is linear."""
    activation: str = "tanh"
    """Hidden activation: tanh, relu, elu or silu."""
    log_std_init: float = 0.0
    """Initial logarithm of the action's standard deviation, in units of the action."""
    normalize_observation: bool = True
    """Whether observations are normalised by running statistics (vectors only)."""
    cnn_features: int = 512
    """Width of the convolutional trunk's output (images only)."""


class ActorCritic(ObservationInput):
    """Actor, critic and their input processing: two separate perceptrons, for pictures behind one shared `NatureCNN`.

    Raises
    ------
    UserError
        The observation space is a dictionary or tuple.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        config: NetworkConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__(
            observation_space, generator, normalize=config.normalize_observation, cnn_features=config.cnn_features
        )
        self.head = ActionHead(action_space, config.log_std_init)
        inputs = self.size
        hidden = config.hidden_sizes if self.trunk is None else ()
        own = hidden if config.actor_hidden_sizes is None or self.trunk is not None else config.actor_hidden_sizes
        self.actor = MLP((inputs, *own, self.head.inputs), config.activation, 0.01, generator)
        self.critic = MLP((inputs, *hidden, 1), config.activation, 1.0, generator)

    def decide(self, observation: Tensor) -> Tensor:
        """Deterministic action for the environment, from raw float32 observations.

        Perceptrons compute in double precision and round the action to single. Two implementations of the same sums
        (torch and ONNX Runtime, batches of one and of twenty) differ in the last bits of what is rounded, so that the
        rounded actions are nearly always the same; in single precision they would differ at most steps, which a robot
        with contacts amplifies to another episode.
        """
        # ONNX Runtime has no ELU in double precision, and for convolutions it would cost too much.
        precise = self.trunk is None and self.actor.activation != "elu"
        outputs = self.actor(self.features(observation, torch.float64 if precise else torch.float32))
        return self.head.to_environment(self.head.mode(outputs.float()))

    def forward(self, observation: Tensor) -> Distribution:
        """Action distribution for raw observations."""
        return self.head(self.actor(self.features(observation)))

    def value(self, observation: Tensor) -> Tensor:
        """State values ``(batch,)`` for raw observations."""
        return self.critic(self.features(observation)).squeeze(-1)


class _DeterministicActor(nn.Module):
    def __init__(self, network: ActorCritic) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor) -> Tensor:
        return self.network.decide(observation)


class ActorCriticPolicy(NetworkPolicy):
    """`ActorCritic` behind the policy interface.

    Parameters
    ----------
    observation_space, action_space
        Spaces of one environment.
    config
        Network shape.
    seed
        Seeds the initial weights. Sampling in `predict` draws from torch's global generator, as
        Stable-Baselines3's policies do.
    device
        Where the network lives.

    Examples
    --------
    >>> from gymnasium.spaces import Box
    >>> policy = ActorCriticPolicy(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)))
    >>> action, _ = policy.predict([0.1, 0.2, 0.3], deterministic=True)
    >>> action.shape
    (2,)
    """

    kind = "actor_critic"

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        config: NetworkConfig | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.network_config = config or NetworkConfig()
        initial = torch.Generator().manual_seed(seed)
        self._network = ActorCritic(observation_space, action_space, self.network_config, initial).to(device)

    @property
    def module(self) -> ActorCritic:
        """The network; ``forward(observation)`` is the action distribution, ``value(observation)`` the critic."""
        return self._network

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `Policy.predict`; ``Box`` actions are clipped to the space."""
        del episode_start
        network = self._network
        tensor, batched = self._read(observation)
        if deterministic:
            action = network.decide(tensor)
        else:
            action = network.head.to_environment(network.head.sample(network.actor(network.features(tensor))))
        result = to_array(action)
        return (result if batched else result[0]), state

    def deterministic_module(self) -> nn.Module:
        """See `TorchPolicy.deterministic_module`."""
        return _DeterministicActor(self._network).eval()

    def config(self) -> dict[str, Any]:
        """See `TorchPolicy.config`."""
        return {
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "network": sizes_as_lists(asdict(self.network_config)),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], device: torch.device | str) -> Self:
        spaces = (space_from_json(config["observation_space"]), space_from_json(config["action_space"]))
        return cls(*spaces, NetworkConfig(**sizes_as_tuples(config["network"])), device=device)
