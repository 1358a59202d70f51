from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.robustness import plots
from rlstab.analysis.robustness.battery import BatteryConfig, observation_units, run_battery
from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
from rlstab.analysis.robustness.comparison import compare
from rlstab.controllers import registry
from rlstab.controllers.runs import configure
from rlstab.errors import UserError
from rlstab.policies.linear import LinearPolicy
from rlstab.runs.environment import EnvSettings

SETTINGS = EnvSettings("InvertedPendulum-v5", 60)
SMALL = BatteryConfig(episodes=2, seed=5, pushes=False)


@pytest.fixture(scope="module")
def report(balancer: LinearPolicy) -> BatteryReport:
    return run_battery(balancer, SETTINGS, dataclasses.replace(SMALL, pushes=True))


def cell_report(returns: list[list[float]], test: list[str], value: list[float], unit: list[str]) -> CellReport:
    array = np.array(returns)
    return CellReport(
        tuple(test),
        tuple(unit),
        np.array(value),
        np.full(len(value), np.nan),
        array,
        np.ones(array.shape, np.int64),
        np.zeros(array.shape, bool),
    )


def with_cells(cells: CellReport, **changes: Any) -> BatteryReport:
    settings: dict[str, Any] = {"env_id": "E", "policy": "P", "level": "quick", "episodes": 2, "seed": 0}
    return BatteryReport(cells=cells, pushes=None, gain=None, adversaries=(), **(settings | changes))


def test_worlds_are_played_as_evaluation_plays_them(balancer: LinearPolicy, report: BatteryReport) -> None:
    row = report.cells.test.index("gain")
    from rlstab.envs.disturbance import ParameterScale

    same = evaluate(
        balancer,
        "InvertedPendulum-v5",
        episodes=2,
        seed=5,
        max_episode_steps=60,
        disturbances=[ParameterScale("gain", float(report.cells.value[row]))],
    )
    np.testing.assert_array_equal(report.cells.returns[row], same.returns)
    assert report.nominal_return == 60.0
    assert report.pushes is not None
    assert not report.pushes.survived.all()


def test_processes_change_nothing(balancer: LinearPolicy) -> None:
    alone, shared = (run_battery(balancer, SETTINGS, SMALL, processes=n) for n in (1, 2))
    assert alone.cells.test == shared.cells.test
    np.testing.assert_array_equal(alone.cells.returns, shared.cells.returns)


def test_a_policy_that_cannot_be_copied_is_played_here(balancer: LinearPolicy) -> None:
    class Session:
        observation_space, action_space = balancer.observation_space, balancer.action_space
        predict = staticmethod(balancer.predict)

        def __reduce__(self) -> Any:
            raise TypeError("a session")

    with pytest.MonkeyPatch.context() as patch:
        from rlstab.analysis.robustness import battery

        patch.setattr(battery, "Worlds", lambda test: lambda *_: cell_report([[1.0, 1.0]], [test], [1.0], [""]))
        report = run_battery(Session(), SETTINGS, SMALL, processes=2)  # pyright: ignore[reportArgumentType]
    assert report.nominal_return == 1.0


def test_what_was_played_is_not_played_again(balancer: LinearPolicy, tmp_path: Path) -> None:
    class Stops(Exception):
        pass

    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise Stops

    with pytest.raises(Stops):
        run_battery(balancer, SETTINGS, SMALL, keep=tmp_path, on_progress=stop)
    # A part that was cut off while it was written counts as missing.
    (tmp_path / "nominal.json").write_text("{")
    told: list[int] = []
    resumed = run_battery(
        balancer, SETTINGS, SMALL, keep=tmp_path, on_progress=lambda done, total, name: told.append(done)
    )
    whole = run_battery(balancer, SETTINGS, SMALL)
    np.testing.assert_array_equal(resumed.cells.returns, whole.cells.returns)
    assert told[0] == 3
    assert len(told) == len(dict.fromkeys(whole.cells.test)) - 2


def test_areas_are_means_along_the_axis() -> None:
    cells = cell_report(
        [[10.0, 10.0], [4.0, 6.0], [0.0, 0.0], [8.0, 8.0]],
        ["nominal", "mass", "mass", "action delay"],
        [1.0, 0.5, 2.0, 1.0],
        ["", "factor", "factor", "control steps"],
    )
    areas = with_cells(cells).areas()
    assert areas["mass"] == pytest.approx((7.5 + 5.0) / 2)
    assert areas["action delay"] == pytest.approx(9.0)


def test_the_worst_tenth_is_pooled_over_worlds() -> None:
    returns = np.arange(20.0).reshape(10, 2)
    cells = cell_report(returns.tolist(), ["nominal"] + ["mass"] * 9, [1.0] * 10, [""] + ["factor"] * 9)
    assert with_cells(cells).cvar10 == pytest.approx(0.5)
    assert with_cells(cells).worst_world == ("nominal 1", 0.5)


def test_a_report_is_kept_and_drawn(report: BatteryReport, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    again = BatteryReport.load(tmp_path / "report.json")
    assert again.summary() == report.summary()
    figure = plots.comparison({"one": [report], "other": [again, again]})
    assert len(figure.axes) == 2
    assert len(report.plot().get_yticks()) == len(report.cells.test)


def test_methods_are_compared_over_their_trainings(report: BatteryReport) -> None:
    worse = dataclasses.replace(report, cells=dataclasses.replace(report.cells, returns=report.cells.returns - 10.0))
    comparison = compare({"good": [report, report], "bad": [worse, worse]})
    assert comparison.interval("good", "nominal return") == (60.0, 60.0, 60.0)
    assert comparison.interval("bad", "nominal return")[0] == 50.0
    assert comparison.improvement("good", "bad", "nominal return").probability == 1.0
    columns, rows = comparison.table()
    assert columns == ["measure", "good (2)", "bad (2)"]
    assert len(rows) == len(comparison.measures)


def test_only_equal_budgets_compare(report: BatteryReport) -> None:
    with pytest.raises(UserError, match="numbers of episodes"):
        compare({"a": [report], "b": [dataclasses.replace(report, episodes=7)]})
    with pytest.raises(UserError, match="environments"):
        compare({"a": [report], "b": [dataclasses.replace(report, env_id="Hopper-v5")]})
    with pytest.raises(UserError, match="no robustness reports"):
        compare({})


def test_noise_is_measured_by_the_policys_own_statistics() -> None:
    config = configure("ppo", "InvertedPendulum-v5", total_steps=512, n_steps=64)
    learner: Any = registry.get("ppo").make_learner(config)
    learner.iterate()
    units = observation_units(learner.policy)
    np.testing.assert_allclose(units, learner.policy.module.normalizer.var.sqrt())


def test_noise_of_a_policy_without_statistics_is_plain(balancer: LinearPolicy) -> None:
    assert observation_units(balancer) == ()


@pytest.mark.parametrize(
    "changes",
    [{"episodes": 0}, {"level": "huge"}, {"adversary_steps": -1}, {"adversary_forces": (0.1, 0.0)}],
)
def test_a_battery_of_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        BatteryConfig(**changes)


def test_gains_and_adversaries_are_part_of_it_on_demand(balancer: LinearPolicy) -> None:
    config = dataclasses.replace(SMALL, gain=True, adversary_steps=512, adversary_rates=(1e-3,))
    config = dataclasses.replace(config, adversary_forces=(1.0, 0.5))
    from unittest import mock

    from rlstab.analysis.robustness import battery, battery_parts
    from rlstab.analysis.robustness.attacks import Rectangle

    quick = {"QUICK": (Rectangle(onsets=1, lengths=2),), "_GAIN_SECONDS": 0.5}
    with mock.patch.multiple(battery_parts, **quick), mock.patch.object(battery, "ENERGIES", (0.01, 0.1)):
        report = run_battery(balancer, SETTINGS, config)
    assert report.gain is not None
    assert report.gain.energy.tolist() == [0.01, 0.1]
    assert [part.max_force for part in report.adversaries] == [0.5, 1.0]
    measures = report.measures()
    assert {"gain at 0.1", "felling energy", "return against an adversary of 0.5 weights"} <= measures.keys()


def test_observations_are_attacked_as_far_as_the_policy_allows(balancer: LinearPolicy) -> None:
    by_chance = run_battery(balancer, SETTINGS, dataclasses.replace(SMALL, observations=True))
    assert [test for test in dict.fromkeys(by_chance.cells.test) if "attack" in test] == ["attack: random vertex"]
    config = configure("ppo", "InvertedPendulum-v5", total_steps=512, n_steps=64)
    learner: Any = registry.get("ppo").make_learner(config)
    learner.iterate()
    attacked = run_battery(learner.policy, SETTINGS, dataclasses.replace(SMALL, observations=True)).cells
    tests = [test for test in dict.fromkeys(attacked.test) if "attack" in test]
    assert tests == ["attack: random vertex", "attack: maximal action difference", "attack: critic"]
    assert {attacked.unit[attacked.test.index(test)] for test in tests} == {"standard deviations"}
    assert [attacked.value[row] for row, test in enumerate(attacked.test) if test == tests[1]] == [0.1, 0.2]
