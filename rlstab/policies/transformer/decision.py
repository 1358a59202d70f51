"""Decision transformer: return-to-go, state and action as tokens, the action read from the state's token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from rlstab.errors import UserError
from rlstab.kernels.sigmoid_attention import RingCache, segments_to_rows
from rlstab.kernels.sigmoid_attention.checks import check_is_tensor, check_number, check_whole
from rlstab.kernels.sigmoid_attention.ring_cache import episode_starts
from rlstab.kernels.sigmoid_attention.transforms import autocast_type
from rlstab.policies.networks import orthogonal_
from rlstab.policies.transformer.blocks import Transformer
from rlstab.policies.transformer.config import TransformerConfig

TOKENS_PER_STEP = 3


@dataclass
class DecisionMemory:
    """What acting remembers: keys and values of the newest tokens in each layer, and each environment's time.

    Parameters
    ----------
    caches
        One a layer.
    steps
        ``(B,)`` int64: the next step's number in its episode.
    """

    caches: list[RingCache]
    steps: Tensor

    def begin(self, episode_start: ArrayLike | Tensor) -> None:
        """Forget everything in the environments where ``episode_start``, ``(B,)`` bool, is true."""
        episode_start = episode_starts(episode_start, self.steps)
        for cache in self.caches:
            cache.begin(episode_start)
        self.steps.masked_fill_(episode_start, 0)


class DecisionTransformer(nn.Module):
    """Backbone that reads trajectories as ``(return-to-go, state, action)`` and says the action after each state.

    Each token is an embedding plus that of the step's number *in its episode*, then normalised. It never depends on
    where a window begins, so that acting with cached keys computes exactly what training computes. A cut that begins
    within an episode needs as many steps before it as `context` for the same numbers.

    Parameters
    ----------
    state_dim, action_dim
        Numbers in a state and an action.
    config
        The transformer; its window is in *steps*, each of three tokens: besides those of the newest steps, the state's
        token sees the action before them. Positions are taken from the embedding of
        steps; ``positions`` adds to it.
    max_steps
        Largest number of steps in an episode.
    return_scale
        Returns-to-go are divided by this.
    generator
        Source of the initial weights.

    Raises
    ------
    UserError
        Sizes that do not fit.

    References
    ----------
    Chen et al. 2021, "Decision Transformer: Reinforcement Learning via Sequence Modeling", arXiv:2106.01345.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        config: TransformerConfig,
        *,
        max_steps: int = 1000,
        return_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"state_dim": state_dim, "action_dim": action_dim, "max_steps": max_steps}.items():
            check_whole(name, size, 1)
        check_number("return_scale", return_scale)
        if return_scale <= 0:
            raise UserError(f"return_scale must be a number above 0, got {return_scale}")
        generator = generator or torch.Generator().manual_seed(0)
        self.max_steps, self.return_scale = max_steps, return_scale
        width = config.width
        self.transformer = Transformer(replace(config, window=TOKENS_PER_STEP * config.window), generator)
        self.embed_return = nn.Linear(1, width)
        self.embed_state = nn.Linear(state_dim, width)
        self.embed_action = nn.Linear(action_dim, width)
        self.embed_step = nn.Embedding(max_steps, width)
        self.norm = nn.LayerNorm(width)
        self.action = nn.Linear(width, action_dim)
        for linear in (self.embed_return, self.embed_state, self.embed_action):
            orthogonal_(linear, 1.0, generator)
        orthogonal_(self.action, 0.01, generator)
        nn.init.normal_(self.embed_step.weight, std=0.02, generator=generator)

    @property
    def context(self) -> int:
        """How many steps before its own an action depends on."""
        return -(-self.transformer.receptive_field // TOKENS_PER_STEP)

    def forward(self, returns: Tensor, states: Tensor, actions: Tensor, steps: Tensor) -> Tensor:
        """Read trajectories.

        Parameters
        ----------
        returns
            ``(B, T)``: sum of rewards from each step to the end of its episode.
        states, actions
            ``(B, T, state_dim)`` and ``(B, T, action_dim)``.
        steps
            ``(B, T)`` int64: number of each step in its episode. Episodes, or cuts of them, may follow each other: one
            begins at a zero, and wherever a number is not that of the step before plus one.

        Returns
        -------
        Tensor
            ``(B, T, action_dim)``: the action for each state, of which only earlier actions are seen.

        Raises
        ------
        UserError
            A shape or type does not fit, or a step's number is negative or not below ``max_steps``.
        """
        check_is_tensor("steps", steps)
        if steps.ndim != 2 or steps.dtype not in (torch.int32, torch.int64):
            raise UserError(f"steps must be (B, T) whole numbers, got {tuple(steps.shape)} {steps.dtype}")
        for name, given, sizes in (
            ("returns", returns, ()),
            ("states", states, (self.embed_state.in_features,)),
            ("actions", actions, (self.embed_action.in_features,)),
        ):
            self._check_given(name, given, (*steps.shape, *sizes))
        self._check_steps(steps)
        tokens = self.tokens(returns, states, actions, steps)
        starts = torch.zeros(*steps.shape, TOKENS_PER_STEP, dtype=torch.bool, device=steps.device)
        starts[..., 0] = steps == 0
        starts[:, :1, 0] = True
        starts[:, 1:, 0] |= steps[:, 1:] != steps[:, :-1] + 1
        inner = torch.arange(TOKENS_PER_STEP, device=steps.device)
        numbers = (TOKENS_PER_STEP * steps[..., None] + inner).flatten(1)
        rows = segments_to_rows(starts.flatten(1), self.transformer.config.window)
        features = self.transformer(tokens, rows, numbers)
        return self.action(features[:, 1::TOKENS_PER_STEP])

    def tokens(self, returns: Tensor, states: Tensor, actions: Tensor, steps: Tensor) -> Tensor:
        """Tokens ``(B, 3 T, width)`` of trajectories; see `forward`."""
        parts = (self._return_token(returns, steps), self._token(self.embed_state(states), steps))
        return torch.stack((*parts, self._token(self.embed_action(actions), steps)), dim=2).flatten(1, 2)

    @torch.no_grad()
    def act(self, returns: Tensor, states: Tensor, memory: DecisionMemory) -> Tensor:
        """Action ``(B, action_dim)`` for the newest return-to-go ``(B,)`` and state ``(B, state_dim)``.

        Call `acted` with what was done before the next one.

        Raises
        ------
        UserError
            A shape or type does not fit, or an episode has more than ``max_steps`` steps; nothing is remembered.
        """
        self._check_memory(memory)
        self._check_given("returns", returns, tuple(memory.steps.shape))
        self._check_given("states", states, (len(memory.steps), self.embed_state.in_features))
        self._check_steps(memory.steps)
        self.transformer.step(self._return_token(returns, memory.steps), memory.caches)
        features = self.transformer.step(self._token(self.embed_state(states), memory.steps), memory.caches)
        return self.action(features)

    @torch.no_grad()
    def acted(self, actions: Tensor, memory: DecisionMemory) -> None:
        """Remember the action ``(B, action_dim)`` that was taken, and go to the next step.

        Raises
        ------
        UserError
            A shape or type does not fit, or an episode has more than ``max_steps`` steps; nothing is remembered.
        """
        self._check_memory(memory)
        self._check_given("actions", actions, (len(memory.steps), self.embed_action.in_features))
        self._check_steps(memory.steps)
        self.transformer.step(self._token(self.embed_action(actions), memory.steps), memory.caches)
        memory.steps += 1

    def empty_memory(self, batch: int) -> DecisionMemory:
        """Memory of ``batch`` environments before their first step."""
        batch = check_whole("batch", batch, 0)
        steps = torch.zeros(batch, dtype=torch.int64, device=self.embed_step.weight.device)
        return DecisionMemory(self.transformer.empty_caches(batch), steps)

    def _return_token(self, returns: Tensor, steps: Tensor) -> Tensor:
        return self._token(self.embed_return(returns[..., None] / self.return_scale), steps)

    def _token(self, embedded: Tensor, steps: Tensor) -> Tensor:
        return self.norm(embedded + self.embed_step(steps))

    def _check_memory(self, memory: DecisionMemory) -> None:
        if not isinstance(memory, DecisionMemory):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"memory must be what empty_memory gives, got {type(memory).__name__}")

    def _check_given(self, name: str, given: Tensor, shape: tuple[int, ...]) -> None:
        check_is_tensor(name, given)
        if tuple(given.shape) != shape:
            raise UserError(f"{name} must have shape {shape}, got {tuple(given.shape)}")
        # Autocast makes types meet by itself.
        own = self.embed_step.weight
        if given.dtype != own.dtype and autocast_type(own.device) is None:
            raise UserError(f"{name} must be {own.dtype} as the weights, got {given.dtype}: convert one of the two")

    def _check_steps(self, steps: Tensor) -> None:
        if steps.numel() and int(steps.min()) < 0:
            raise UserError(f"steps count from 0 in their episodes, got {int(steps.min())}")
        if steps.numel() and int(steps.max()) >= self.max_steps:
            raise UserError(f"step {int(steps.max())} of an episode is not below max_steps {self.max_steps}: raise it")


def returns_to_go(rewards: Tensor, starts: Tensor) -> Tensor:
    """Sum of rewards from each step to the end of its episode.

    Parameters
    ----------
    rewards
        ``(B, T)``.
    starts
        ``(B, T)`` bool: where episodes begin.

    Returns
    -------
    Tensor
        ``(B, T)``.

    Raises
    ------
    UserError
        Shapes or types do not fit.

    Examples
    --------
    >>> returns_to_go(torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([[True, False, True, False]]))
    tensor([[ 3.,  2., 12.,  8.]])
    """
    if rewards.ndim != 2 or starts.shape != rewards.shape or starts.dtype != torch.bool:
        given = f"{tuple(rewards.shape)} and {tuple(starts.shape)} {starts.dtype}"
        raise UserError(f"rewards and starts must have one shape (B, T), starts be booleans, got {given}")
    result = torch.empty_like(rewards)
    running = rewards.new_zeros(len(rewards))
    for step in range(rewards.shape[1] - 1, -1, -1):
        running = rewards[:, step] + running
        result[:, step] = running
        running = torch.where(starts[:, step], 0.0, running)
    return result
