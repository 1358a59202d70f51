from __future__ import annotations

import json

import numpy as np
import pytest

from rlstab.sim2real.timing import LatencyTable, Spread, Tick


def ticks(start: float, count: int, period: float = 0.02, overrun_at: int | None = None) -> list[Tick]:
    begin = [start + period * index for index in range(count)]
    return [Tick(t, t + 1e-3, t + 2e-3, t + 5e-3, t + 6e-3, index == overrun_at) for index, t in enumerate(begin)]


def test_durations_are_taken_between_the_right_moments() -> None:
    table = LatencyTable.of([ticks(0.0, 100)], 0.02)
    assert table.inference.p50 == pytest.approx(3.0)
    assert table.sensor_to_command.max == pytest.approx(5.0)
    assert table.period_error is not None
    assert table.period_error.max == pytest.approx(0.0, abs=1e-9)
    assert (table.ticks, table.overruns) == (100, 0)


def test_the_pause_between_episodes_is_no_period() -> None:
    table = LatencyTable.of([ticks(0.0, 10), ticks(50.0, 10, overrun_at=3)], 0.02)
    assert table.period_error is not None
    assert table.period_error.count == 18
    assert table.period_error.max == pytest.approx(0.0, abs=1e-9)
    assert table.overruns == 1


def test_an_unpaced_loop_has_no_period_error() -> None:
    table = LatencyTable.of([ticks(0.0, 10)], None)
    assert table.period_error is None
    assert [row[0] for row in table.rows()] == ["ms", "inference", "sensor to command"]


def test_rows_and_json_show_the_same_numbers() -> None:
    table = LatencyTable.of([ticks(0.0, 10, period=0.021)], 0.02)
    assert table.rows()[3] == ("period error", "1.000", "1.000", "1.000", "1.000")
    assert json.loads(json.dumps(table.to_dict()))["period_error"]["p99"] == pytest.approx(1.0)


@pytest.mark.parametrize("episodes", [[], [[]]])
def test_nothing_gives_an_empty_table(episodes: list[list[Tick]]) -> None:
    table = LatencyTable.of(episodes, 0.02)
    assert table.ticks == table.inference.count == 0
    assert np.isnan(table.inference.p50)


def test_percentiles_are_in_milliseconds() -> None:
    spread = Spread.of(np.linspace(0.0, 0.1, 101))
    assert (spread.p50, spread.p95, spread.p99, spread.max) == pytest.approx((50, 95, 99, 100))
    assert spread.count == 101
