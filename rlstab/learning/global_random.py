"""Lend a computation its own state of the process-wide random generators.

Stable-Baselines3 draws from numpy's and torch's global generators. Two learners in one process, or an evaluation
between two iterations, would then change each other's results, and a resumed run would differ from one that was not
interrupted.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class GlobalRandom:
    """A state of the global generators of Python, numpy and torch, put in place only where it is asked for.

    Parameters
    ----------
    device
        The device whose generator belongs to the state besides the CPU's.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._mine = self._capture()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the context the global generators have this state, and their use advances it alone."""
        outside = self._capture()
        self._restore(self._mine)
        try:
            yield
        finally:
            self._mine = self._capture()
            self._restore(outside)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same numbers."""
        return dict(self._mine)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a state saved on another kind of device keeps this device's generator."""
        self._mine = {**self._mine, **{name: value for name, value in state.items() if name in self._mine}}

    def _capture(self) -> dict[str, Any]:
        version, words, spare = random.getstate()
        legacy = np.random.get_state(legacy=False)  # noqa: NPY002  # the very generator this class guards
        assert isinstance(legacy, dict)
        state: dict[str, Any] = {
            "python": {"version": version, "words": np.array(words, np.uint64), "spare": spare},
            "numpy": {
                "key": legacy["state"]["key"].copy(),
                "position": int(legacy["state"]["pos"]),
                "has_gauss": int(legacy["has_gauss"]),
                "gauss": float(legacy["gauss"]),
            },
            "torch": torch.get_rng_state().numpy().copy(),
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device).numpy().copy()
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        python, legacy = state["python"], state["numpy"]
        random.setstate((python["version"], tuple(python["words"].tolist()), python["spare"]))
        np.random.set_state(  # noqa: NPY002
            {
                "bit_generator": "MT19937",
                "state": {"key": legacy["key"], "pos": legacy["position"]},
                "has_gauss": legacy["has_gauss"],
                "gauss": legacy["gauss"],
            }
        )
        torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
        if "cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(np.array(state["cuda"])), self._device)
