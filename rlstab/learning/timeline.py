"""Rollouts with what came before them, cut into training sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.learning.rollout import Rollout, Storage
from rlstab.learning.surrogate import Targets
from rlstab.policies.tensors import to_array, to_tensor
from rlstab.policies.transformer.network import Sequences


class Timeline(Rollout):
    """A rollout that remembers the newest steps of the one before.

    Parameters
    ----------
    context
        Steps to remember, at least one.
    n_steps, num_envs, storage, device
        See `Rollout`.

    Attributes
    ----------
    starts, steps
        ``(context + n_steps + 1, num_envs)``: whether an episode begins with an observation, and the observation's
        number in its episode. Row ``context`` is the rollout's first.
    """

    def __init__(self, context: int, n_steps: int, num_envs: int, storage: Storage, device: torch.device) -> None:
        super().__init__(n_steps, num_envs, storage, device)
        self.context = context
        rows = context + n_steps + 1
        self._observations = storage.observations(rows, num_envs, device=device)
        self.observations = self._observations[context:]
        # The action before each observation: the rollout's own are one row later.
        self._previous = storage.actions(rows, num_envs, device=device)
        self.actions = self._previous[context + 1 :]
        # What was never seen is cut up into episodes of one step, which nobody looks back at.
        self.starts = torch.ones(rows, num_envs, dtype=torch.bool, device=device)
        self.steps = torch.zeros(rows, num_envs, dtype=torch.int64, device=device)
        self._filled = 0

    def clear(self) -> None:
        """Begin the next rollout where the last one ended, with its newest steps as context."""
        super().clear()
        if self._filled:
            for rows in self._rows():
                rows[: self.context + 1] = rows[self._filled : self._filled + self.context + 1].clone()
        self._filled = 0

    def record(
        self,
        step: int,
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        infos: dict[str, Any],
    ) -> None:
        """See `Rollout.record`."""
        super().record(step, reward, terminated, truncated, infos)
        here = self.context + step
        torch.gt(self.dones[step], 0.0, out=self.starts[here + 1])
        self.steps[here + 1] = (self.steps[here] + 1).masked_fill_(self.starts[here + 1], 0)
        self._filled = step + 1

    def previous(self, step: int) -> Tensor:
        """Action before the observation of ``step``, ``(num_envs, ...)``."""
        return self._previous[self.context + step]

    @property
    def newest_before(self) -> Tensor:
        """Observations of the step before the rollout, ``(num_envs, ...)``; zeros before the first rollout."""
        return self._observations[self.context - 1]

    def before(self) -> Sequences:
        """The steps before the rollout, one sequence a world."""
        return self.pieces(torch.arange(self.starts.shape[1], device=self.starts.device), 0, self.context)

    def pieces(self, worlds: Tensor, first: Tensor | int, length: int, back: int = 0) -> Sequences:
        """Cut sequences out.

        Parameters
        ----------
        worlds
            ``(B,)``.
        first
            Row of each one's first step, ``(B,)`` or the same for all. The observation before goes with it, if there is
            one.
        length
            Steps of each.
        back
            Steps before the first that ``starts`` and ``steps`` cover too.
        """
        begin = torch.as_tensor(first, device=worlds.device).expand(worlds.shape)[:, None]
        time = begin + torch.arange(-back, length, device=worlds.device)
        world = worlds[:, None]
        seen = time[:, back:]
        return Sequences(
            self._observations[seen, world],
            self._previous[seen, world],
            self.starts[time, world],
            self.steps[time, world],
            before=self._observations[(begin - 1).clamp(min=0), world].squeeze(1),
        )

    def state_dict(self) -> dict[str, Any]:
        """What the next rollout will need of this one."""
        newest = slice(self._filled, self._filled + self.context + 1)
        names = ("observations", "previous", "starts", "steps")
        return {name: to_array(rows[newest]) for name, rows in zip(names, self._rows(), strict=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        names = ("observations", "previous", "starts", "steps")
        for name, rows in zip(names, self._rows(), strict=True):
            rows[: self.context + 1] = to_tensor(np.asarray(state[name]), rows.device, rows.dtype)
        self._filled = 0

    def begin_anew(self) -> None:
        """Let every world be at the first step of an episode."""
        self.starts[self.context + self._filled] = True
        self.steps[self.context + self._filled] = 0

    def _rows(self) -> tuple[Tensor, ...]:
        return self._observations, self._previous, self.starts, self.steps


@dataclass(frozen=True)
class SequenceMinibatch(Targets):
    """Sequences of one gradient step, and the targets of their steps one after the other."""

    sequences: Sequences
    context: int
    """Steps at the beginning of each sequence that have no targets."""


class SequenceSamples:
    """A rollout's samples as sequences of equal length.

    Parameters
    ----------
    timeline
        Where they are.
    targets
        Arrays ``(n_steps, num_envs, ...)``.
    length
        Steps of a sequence, a divisor of ``n_steps``.
    context
        ``"recompute"``: sequences begin as early as their first step can see. ``"cached"``: they bring ``memories``.
    memories
        Inputs of each layer, ``(num_envs, context + n_steps, width)``, for ``"cached"``.
    memory
        Steps of them that a sequence sees.
    """

    def __init__(
        self,
        timeline: Timeline,
        targets: Targets,
        length: int,
        context: Literal["recompute", "cached"],
        memories: Sequence[Tensor] = (),
        memory: int = 0,
    ) -> None:
        self._timeline = timeline
        self._length = length
        self._recompute = context == "recompute"
        self._memories = memories
        self._memory = memory
        self._targets = Targets(*(self._cut(getattr(targets, field.name)) for field in fields(Targets)))
        self.returns, self.values = self._targets.returns, self._targets.values
        self.count = self.returns.shape[0]

    def minibatches(self, order: Tensor, size: int) -> Iterator[SequenceMinibatch]:
        """Take sequences in ``order``, so many at a time that they have ``size`` steps."""
        for chosen in order.split(size // self._length):
            yield self._take(chosen)

    def _take(self, chosen: Tensor) -> SequenceMinibatch:
        timeline, worlds = self._timeline, chosen % self._timeline.starts.shape[1]
        first = timeline.context + torch.div(chosen, timeline.starts.shape[1], rounding_mode="floor") * self._length
        if self._recompute:
            # Before an episode's beginning there is nothing to see.
            context = min(timeline.context, int(timeline.steps[first, worlds].max()))
            sequences = timeline.pieces(worlds, first - context, context + self._length)
        else:
            context = 0
            plain = timeline.pieces(worlds, first, self._length, back=self._memory)
            time = first[:, None] + torch.arange(-self._memory, 0, device=first.device)
            memories = [inputs[worlds[:, None], time] for inputs in self._memories]
            sequences = replace(plain, memories=memories)
        targets = {field.name: getattr(self._targets, field.name)[chosen].flatten(0, 1) for field in fields(Targets)}
        return SequenceMinibatch(**targets, sequences=sequences, context=context)

    def _cut(self, values: Tensor) -> Tensor:
        """``(n_steps, num_envs, ...)`` to ``(sequences, length, ...)``."""
        pieces = values.unflatten(0, (-1, self._length)).transpose(1, 2)
        return pieces.flatten(0, 1)
