"""The parts of a robustness battery, each of which is played, and kept, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.analysis.robustness.adversary import AdversaryReport, train_adversaries
from rlstab.analysis.robustness.battery_report import CellReport
from rlstab.analysis.robustness.cells import Cell, Level, battery_cells
from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.gain import FULL, QUICK, GainCurve, estimate_gain
from rlstab.analysis.robustness.gradient_attacks import CriticAttack, MaximalActionDifference, RobustSarsa
from rlstab.analysis.robustness.observation_attacks import AttackedPolicy, ObservationAttack, RandomVertex
from rlstab.analysis.robustness.pushes import PushReport, push_test
from rlstab.errors import UserError
from rlstab.runs.environment import EnvSettings
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.envs.disturbance import Disturbance
    from rlstab.policies.base import Policy

ENERGIES = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
"""Of the gain curve, weights of the robot times the square root of a second."""
_GAIN_SECONDS = 3.0

_RADII = {"Hopper": 0.075, "Walker2d": 0.05, "HalfCheetah": 0.15, "Ant": 0.15}
_USUAL_RADIUS = 0.1
_SHARES: dict[Level, tuple[float, ...]] = {"quick": (1.0, 2.0), "full": (0.5, 1.0, 2.0)}
_SARSA_STEPS = 50_000


@dataclass(frozen=True)
class BatteryConfig:
    """What a battery consists of."""

    level: Level = "quick"
    """quick: minutes; full: the grids of the literature, an hour or more."""
    episodes: int = 5
    """Episodes in each changed world."""
    seed: int = EVALUATION_SEED
    """Of the episodes."""
    pushes: bool = True
    """Whether it is pushed."""
    gain: bool = False
    """Whether the gain is searched for."""
    observations: bool = False
    """Whether its observations are attacked, within the radius that the literature uses for the robot, and twice it."""
    adversary_steps: int = 0
    """Control steps that each adversary is trained for; 0: none is."""
    adversary_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the adversaries."""
    adversary_seeds: int = 1
    """Adversaries at each rate."""
    adversary_forces: tuple[float, ...] = (0.15,)
    """Longest forces of the adversaries, in weights of the robot; for each, adversaries of their own are trained."""

    def __post_init__(self) -> None:
        if self.level not in ("quick", "full"):
            raise UserError(f"a battery is 'quick' or 'full', not '{self.level}'")
        if self.episodes < 1 or self.adversary_seeds < 1 or self.adversary_steps < 0 or not self.adversary_rates:
            raise UserError("a battery needs an episode, and adversaries a seed, a rate and no negative steps")
        forces = self.adversary_forces
        if not forces or not all(0.0 < force < float("inf") for force in forces):
            listed = ", ".join(f"{force:g}" for force in forces) or "none"
            raise UserError(
                f"the adversaries' forces must be above zero and finite, got {listed}: zero disturbs nobody"
            )


@dataclass(frozen=True)
class Worlds:
    """Episodes in the worlds of one test."""

    test: str

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> CellReport:
        """Play."""
        cells = [c for c in battery_cells(plant, config.level, observation_units(policy)) if c.test == self.test]
        return _cell_report(cells, [_episodes(policy, plant, config, settings, cell.disturbances) for cell in cells])


@dataclass(frozen=True)
class Pushes:
    """Pushes of one duration."""

    duration: float

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> PushReport:
        """Play."""
        return push_test(policy, plant, durations=(self.duration,))


@dataclass(frozen=True)
class Gain:
    """Searches for the gain at one energy."""

    energy: float

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> GainCurve:
        """Play."""
        attacks = FULL if config.level == "full" else QUICK
        return estimate_gain(policy, plant, energies=(self.energy,), seconds=_GAIN_SECONDS, attacks=attacks)


@dataclass(frozen=True)
class Adversary:
    """One adversary that pushes."""

    force: float
    rate: float
    seed: int

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> AdversaryReport:
        """Play."""
        return train_adversaries(
            policy,
            plant,
            max_force=self.force,
            steps=config.adversary_steps,
            learning_rates=(self.rate,),
            seeds=(self.seed,),
            episodes=max(config.episodes, 10),
            max_episode_steps=settings.max_episode_steps,
        )


@dataclass(frozen=True)
class Attacked:
    """Episodes under one attack on the observation, at several radii."""

    attack: str

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> CellReport:
        """Play."""
        usual = next((r for robot, r in _RADII.items() if plant.env_id.startswith(robot)), _USUAL_RADIUS)
        radii = [share * usual for share in _SHARES[config.level]]
        unit = "standard deviations" if observation_units(policy) else "units"
        cells = [Cell(attack_test(self.attack), radius, unit, ()) for radius in radii]
        value: Any = _action_value(policy, plant, config) if self.attack == RobustSarsa.name else None
        played = [
            _episodes(AttackedPolicy(policy, _attack(self.attack, radius, value)), plant, config, settings, ())
            for radius in radii
        ]
        return _cell_report(cells, played)


def attack_test(name: str) -> str:
    """Name of the test that an attack on the observation is."""
    return f"attack: {name}"


def possible_attacks(policy: Policy, config: BatteryConfig) -> tuple[str, ...]:
    """Attacks on the observation that can be made on a policy: those by gradient need its network."""
    found = []
    for name in (RandomVertex.name, MaximalActionDifference.name, CriticAttack.name):
        try:
            AttackedPolicy(policy, _attack(name, 0.0, None))
        except UserError:
            continue
        found.append(name)
    if config.level == "full" and MaximalActionDifference.name in found:
        found.append(RobustSarsa.name)
    return tuple(found)


def _attack(name: str, radius: float, value: Any) -> ObservationAttack:
    if name == RobustSarsa.name:
        return RobustSarsa(epsilon=radius, action_value=value)
    kinds = {kind.name: kind for kind in (RandomVertex, MaximalActionDifference, CriticAttack)}
    return kinds[name](epsilon=radius)


def _action_value(policy: Policy, plant: Plant, config: BatteryConfig) -> Any:
    from rlstab.analysis.robustness.action_value import learn_action_value

    return learn_action_value(policy, plant.env_id, steps=_SARSA_STEPS, env_kwargs=plant.env_kwargs)


def _episodes(
    policy: Policy,
    plant: Plant,
    config: BatteryConfig,
    settings: EnvSettings,
    disturbances: Sequence[Disturbance],
) -> Evaluation:
    from rlstab.analysis.evaluation import evaluate

    return evaluate(
        policy,
        plant.env_id,
        episodes=config.episodes,
        seed=config.seed,
        disturbances=disturbances,
        max_episode_steps=settings.max_episode_steps,
        env_kwargs=plant.env_kwargs,
        num_threads=plant.num_threads,
        failure_folder=None,
    )


def observation_units(policy: Policy) -> tuple[float, ...]:
    """Standard deviation of each component of the observation, where the policy's normaliser knows it; else empty."""
    from rlstab.policies.normalizer import RunningNormalizer

    parts: Any = getattr(getattr(policy, "module", None), "modules", tuple)()
    found = next((part for part in parts if isinstance(part, RunningNormalizer)), None)
    return () if found is None else tuple(float(value) for value in found.var.sqrt().cpu())


def _cell_report(cells: Sequence[Cell], played: Sequence[Evaluation]) -> CellReport:
    return CellReport(
        tuple(cell.test for cell in cells),
        tuple(cell.unit for cell in cells),
        np.array([cell.value for cell in cells]),
        np.array([cell.second for cell in cells]),
        np.stack([evaluation.returns for evaluation in played]),
        np.stack([evaluation.lengths for evaluation in played]),
        np.stack([evaluation.terminated for evaluation in played]),
    )
