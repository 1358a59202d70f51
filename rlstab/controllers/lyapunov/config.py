"""Configuration of training a controller together with the Lyapunov function that is to prove it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlstab.controllers.config import BaseConfig


@dataclass(frozen=True, kw_only=True)
class LyapunovConfig(BaseConfig):
    """Controller and Lyapunov function of a plant whose equations are known, trained on the claim that is to be proved.

    Network: the cost-to-go of the plant is computed on a grid, both networks are fitted to it, and then trained on
    states in which the claim fails, which gradients, samples and the verifier keep looking for (Yang et al. 2024,
    arXiv:2404.07956, whose start is an LQR controller). Quadratic: a linear regulator and a quadratic form, searched
    from LQR solutions. Nothing is proved by training: `rlstab certify RUN` does that.
    """

    env: str = "rlstab/PlantPendulum-v0"
    """Environment: one of the plants, rlstab/Plant...; its equations are used, no episodes are played."""

    total_steps: int = field(default=6_000, metadata={"min": 10, "unit": "iterations"})
    """Length of training, in iterations of the optimiser or candidates of the search; no environment is stepped."""

    checkpoint_every: int = field(default=2_000, metadata={"min": 1, "unit": "iterations"})
    """Iterations between two checkpoints."""

    lyapunov: Literal["network", "quadratic"] = "network"
    """network: ReLU controller and a neural Lyapunov function, for plants of up to three states; quadratic: linear
    regulator and quadratic form, for all."""

    controller_hidden: tuple[int, ...] = field(default=(16, 16), metadata={"min": 1, "max": 1024, "unit": "units"})
    """Width of each hidden layer of the controller."""

    lyapunov_hidden: tuple[int, ...] = field(default=(32, 16), metadata={"min": 1, "max": 1024, "unit": "units"})
    """Width of each hidden layer of the Lyapunov function. Wider ones follow sharper sets and take longer to prove."""

    lyapunov_outputs: int = field(default=4, metadata={"min": 1, "max": 64, "unit": "outputs"})
    """Outputs of that network, of which V is the sum of absolute values; more make level sets near 0 rounder."""

    kappa: float = field(default=1e-2, metadata={"above": 0.0, "below": 0.5})
    """Relative decrease of V a step that is trained for: more than is to be proved (rlstab certify --kappa)."""

    level: float = field(default=0.97, metadata={"above": 0.0, "max": 1.0})
    """Share of the states from which the grid says the origin can be reached that the set is to hold."""

    grid_cells: int = field(default=161, metadata={"min": 11, "max": 401, "unit": "nodes"})
    """Nodes a side of the grid of the cost-to-go; fewer for three states."""

    margin: float = field(default=0.985, metadata={"above": 0.0, "max": 1.0})
    """Share of the box in which next states must stay in training, so that they stay in the box in the proof."""

    fit_share: float = field(default=0.35, metadata={"above": 0.0, "below": 1.0})
    """Share of the training in which the networks are fitted to the grid's cost."""

    learning_rate: float = field(default=2e-3, metadata={"above": 0.0, "max": 1.0})
    """Largest step size of Adam; it falls to a twentieth in each of the two parts."""

    growth: float = field(default=1e-3, metadata={"min": 0.0})
    """Weight of the wish that the set held all those states."""

    anchor: float = field(default=0.1, metadata={"min": 0.0})
    """Weight of the relative distance between V and the cost-to-go after the fit; without it V becomes flat."""

    batch: int = field(default=1024, metadata={"min": 2, "max": 1_000_000, "unit": "states"})
    """States of each kind (uniform, attacked, counterexamples) in an iteration."""

    buffer: int = field(default=40_000, metadata={"min": 1, "max": 10_000_000, "unit": "states"})
    """Attacked states that are kept, and counterexamples; the newest."""

    attack_every: int = field(default=20, metadata={"min": 1, "unit": "iterations"})
    """Iterations between attacks, of 12 signed-gradient steps each."""

    sweep_every: int = field(default=100, metadata={"min": 1, "unit": "iterations"})
    """Iterations between sweeps, in which samples measure the set and those that fail become counterexamples."""

    sweep_samples: int = field(default=100_000, metadata={"min": 100, "max": 10_000_000, "unit": "states"})
    """States of a sweep; for quadratic, those a candidate is judged by."""

    prove_every: int = field(default=400, metadata={"min": 1, "unit": "iterations"})
    """Iterations between looks by branch and bound, whose counterexamples are trained on."""
