"""One step of a transformer policy as a pure function of observation and state: what `export` writes."""

from __future__ import annotations

from torch import Tensor, nn

from rlstab.policies.transformer.network import TransformerActorCritic


class RecurrentActor(nn.Module):
    """``(observation, *state)`` to ``(action, *next state)``, deterministic; nothing is written in place.

    Parameters
    ----------
    network
        The policy's network.

    Attributes
    ----------
    state_names
        Names of the state's tensors in order: ``count``, ``previous``, ``observed`` if tokens hold how
        observations change, then ``keys_0``, ``values_0``, ... a layer.
    """

    def __init__(self, network: TransformerActorCritic) -> None:
        super().__init__()
        self.network = network
        layers = range(len(network.transformer.layers))
        before = ("previous", "observed") if network.reads_changes else ("previous",)
        self.state_names = ("count", *before, *(f"{part}_{i}" for i in layers for part in ("keys", "values")))

    def empty_state(self, batch: int) -> tuple[Tensor, ...]:
        """State at the beginning of an episode; first axis ``batch``."""
        memory = self.network.empty_memory(batch)
        rings = (part for cache in memory.caches for part in (cache.k, cache.v))
        before = (memory.previous, memory.observed) if self.network.reads_changes else (memory.previous,)
        return (memory.caches[0].count, *before, *rings)

    def forward(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Raw float32 observations ``(batch, *space.shape)`` and a state to an action and the next state."""
        network = self.network
        count, previous, *rest = state
        flat = network.read(observation)
        observed = rest.pop(0) if network.reads_changes else flat
        x = network.embedding(network.inputs(flat, observed, previous, count == 0))
        after: list[Tensor] = []
        for index, block in enumerate(network.transformer.layers):
            x, keys, values = block.advance(x, rest[2 * index], rest[2 * index + 1], count)
            after += [keys, values]
        chosen = network.head.mode(network.actor(network.transformer.norm(x)))
        action = network.head.to_environment(chosen)
        # For real numbers both are the same; clipped twice, ONNX's exporter loses one of the two.
        described = action.flatten(1) if network.head.log_std is not None else network.head.encode(chosen)
        before = (described, flat) if network.reads_changes else (described,)
        return (action, count + 1, *before, *after)
