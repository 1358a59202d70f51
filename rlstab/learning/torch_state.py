"""The state of torch's optimisers as trees of numpy arrays, which is what checkpoints hold, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlstab.policies.tensors import to_array, to_tensor


def optimiser_to_tree(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Copy the moments and the learning rates of an optimiser."""
    state = optimiser.state_dict()
    return {
        "state": {
            str(index): {name: to_array(value) if torch.is_tensor(value) else value for name, value in entry.items()}
            for index, entry in state["state"].items()
        },
        "learning_rates": [float(group["lr"]) for group in state["param_groups"]],
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tree: dict[str, Any]) -> None:
    """Restore what `optimiser_to_tree` copied, into an optimiser of the same parameters."""
    state = optimiser.state_dict()
    state["state"] = {
        int(index): {
            name: to_tensor(value, dtype=None) if isinstance(value, np.ndarray) else value
            for name, value in entry.items()
        }
        for index, entry in tree["state"].items()
    }
    for group, rate in zip(state["param_groups"], tree["learning_rates"], strict=True):
        group["lr"] = rate
    optimiser.load_state_dict(state)
