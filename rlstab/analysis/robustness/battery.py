"""The battery: one policy put through changed worlds, pushes, attacks on its gain, and adversaries."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rlstab.analysis.result import Result
from rlstab.analysis.robustness.adversary import AdversaryReport
from rlstab.analysis.robustness.battery_parts import (
    ENERGIES,
    Adversary,
    Attacked,
    BatteryConfig,
    Gain,
    Pushes,
    Worlds,
    attack_test,
    observation_units,
    possible_attacks,
)
from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
from rlstab.analysis.robustness.cells import battery_cells
from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.gain import GainCurve
from rlstab.analysis.robustness.pushes import DURATIONS, PushReport
from rlstab.errors import UserError
from rlstab.runs.environment import EnvSettings

if TYPE_CHECKING:
    from rlstab.policies.base import Policy

Part = TypeVar("Part", bound=Result)

__all__ = ["BatteryConfig", "observation_units", "run_battery"]


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
        That play parts at the same time; the policy is copied to each. One that cannot be copied is played in this one.
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
    items = _items(policy, config, tests)
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


def _items(policy: Policy, config: BatteryConfig, tests: Sequence[str]) -> list[_Item]:
    items: list[_Item] = []
    # The longest first, so that no processor waits for it in the end.
    if config.adversary_steps:
        items += [
            _Item(f"adversary {force:g} {rate:g} {seed}", Adversary(force, rate, seed), AdversaryReport)
            for force in dict.fromkeys(config.adversary_forces)
            for rate in config.adversary_rates
            for seed in range(config.adversary_seeds)
        ]
    if config.gain:
        items += [_Item(f"gain {energy:g}", Gain(energy), GainCurve) for energy in ENERGIES]
    if config.pushes:
        durations = DURATIONS if config.level == "full" else (0.1,)
        items += [_Item(f"pushes {duration:g}", Pushes(duration), PushReport) for duration in durations]
    items += [_Item(test, Worlds(test), CellReport) for test in tests]
    if config.observations:
        items += [_Item(attack_test(name), Attacked(name), CellReport) for name in possible_attacks(policy, config)]
    return items


def _played(
    items: Sequence[_Item],
    policy: Policy,
    plant: Plant,
    config: BatteryConfig,
    settings: EnvSettings,
    processes: int,
) -> Any:
    """Pairs of item and result, as they come."""
    if processes <= 1 or len(items) < 2 or not _travels(policy):
        for item in items:
            yield item, item.play(policy, plant, config, settings)
        return
    import joblib

    pool: Any = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    jobs = (joblib.delayed(_numbered)(n, item.play, policy, plant, config, settings) for n, item in enumerate(items))
    for number, result in pool(jobs):
        yield items[number], result


def _travels(policy: Policy) -> bool:
    """Whether a policy can be copied to another process; an open session of ONNX Runtime cannot."""
    try:
        pickle.dumps(policy)
    except Exception:
        return False
    return True


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
    forces = sorted({part.max_force for part in adversaries})
    return BatteryReport(
        env_id=plant.env_id,
        policy=type(policy).__name__,
        level=config.level,
        episodes=config.episodes,
        seed=config.seed,
        cells=cells,
        pushes=_joined_pushes(pushes) if pushes else None,
        gain=_joined_gains(gains) if gains else None,
        adversaries=tuple(_strongest([part for part in adversaries if part.max_force == force]) for force in forces),
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
