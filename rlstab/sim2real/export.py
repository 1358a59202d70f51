"""From a trained policy to one ``.onnx`` file that runs without torch and says what it is for."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib
import logging
import math
import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlstab.errors import UserError, first_line
from rlstab.runs.provenance import package_versions
from rlstab.runs.seeding import generator
from rlstab.sim2real.artefact import Artefact, read_artefact, write_artefact
from rlstab.sim2real.contract import MULTIPLE_CHOICE, Contract, Layout, Normaliser, TestVector, Training
from rlstab.sim2real.graph import normalisation
from rlstab.sim2real.layout import layout_of
from rlstab.sim2real.policy_onnx import OnnxPolicy
from rlstab.sim2real.stateful import actions_of, example_inputs, has_state, rolled, states_of

if TYPE_CHECKING:
    import torch

    from rlstab.policies.base import TorchPolicy
    from rlstab.runs.run import Run
    from rlstab.runs.store import Which

OPSET = 18
"""ONNX operator set of exported graphs (ONNX 1.13, 2022): what ONNX Runtime has read since version 1.14."""

TOLERANCE = 1e-5
"""Largest ``|difference| / max(1, |action|)`` between torch and ONNX Runtime that an export may show."""

_TEST_VECTORS = 4


def export_run(
    run: Run | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    which: Which = "best",
) -> Artefact:
    """Export a run's policy with everything its contract needs.

    Parameters
    ----------
    run
        A run or its folder.
    output
        The file; default: ``exports/policy.onnx`` in the run.
    which
        ``"best"`` by training return, ``"last"``, or a step number.

    Returns
    -------
    Artefact
        The file, read back.

    Raises
    ------
    UserError
        The folder is not a run, it has no such checkpoint, the policy cannot be exported, or the disk refuses.
    """
    from rlstab.envs.registry import make_vec
    from rlstab.policies.loading import load_policy
    from rlstab.policies.sb3_zip import is_sb3_zip
    from rlstab.runs.checkpoint import read_info
    from rlstab.runs.environment import EnvSettings
    from rlstab.runs.run import Run

    if not isinstance(run, Run) and is_sb3_zip(Path(run)):
        raise UserError(
            f"{os.fspath(run)} is a model of Stable-Baselines3, not a run: only runs are exported; evaluate it with "
            "`rlstab evaluate FILE --env ID --allow-pickle`, or train the policy with `rlstab train` to export it"
        )
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    info = opened.info
    # Resolved once: the run may still be training, and its best checkpoint change.
    step = read_info(opened.checkpoints.find(which)).step
    policy = load_policy(opened, step)
    settings = EnvSettings.of_run(info)
    env = make_vec(info.env_id, max_episode_steps=settings.max_episode_steps, env_kwargs=settings.env_kwargs)
    try:
        layout = layout_of(env, info.env_id)
    finally:
        env.close()
    training = Training(
        env_id=info.env_id,
        env_kwargs=settings.env_kwargs,
        max_episode_steps=settings.max_episode_steps,
        method=info.method,
        run=info.name,
        seed=info.seed,
        steps=step,
        git=_revision(info.git),
        gap=str(info.config.get("disturbances") or "none"),
        versions=info.versions,
    )
    return export_policy(policy, output or opened.folder("exports") / "policy.onnx", layout, training)


def export_policy(
    policy: TorchPolicy, path: str | os.PathLike[str], layout: Layout, training: Training, *, seed: int = 0
) -> Artefact:
    """Write a policy's deterministic network, normalisation and clipping included, with its contract.

    A policy with memory becomes a network with its state as further inputs and outputs.

    The file is checked before it gets its name: ONNX Runtime must agree with torch to `TOLERANCE` on random and on
    extreme observations, in batches and alone.

    Parameters
    ----------
    policy
        Its ``deterministic_module()`` maps raw observations to environment actions.
    path
        Where to write; must end in ``.onnx``. The contract also goes beside it, to ``.contract.json``.
    layout
        Of the environment the policy is for (`rlstab.sim2real.layout.layout_of`).
    training
        Where the policy comes from.
    seed
        Draws the observations of checks and test vectors.

    Returns
    -------
    Artefact
        The file, read back.

    Raises
    ------
    UserError
        The name is wrong, the network does not fit the layout, its output is not finite, ONNX has no operator for
        something in it, ONNX Runtime computes something else, or the disk refuses.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise UserError(f"cannot export to {target}: the file name must end in .onnx")
    module = _copy_of_network(policy)
    normaliser = _normaliser(module)
    observations = _probe_observations(layout, normaliser, seed)
    actions = _torch_actions(module, observations, layout)
    chooses = layout.action.n is not None or layout.action.kind in MULTIPLE_CHOICE
    clear = np.ones(len(actions), np.bool_)
    if chooses and layout.observation.n is None:
        clear = _is_clear_choice(module, observations, actions, layout)
        if not has_state(module):
            observations, actions, clear = observations[clear], actions[clear], clear[clear]
        # A sequence stays whole, since each step matters to all later ones: begin it elsewhere.
        for _ in range(len(observations) if has_state(module) else 0):
            if clear[:_TEST_VECTORS].all():
                break
            observations = np.roll(observations, -1, axis=0)
            actions = _torch_actions(module, observations, layout)
            clear = _is_clear_choice(module, observations, actions, layout)
    contract = Contract(
        layout=layout,
        policy_type="recurrent" if has_state(module) else "feedforward",
        recurrent=states_of(module),
        training=dataclasses.replace(training, versions=training.versions or package_versions()),
        opset=OPSET,
        test_vectors=_test_vectors(observations, actions),
        tolerance=TOLERANCE,
    )
    problem = contract.contradiction()
    if problem:
        raise UserError(f"cannot export for {layout.env_id}: {problem}; mend the environment's layout")
    network = _to_onnx(module, *example_inputs(module, observations))
    contract = dataclasses.replace(
        contract,
        normaliser=_normaliser_in(network, normaliser, layout),
        sha256=hashlib.sha256(network).hexdigest(),
    )
    _compare(OnnxPolicy(network, contract, f"the export of {layout.env_id}"), observations, actions, clear)
    write_artefact(target, network, contract)
    artefact = read_artefact(target)
    OnnxPolicy.from_artefact(artefact)
    return artefact


def _copy_of_network(policy: TorchPolicy) -> torch.nn.Module:
    """Copy to the CPU: moving the network itself would take it away from a learner that goes on on its own device."""
    modes = [(part, part.training) for part in policy.module.modules()]
    try:
        return copy.deepcopy(policy.deterministic_module()).to("cpu").eval()
    finally:
        for part, mode in modes:
            part.training = mode


def _probe_observations(layout: Layout, normaliser: Normaliser | None, seed: int) -> NDArray[np.float32]:
    """Observations ``(n, *shape)``: test vectors first, then typical ones, then far outside what training saw."""
    rng = generator(seed, "export")
    shape = layout.observation.shape
    if layout.observation.n is not None:
        return (layout.observation.start + rng.integers(layout.observation.n, size=(64, *shape))).astype(np.float32)
    if layout.observation.dtype == "uint8":
        images = rng.integers(0, 256, (14, *shape))
        return np.concatenate([images, np.zeros((1, *shape)), np.full((1, *shape), 255)]).astype(np.float32)
    mean, std = np.zeros(shape), np.ones(shape)
    if normaliser is not None:
        mean = np.reshape(normaliser.mean, shape)
        std = np.sqrt(np.reshape(normaliser.var, shape) + normaliser.eps)
    factors = np.concatenate([np.ones(48), np.full(48, 5.0), np.full(32, 20.0)]).reshape(-1, *(1 for _ in shape))
    samples = mean + std * factors * rng.standard_normal((len(factors), *shape))
    corners = mean + std * np.array([-100.0, 100.0]).reshape(-1, *(1 for _ in shape))
    return np.concatenate([samples, mean[None], np.zeros((1, *shape)), corners]).astype(np.float32)


def _torch_actions(module: torch.nn.Module, observations: NDArray[np.float32], layout: Layout) -> NDArray[Any]:
    output = actions_of(module, observations)
    expected = (len(observations), *layout.action.shape)
    if output.shape != expected:
        raise UserError(f"the policy gives actions of shape {output.shape[1:]}, {layout.env_id} takes {expected[1:]}")
    if not np.isfinite(output).all():
        raise UserError("the policy's network gives NaN or infinity: its training diverged; export another checkpoint")
    return output


def _is_clear_choice(
    module: torch.nn.Module, observations: NDArray[np.float32], actions: NDArray[Any], layout: Layout
) -> NDArray[np.bool_]:
    """Tell where discrete actions do not hang on rounding, ``(n,)``; only there can two machines be compared."""
    nearby = [_torch_actions(module, observations * np.float32(factor), layout) for factor in (1 - 1e-4, 1 + 1e-4)]
    same = np.logical_and(*(other == actions for other in nearby))
    clear: NDArray[np.bool_] = same.reshape(len(same), -1).all(axis=1)
    return clear if clear.sum() >= _TEST_VECTORS else np.ones_like(clear)


def _test_vectors(observations: NDArray[Any], actions: NDArray[Any]) -> tuple[TestVector, ...]:
    # float32 to a Python float is exact, and so is its way through JSON.
    pairs = zip(observations[:_TEST_VECTORS], actions[:_TEST_VECTORS], strict=True)
    return tuple(
        TestVector(tuple(x.astype(float).ravel().tolist()), tuple(y.astype(float).ravel().tolist())) for x, y in pairs
    )


def _compare(policy: OnnxPolicy, observations: NDArray[Any], actions: NDArray[Any], clear: NDArray[np.bool_]) -> None:
    """Refuse a network that computes something else where ``clear``, or gives a batch another shape."""
    if policy.contract.recurrent:
        alone, together = rolled(policy, observations), rolled(policy, np.stack([observations] * 2, axis=1))
        results = [alone, together[:, 0], together[:, 1]]
    else:
        results = [policy.predict(observations)[0], np.stack([policy.predict(row)[0] for row in observations])]
    for result in results:
        differences = np.abs(result - actions) / np.maximum(1.0, np.abs(actions))
        error = float(differences[clear].max(initial=0.0))
        if result.shape != actions.shape or not error <= TOLERANCE:
            raise UserError(
                f"ONNX Runtime differs from torch by {error:.2g} (allowed {TOLERANCE:g}), nothing was written: export "
                "another checkpoint, or report this with the policy's configuration"
            )


def _to_onnx(module: torch.nn.Module, example: tuple[torch.Tensor, ...], states: tuple[str, ...]) -> bytes:
    """Serialise a network with free batch size, weights inside and no trace of the machine that made it."""
    import torch

    batch = torch.export.Dim("batch")
    # Inputs after the observation are gathered in one variadic argument.
    shapes: Any = ({0: batch}, tuple({0: batch} for _ in states)) if states else ({0: batch},)
    try:
        with _quiet():
            program: Any = torch.onnx.export(  # pyright: ignore[reportUnknownMemberType]
                module,
                example,
                input_names=["observation", *states],
                output_names=["action", *(f"next_{name}" for name in states)],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # The exporter's exceptions share no base class.
        raise UserError(
            f"ONNX cannot express this policy's network ({type(error).__name__}: {first_line(error)}): keep "
            "deterministic_module() free of Python control flow that depends on data"
        ) from error
    model: Any = program.model_proto
    if model.ByteSize() >= 2**31:
        raise UserError("the network is larger than the 2 GB that one ONNX file holds: train a smaller one")
    _strip(model)
    return model.SerializeToString(deterministic=True)


def _strip(model: Any) -> None:
    # The exporter notes source paths and lines at every node.
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph = model.graph
    for item in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    # It warns about packages that are absent and about its own internals, none of which a user can act on.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _normaliser(module: torch.nn.Module) -> Normaliser | None:
    kind: Any = importlib.import_module("rlstab.policies.observation_input").ObservationInput
    found: list[Any] = [part.normalizer for part in module.modules() if isinstance(part, kind) and part.normalizer]
    if len(found) != 1:
        return None
    mean, var = (tuple(values.double().tolist()) for values in (found[0].mean, found[0].var))
    clip = float(found[0].limit)
    return Normaliser(True, mean, var, float(found[0].eps), clip if math.isfinite(clip) else None)


def _normaliser_in(network: bytes, known: Normaliser | None, layout: Layout) -> Normaliser | None:
    """What the contract states: only what the graph does, in the module's own numbers where they are known."""
    inside = normalisation(network, math.prod(layout.observation.shape))
    return None if inside is None else known or inside.stated()


def _revision(git: dict[str, Any]) -> str:
    commit = str(git.get("commit", ""))
    return f"{commit}-dirty" if git.get("dirty") else commit
