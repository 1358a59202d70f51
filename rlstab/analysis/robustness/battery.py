"""The battery: one policy put through changed worlds, pushes, attacks on its gain, and adversaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rlstab.analysis.result import Result
from rlstab.analysis.robustness.adversary import AdversaryReport, train_adversaries
from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
from rlstab.analysis.robustness.cells import Cell, Level, battery_cells
from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.gain import FULL, QUICK, GainCurve, estimate_gain
from rlstab.analysis.robustness.pushes import DURATIONS, PushReport, push_test
from rlstab.errors import UserError
from rlstab.runs.environment import EnvSettings
from rlstab.runs.seeding import EVALUATION_SEED

if TYPE_CHECKING:
    from rlstab.policies.base import Policy

Part = TypeVar("Part", bound=Result)

ENERGIES = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
"""Of the gain curve, weights of the robot times the square root of a second."""
_GAIN_SECONDS = 3.0


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
    adversary_steps: int = 0
    """Control steps that each adversary is trained for; 0: none is."""
    adversary_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the adversaries."""
    adversary_seeds: int = 1
    """Adversaries at each rate."""
    adversary_force: float = 0.15
    """Longest force of the adversaries, in weights of the robot."""

    def __post_init__(self) -> None:
        if self.level not in ("quick", "full"):
            raise UserError(f"a battery is 'quick' or 'full', not '{self.level}'")
        if self.episodes < 1 or self.adversary_seeds < 1 or self.adversary_steps < 0 or not self.adversary_rates:
            raise UserError("a battery needs an episode, and adversaries a seed, a rate and no negative steps")
        if self.adversary_steps and not self.adversary_force > 0.0:
            raise UserError(
                f"the adversaries' force must be above zero, got {self.adversary_force}: it disturbs nobody"
            )


@dataclass(frozen=True)
class _Item:
    """A part of a battery that is played, and kept, by itself."""

    name: str
    play: Callable[[Policy, Plant, BatteryConfig, EnvSettings], Result]
    kind: type[Any]


def run_battery(
    policy: Policy,
    settings: EnvSettings,
    config: BatteryConfig | None = None,
    *,
    body: str = "",
    speed: float | None = None,
    processes: int = 1,
    keep: Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> BatteryReport:
    """Put a policy through a battery.

    Parameters
    ----------
    policy
        What acts, by the mode of its actions.
    settings
        A native environment.
    config
        What is done.
    body
        Body that is pushed; empty: the one that suits the robot.
    speed
        Speed that costs nothing, m/s; None: by the robot.
    processes
        That play parts at the same time; the policy is copied to each.
    keep
        Folder for finished parts, which are not played again.
    on_progress
        Called with parts done, in all, and the name of the one just done.

    Raises
    ------
    UserError
        The environment is not native or cannot be pushed, or the policy does not fit it.
    """
    config = config or BatteryConfig()
    plant = Plant.of(settings, body=body, speed=speed, seed=config.seed, num_threads=1 if processes > 1 else None)
    tests = tuple(dict.fromkeys(cell.test for cell in battery_cells(plant, config.level)))
    items = _items(config, tests)
    found: dict[str, Result] = {}
    missing = []
    for item in items:
        kept = None if keep is None else _read(keep, item)
        if kept is None:
            missing.append(item)
        else:
            found[item.name] = kept
    for item, result in _played(missing, policy, plant, config, settings, processes):
        found[item.name] = result
        if keep is not None:
            result.save(keep / f"{_file(item.name)}.json")
        if on_progress:
            on_progress(len(found), len(items), item.name)
    return _put_together(found, items, policy, plant, config)


def _items(config: BatteryConfig, tests: Sequence[str]) -> list[_Item]:
    items: list[_Item] = []
    # The longest first, so that no processor waits for it in the end.
    if config.adversary_steps:
        items += [
            _Item(f"adversary {rate:g} {seed}", _Adversary(rate, seed), AdversaryReport)
            for rate in config.adversary_rates
            for seed in range(config.adversary_seeds)
        ]
    if config.gain:
        items += [_Item(f"gain {energy:g}", _Gain(energy), GainCurve) for energy in ENERGIES]
    if config.pushes:
        durations = DURATIONS if config.level == "full" else (0.1,)
        items += [_Item(f"pushes {duration:g}", _Pushes(duration), PushReport) for duration in durations]
    return items + [_Item(test, _Worlds(test), CellReport) for test in tests]


@dataclass(frozen=True)
class _Worlds:
    test: str

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> CellReport:
        from rlstab.analysis.evaluation import evaluate

        cells = [c for c in battery_cells(plant, config.level, observation_units(policy)) if c.test == self.test]
        played = [
            evaluate(
                policy,
                plant.env_id,
                episodes=config.episodes,
                seed=config.seed,
                disturbances=cell.disturbances,
                max_episode_steps=settings.max_episode_steps,
                env_kwargs=plant.env_kwargs,
                num_threads=plant.num_threads,
                failure_folder=None,
            )
            for cell in cells
        ]
        return _cell_report(
            cells, [e.returns for e in played], [e.lengths for e in played], [e.terminated for e in played]
        )


@dataclass(frozen=True)
class _Pushes:
    duration: float

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> PushReport:
        return push_test(policy, plant, durations=(self.duration,))


@dataclass(frozen=True)
class _Gain:
    energy: float

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> GainCurve:
        attacks = FULL if config.level == "full" else QUICK
        return estimate_gain(policy, plant, energies=(self.energy,), seconds=_GAIN_SECONDS, attacks=attacks)


@dataclass(frozen=True)
class _Adversary:
    rate: float
    seed: int

    def __call__(self, policy: Policy, plant: Plant, config: BatteryConfig, settings: EnvSettings) -> AdversaryReport:
        return train_adversaries(
            policy,
            plant,
            max_force=config.adversary_force,
            steps=config.adversary_steps,
            learning_rates=(self.rate,),
            seeds=(self.seed,),
            episodes=max(config.episodes, 10),
            max_episode_steps=settings.max_episode_steps,
        )


def observation_units(policy: Policy) -> tuple[float, ...]:
    """Standard deviation of each component of the observation, where the policy's normaliser knows it; else empty."""
    from rlstab.policies.normalizer import RunningNormalizer

    parts: Any = getattr(getattr(policy, "module", None), "modules", tuple)()
    found = next((part for part in parts if isinstance(part, RunningNormalizer)), None)
    return () if found is None else tuple(float(value) for value in found.var.sqrt().cpu())


def _played(
    items: Sequence[_Item],
    policy: Policy,
    plant: Plant,
    config: BatteryConfig,
    settings: EnvSettings,
    processes: int,
) -> Any:
    """Pairs of item and result, as they come."""
    if processes <= 1 or len(items) < 2:
        for item in items:
            yield item, item.play(policy, plant, config, settings)
        return
    import joblib

    pool: Any = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    jobs = (joblib.delayed(_numbered)(n, item.play, policy, plant, config, settings) for n, item in enumerate(items))
    for number, result in pool(jobs):
        yield items[number], result


def _numbered(number: int, play: Callable[..., Result], *arguments: Any) -> tuple[int, Result]:
    return number, play(*arguments)


def _read(keep: Path, item: _Item) -> Result | None:
    """A part that is kept, if it is whole."""
    path = keep / f"{_file(item.name)}.json"
    if not path.exists():
        return None
    try:
        return item.kind.load(path)
    except UserError:
        return None


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in name)


def _cell_report(cells: Sequence[Cell], returns: list[Any], lengths: list[Any], fell: list[Any]) -> CellReport:
    return CellReport(
        tuple(cell.test for cell in cells),
        tuple(cell.unit for cell in cells),
        np.array([cell.value for cell in cells]),
        np.array([cell.second for cell in cells]),
        np.stack(returns),
        np.stack(lengths),
        np.stack(fell),
    )


def _put_together(
    found: dict[str, Result], items: Sequence[_Item], policy: Policy, plant: Plant, config: BatteryConfig
) -> BatteryReport:
    def of(kind: type[Part]) -> list[Part]:
        return [result for item in items if isinstance(result := found[item.name], kind)]

    worlds = of(CellReport)
    cells = CellReport(
        tuple(test for part in worlds for test in part.test),
        tuple(unit for part in worlds for unit in part.unit),
        *(
            np.concatenate([getattr(part, name) for part in worlds])
            for name in ("value", "second", "returns", "lengths", "fell")
        ),
    )
    pushes, gains, adversaries = of(PushReport), of(GainCurve), of(AdversaryReport)
    return BatteryReport(
        env_id=plant.env_id,
        policy=type(policy).__name__,
        level=config.level,
        episodes=config.episodes,
        seed=config.seed,
        cells=cells,
        pushes=_joined_pushes(pushes) if pushes else None,
        gain=_joined_gains(gains) if gains else None,
        adversary=_strongest(adversaries) if adversaries else None,
    )


def _joined_pushes(parts: Sequence[PushReport]) -> PushReport:
    return dataclasses.replace(
        parts[0],
        falls_undisturbed=max(part.falls_undisturbed for part in parts),
        duration=np.concatenate([part.duration for part in parts]),
        survived=np.concatenate([part.survived for part in parts], axis=1),
        recovered=np.concatenate([part.recovered for part in parts], axis=1),
    )


def _joined_gains(parts: Sequence[GainCurve]) -> GainCurve:
    names = ("energy", "gain", "by_attack", "fell", "impulse", "peak")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return dataclasses.replace(parts[0], played=sum(part.played for part in parts), **joined)


def _strongest(parts: Sequence[AdversaryReport]) -> AdversaryReport:
    strongest = min(parts, key=lambda part: float(part.returns.mean()))
    return dataclasses.replace(
        strongest,
        learning_rates=tuple(rate for part in parts for rate in part.learning_rates),
        seeds=tuple(seed for part in parts for seed in part.seeds),
        mean_returns=tuple(mean for part in parts for mean in part.mean_returns),
    )
