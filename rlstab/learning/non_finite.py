"""The guard against NaN and infinity: training stops, and what went wrong is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlstab.errors import DivergedError, NonFiniteState
from rlstab.runs.failure import FAILURE_FOLDER, save_failure
from rlstab.runs.run import Run


def refuse_non_finite(metrics: Mapping[str, float], step: int) -> None:
    """Stop if a metric is not a finite number.

    Raises
    ------
    DivergedError
        Names the metrics and the step.
    """
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        names = ", ".join(broken)
        raise DivergedError(
            f"{names} became NaN or infinite at step {step}: start a new run with a lower learning rate or another "
            "seed, as a resumed one keeps both"
        )


def save_non_finite(error: NonFiniteState, run: Run, step: int) -> NonFiniteState:
    """Save the state an environment stopped at as ``failure/step-....npz`` in the run.

    Parameters
    ----------
    error : NonFiniteState
        As the environment raised it.
    run : Run
        The run being trained.
    step : int
        Environment steps the learner had done before, summed over all worlds.

    Returns
    -------
    NonFiniteState
        The same with a message that also says where the state is, or why it could not be saved.
    """
    path = run.path / FAILURE_FOLDER / f"step-{step:012d}.npz"
    outcome = save_failure(path, error, training_step=step)
    message = f"{error}; training stopped after step {step}, counted over all worlds; {outcome}"
    return NonFiniteState(message, step=error.step, worlds=error.worlds, arrays=error.arrays)
