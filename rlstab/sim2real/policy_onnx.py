"""An exported controller as a policy: `predict` through ONNX Runtime, without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError, first_line
from rlstab.sim2real.artefact import Artefact, read_artefact
from rlstab.sim2real.contract import MULTIPLE_CHOICE, ActionLayout, Contract, ObservationLayout
from rlstab.sim2real.graph import disagreement

_INPUT_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


class OnnxPolicy:
    """A network in an ``.onnx`` file, behind the same protocol as every policy here.

    One thread: a controller's network is so small that handing its layers to others costs more than it saves, and a
    second spinning thread competes with the control loop.

    Parameters
    ----------
    model
        The serialised model.
    contract
        What it was exported with.
    source
        Names the model in errors.

    Raises
    ------
    UserError
        ONNX Runtime refuses the model, the model contradicts the contract (inputs, outputs, operator set, normaliser),
        or it needs something that this version does not feed (a phase clock, normalised observations).
    """

    def __init__(self, model: bytes, contract: Contract, source: str = "the network") -> None:
        self.contract = contract
        self._source = source
        if contract.phase is not None:
            raise UserError(
                f"{source}: is a controller with a clock input, which this version of rlstab does not run; export a "
                "policy that reads observations only"
            )
        if contract.normaliser is not None and not contract.normaliser.baked:
            raise UserError(
                f"{source}: its normaliser is not in the graph (normaliser.baked is false), and this version of rlstab "
                "does not apply it outside; export the policy with its normaliser inside"
            )
        self.observation_space = _observation_space(contract.layout.observation)
        self.action_space = _action_space(contract.layout.action)
        self._session = _session(model, source)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if not inputs or len(outputs) != len(inputs) or any(entry.type not in _INPUT_DTYPES for entry in inputs):
            raise UserError(
                f"{source}: the network must have an observation and an action, and each state as input and output; "
                "export the run again"
            )
        found = [entry.name for entry in inputs[1:]], [entry.name for entry in outputs[1:]]
        names = [state.name for state in contract.recurrent]
        if found != (names, [f"next_{name}" for name in names]):
            raise UserError(
                f"{source}: the network carries the states {found[0]} to {found[1]}, its contract names {names}; "
                "export the run again"
            )
        self._state = {
            state.name: np.zeros(state.shape, _INPUT_DTYPES[entry.type])
            for state, entry in zip(contract.recurrent, inputs[1:], strict=True)
        }
        extents = tuple(inputs[0].shape[1:])
        # Extents that the graph leaves open are names, or nothing.
        if len(extents) != len(contract.layout.observation.shape) or any(
            isinstance(extent, int) and extent != wanted
            for extent, wanted in zip(extents, contract.layout.observation.shape, strict=True)
        ):
            raise UserError(
                f"{source}: the network takes inputs of shape {list(extents)}, its contract says "
                f"{list(contract.layout.observation.shape)}; export the run again"
            )
        contradiction = disagreement(model, contract)
        if contradiction:
            raise UserError(f"{source}: {contradiction}; export the run again")
        self._input, self._input_dtype = str(inputs[0].name), _INPUT_DTYPES[inputs[0].type]
        self._output_names = [str(output.name) for output in outputs]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OnnxPolicy:
        """Read an exported file, check that it is whole, and reproduce its test vectors.

        Raises
        ------
        UserError
            What is wrong with the file, in one line (`rlstab.sim2real.artefact.read_artefact`), or the network computes
            something else on this machine than where it was exported.
        """
        artefact = read_artefact(Path(path))
        return cls.from_artefact(artefact)

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> OnnxPolicy:
        """Build the policy of a file that was read, and reproduce its test vectors."""
        policy = cls(artefact.model, artefact.contract, str(artefact.path))
        policy.check_test_vectors()
        return policy

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Give the action for one observation or a batch.

        Parameters
        ----------
        observation
            One observation, or several with a leading axis; raw, as the environment gives it.
        state
            What the previous call returned; ``None`` at the start. Networks without state return it as it is.
        episode_start
            ``(batch,)`` bool: where an episode begins, and the state is not read.
        deterministic
            Accepted for the protocol; the exported network is the deterministic policy.

        Returns
        -------
        action, state
            With a leading axis if the observation had one.

        Raises
        ------
        UserError
            The observation has the wrong shape, the state is that of another batch, or the network's output is not
            finite.
        """
        del deterministic
        observation = np.asarray(observation)
        shape = self.observation_space.shape or ()
        single = observation.ndim == len(shape)
        if observation.shape[observation.ndim - len(shape) :] != shape or observation.ndim > len(shape) + 1:
            raise UserError(f"{self._source}: expects observations of shape {shape}, got {observation.shape}")
        batch = np.ascontiguousarray(observation[None] if single else observation, dtype=self._input_dtype)
        carried = self._carried(len(batch), state, episode_start)
        try:
            action, *after = self._session.run(self._output_names, {self._input: batch, **carried})
        except Exception as error:  # ONNX Runtime's exceptions share no base class.
            message = f"{self._source}: ONNX Runtime cannot run the network ({first_line(error)}); export the run again"
            raise UserError(message) from error
        if not np.isfinite(action).all():
            cause = (
                "its observation is not finite" if not np.isfinite(batch).all() else "its weights diverged in training"
            )
            raise UserError(f"{self._source}: the network's output is NaN or infinite ({cause}); nothing was commanded")
        return (action[0] if single else action), (tuple(after) if self._state else state)

    def _carried(self, count: int, state: Any, episode_start: Any) -> dict[str, NDArray[Any]]:
        """State of ``count`` environments by name, zero where episodes begin."""
        if not self._state:
            return {}
        if state is None:
            return {name: np.zeros((count, *zero.shape), zero.dtype) for name, zero in self._state.items()}
        carried: dict[str, NDArray[Any]] = dict(zip(self._state, state, strict=True))
        batch = len(next(iter(carried.values())))
        if batch != count:
            raise UserError(
                f"{self._source}: the state is that of {batch} environments, there are {count} observations"
            )
        starts = np.zeros(count, np.bool_) if episode_start is None else np.atleast_1d(episode_start)
        if starts.any():
            carried = {name: value.copy() for name, value in carried.items()}
            for value in carried.values():
                value[starts] = 0
        return carried

    def warm_up(self, observation: NDArray[Any]) -> None:
        """See `rlstab.sim2real.runtime.WarmUp`."""
        self.predict(observation)

    def check_test_vectors(self) -> None:
        """Recompute the contract's test vectors.

        Raises
        ------
        UserError
            An action differs by more than the contract's tolerance.
        """
        layout = self.contract.layout
        state: Any = None
        for number, vector in enumerate(self.contract.test_vectors):
            observation = np.array(vector.observation).reshape(layout.observation.shape)
            expected = np.array(vector.action).reshape(layout.action.shape)
            action, state = self.predict(observation, state)
            if action.shape != expected.shape:
                raise UserError(
                    f"{self._source}: gives actions of shape {action.shape}, its contract says {expected.shape}; "
                    "export the run again"
                )
            error = float((np.abs(action - expected) / np.maximum(1.0, np.abs(expected))).max(initial=0.0))
            # A NaN is larger than nothing, so the question is asked the other way round.
            if not error <= self.contract.tolerance:
                raise UserError(
                    f"{self._source}: test vector {number} gives an action that is off by {error:.2g} "
                    f"(allowed {self.contract.tolerance:g}): the network does not compute here what it was exported "
                    "as; export the run again, or try another version of onnxruntime"
                )


def _session(model: bytes, source: str) -> Any:
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    runtime: Any = onnxruntime
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # Problems come as exceptions; its log would break the one-line errors.
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class.
        message = f"{source}: ONNX Runtime cannot load the network ({first_line(error)}); export the run again"
        raise UserError(message) from error


def _observation_space(layout: ObservationLayout) -> gymnasium.Space[Any]:
    if layout.n is not None:
        return gymnasium.spaces.Discrete(layout.n, start=layout.start)
    if layout.low is None or layout.high is None:
        low, high = (0, 255) if layout.dtype == "uint8" else (-np.inf, np.inf)
        return gymnasium.spaces.Box(low, high, layout.shape, _dtype(layout.dtype))
    return _box(layout.low, layout.high, layout.shape, layout.dtype)


def _action_space(layout: ActionLayout) -> gymnasium.Space[Any]:
    if layout.n is not None:
        return gymnasium.spaces.Discrete(layout.n, start=layout.start)
    if layout.kind in MULTIPLE_CHOICE:
        # Their bounds are there and whole: `Contract.contradiction`.
        low, high = (np.array(bound, np.int64).reshape(layout.shape) for bound in (layout.low, layout.high))
        if layout.kind == "multi-binary":
            return gymnasium.spaces.MultiBinary(layout.shape[0] if len(layout.shape) == 1 else layout.shape)
        return gymnasium.spaces.MultiDiscrete(high - low + 1, _dtype(layout.dtype), start=low)
    unbounded = (None,) * int(np.prod(layout.shape))
    return _box(layout.low or unbounded, layout.high or unbounded, layout.shape, layout.dtype)


def _box(
    low: tuple[float | None, ...], high: tuple[float | None, ...], shape: tuple[int, ...], dtype: str
) -> gymnasium.spaces.Box:
    lower = np.array([-np.inf if value is None else value for value in low]).reshape(shape)
    upper = np.array([np.inf if value is None else value for value in high]).reshape(shape)
    return gymnasium.spaces.Box(lower.astype(_dtype(dtype)), upper.astype(_dtype(dtype)), shape, _dtype(dtype))


def _dtype(name: str) -> Any:
    return np.dtype(name).type
