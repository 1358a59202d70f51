"""The transformer itself: blocks of causal attention and perceptron, for whole sequences and for one step at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import RingCache, Segments, SelfAttention
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.sigma_reparam import apply_sigma_reparam, power_step


class GRUGate(nn.Module):
    """Joins a stream and what a sub-layer adds to it by a gated recurrent unit.

    Parameters
    ----------
    width
        Size of a token.
    bias
        ``b_g``: with 2, about 0.9 of the stream passes a fresh gate.

    References
    ----------
    Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning", arXiv:1910.06764, section 3.2.
    """

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.from_added = nn.Linear(width, 3 * width, bias=False)
        self.from_stream = nn.Linear(width, 2 * width, bias=False)
        self.from_reset = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), bias))

    def forward(self, stream: Tensor, added: Tensor) -> Tensor:
        """Both and the result are ``(..., width)``."""
        added_reset, added_update, added_state = self.from_added(added).chunk(3, dim=-1)
        stream_reset, stream_update = self.from_stream(stream).chunk(2, dim=-1)
        reset = torch.sigmoid(added_reset + stream_reset)
        update = torch.sigmoid(added_update + stream_update - self.bias)
        state = torch.tanh(added_state + self.from_reset(reset * stream))
        return torch.lerp(stream, state, update)


class Join(nn.Module):
    """How the output of a sub-layer joins the stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale: nn.Parameter | None = None
        if config.layer_scale is not None:
            self.scale = nn.Parameter(torch.full((config.width,), config.layer_scale))
        self.gate = GRUGate(config.width, config.gate_bias) if config.residual == "gru" else None

    def forward(self, stream: Tensor, added: Tensor) -> Tensor:
        """Both and the result are ``(..., width)``."""
        if self.gate is not None:
            # The rectifier is GTrXL's.
            added = torch.relu(added)
        if self.scale is not None:
            added = self.scale * added
        return stream + added if self.gate is None else self.gate(stream, added)


class Block(nn.Module):
    """Causal attention and a perceptron, each on the normalised stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(
            width,
            config.num_heads,
            config.window,
            weights=config.attention,
            kv_heads=config.kv_heads,
            bias=config.score_bias,
            positions=config.positions,
            qk_norm=config.qk_norm,
        )
        self.output_norm = nn.LayerNorm(width) if config.output_norm else nn.Identity()
        self.attention_join = Join(config)
        self.mlp_norm = nn.LayerNorm(width)
        hidden = config.mlp_ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.mlp_join = Join(config)

    def forward(
        self, x: Tensor, rows: Segments | None = None, steps: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """See `Transformer.forward`; ``memory`` is of this block, ``(B, M, width)``."""
        before = None if memory is None else self.attention_norm(memory)
        return self._join(x, self.attention(self.attention_norm(x), rows, steps=steps, memory=before))

    def step(self, x: Tensor, cache: RingCache) -> Tensor:
        """Take one token ``(B, width)`` of each environment."""
        return self._join(x, self.attention.step(self.attention_norm(x), cache))

    def advance(self, x: Tensor, keys: Tensor, values: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do as `step` without writing in place; see `SelfAttention.advance`."""
        attended, keys, values = self.attention.advance(self.attention_norm(x), keys, values, count)
        return self._join(x, attended), keys, values

    def _join(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self.attention_join(x, self.output_norm(attended))
        return self.mlp_join(x, self.mlp(self.mlp_norm(x)))


class Transformer(nn.Module):
    """A stack of blocks over tokens, causal over a window in each.

    Parameters
    ----------
    config
        Its shape.
    generator
        Source of the initial weights.

    Raises
    ------
    UserError
        The heads do not divide the width, or the like.
    """

    def __init__(self, config: TransformerConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        _initialise(self, generator)
        if config.sigma_reparam:
            apply_sigma_reparam(self)

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def receptive_field(self) -> int:
        """How many steps before its own a step's output depends on."""
        return self.config.num_layers * (self.config.window - 1)

    def forward(
        self,
        tokens: Tensor,
        rows: Segments | None = None,
        steps: Tensor | None = None,
        memories: Sequence[Tensor] | None = None,
        keep: list[Tensor] | None = None,
    ) -> Tensor:
        """Process whole sequences.

        Parameters
        ----------
        tokens
            ``(B, T, width)``.
        rows
            Episodes in the sequences, by `segments_to_rows` with the window; default: one each. With memories, of
            ``M + T`` steps.
        steps
            ``(B, M + T)``: number of each token in its episode; default: in its sequence.
        memories
            What the ``M`` tokens before gave as input to each block, ``(B, M, width)``, as `keep` collects it.
        keep
            If given, the input of each block is appended to it.

        Returns
        -------
        Tensor
            ``(B, T, width)``.
        """
        for index, block in enumerate(self.layers):
            if keep is not None:
                keep.append(tokens)
            tokens = block(tokens, rows, steps, None if memories is None else memories[index])
        return self.norm(tokens)

    @torch.no_grad()
    def step(self, tokens: Tensor, caches: Sequence[RingCache]) -> Tensor:
        """Process the next token ``(B, width)`` of each environment and remember it in its caches.

        Raises
        ------
        UserError
            They are not one a layer; none has been written.
        """
        if len(caches) != len(self.blocks):
            raise UserError(f"caches must be one a layer, {len(self.blocks)}, got {len(caches)}: use empty_caches")
        for block, cache in zip(self.layers, caches, strict=True):
            tokens = block.step(tokens, cache)
        return self.norm(tokens)

    @torch.no_grad()
    def prefill(self, tokens: Tensor, rows: Segments, steps: Tensor, caches: Sequence[RingCache]) -> None:
        """Leave caches as if ``tokens`` had been given to `step` one after the other.

        Parameters
        ----------
        tokens
            ``(B, T, width)`` with ``T`` at least `receptive_field`; earlier ones make no difference.
        rows, steps
            See `forward`; ``steps`` are ``(B, T)``.
        caches
            From `empty_caches`; overwritten.
        """
        for block, cache in zip(self.layers, caches, strict=True):
            block.attention.prefill(block.attention_norm(tokens), rows, steps, cache)
            tokens = block(tokens, rows, steps)

    def empty_caches(self, batch: int) -> list[RingCache]:
        """Make room for the window of ``batch`` environments in each block."""
        return [block.attention.empty_cache(batch) for block in self.layers]

    def after_gradient_step(self) -> None:
        """Bring up to date what follows the weights: call it whenever an optimiser has moved them."""
        if self.config.sigma_reparam:
            power_step(self)


def _initialise(transformer: Transformer, generator: torch.Generator) -> None:
    """Glorot's uniform weights; those that write to the stream scaled down by the number of writers, as in GPT-2."""
    writers = 2 * len(transformer.layers)
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in transformer.layers:
        for linear in (block.attention.out, block.mlp[2]):
            assert isinstance(linear, nn.Linear)
            with torch.no_grad():
                linear.weight.mul_(writers**-0.5)
