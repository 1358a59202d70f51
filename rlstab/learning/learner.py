"""What the training driver asks of a learner, whatever it learns and however."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rlstab.runs.state import StateTree

if TYPE_CHECKING:
    from rlstab.policies.base import TorchPolicy


class Learner(Protocol):
    """Something that improves a policy, one unit of work at a time.

    `rlstab.learning.training.train` calls `iterate` until the steps are done and takes `state_dict` between calls. A
    learner that was made from the same configuration and loaded from a checkpoint must go on exactly as the one that
    wrote it would have; saving must change nothing.
    """

    policy: TorchPolicy
    """The policy being improved."""

    env: Any
    """The vector environment."""

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far, over all worlds; also right in the middle of `iterate`, for what fails there."""
        ...

    def iterate(self) -> dict[str, float]:
        """Do one unit of work: collect and update once, from tenths of a second to a few seconds.

        Returns
        -------
        dict of str to float
            Scalars of the unit by name: ``rollout/return_mean`` and ``rollout/length_mean`` (over finished episodes),
            ``train/...`` (losses and what else tells of the update), ``time/steps_per_second``. What is undefined, as a
            mean over no episodes, is left out: NaN and infinity stop the training.
        """
        ...

    def state_dict(self) -> StateTree:
        """Everything the future depends on: weights, optimiser, normalisers, generators, environments, counters.

        The key ``"policy"`` holds `TorchPolicy.state_dict`, from which the policy is loaded without the learner.

        The state must still be that of this moment when the next `iterate` has ended, or failed halfway: taken after
        every one (so it must be cheap), it is what is saved when the next one fails. Iterations after that may change
        it, since arrays that are too large to copy may be views of the learner's own.
        """
        ...

    def load_state_dict(self, tree: StateTree) -> None:
        """Take over what `state_dict` gave."""
        ...

    def close(self) -> None:
        """Release the environment."""
        ...
