"""The study's page, from results that are made up, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rlstab.bench import hybrid_pogobot, runs
from rlstab.bench.conditions import Conditions
from rlstab.bench.hybrid_pogobot import OURS, Options, measure
from rlstab.bench.hybrid_pogobot_parts import Contender, Flown, LevelCheck, Watched
from rlstab.bench.hybrid_pogobot_result import PogobotStudy
from rlstab.bench.pages import write_docs
from rlstab.controllers.roa.monitor import StabilityMonitor
from rlstab.errors import UserError

N = 40


def flown(passed: int, seed: int | None, rmse: float) -> Flown:
    success = np.arange(N) < passed
    return Flown(
        seed=seed, minutes=2.0 if seed is not None else 0.0, build_s=0.0, success=success,
        valid=np.where(success, 1.0, 0.5), speed_error=np.full(N, 0.5 * rmse), rmse=np.full(N, rmse),
        travel_s=np.linspace(10.0, 20.0, N), ms_per_m=np.ones(N), p50_ms=10.0, p99_ms=30.0, cpu50_ms=5.0, cpu99_ms=12.0,
        path=np.array([[0.0, 1.5], [1.0, 1.0], [2.0, 1.5]]),
    )  # fmt: skip


def watched() -> Watched:
    good, bad = StabilityMonitor(0.5), StabilityMonitor(0.5)
    for monitor, value in ((good, 0.4), (bad, 2.0)):
        monitor.enter(value, 1.0)
        monitor.step(0.1)
        monitor.enter(0.2, 1.0)
    return Watched.of(0, [good.finish(), bad.finish()])


@pytest.fixture
def study() -> PogobotStudy:
    contenders = [
        Contender(OURS, [flown(40, 0, 0.10), flown(39, 1, 0.12)]),
        Contender("deadbeat, border band", [flown(29, None, 0.08)]),
        Contender("planner with hand-made functions", [flown(39, None, 0.11)]),
        Contender("SAC, short budget", [flown(0, 0, 0.5), flown(0, 1, 0.5)]),
    ]
    return PogobotStudy(
        name="pogobot", title="A hopper in corridors", command="rlstab bench pogobot --docs", kinds=np.arange(N) % 4,
        contenders=contenders,
        levels=[LevelCheck(0, 0.1, np.full(50, 0.5), np.linspace(0.4, 1.0, 50), np.ones(50) > 0)],
        watched=[watched()], rebuilt_ms=500.0, drawn=np.array([[2.0, 0.0, 3.0, 1.0], [3.0, 0.5, 3.0, 1.0]]),
        conditions=Conditions.now(1), settings={"corridors": "seeds 0 to 39"},
    )  # fmt: skip


def test_claims_are_made_only_where_intervals_say_so(study: PogobotStudy) -> None:
    verdict = study.verdict()
    assert "More than 90% of corridors: yes (40, 39 of 40)" in verdict
    ahead, level = verdict.split("No difference is shown to:")
    assert "deadbeat, border band" in ahead
    assert "SAC, short budget" in ahead
    assert "hand-made" in level
    value, low, high = study.paired(study.contenders[1], "success")
    assert value == pytest.approx((39.5 - 29.0) / 40.0)
    assert 0.0 < low < value < high
    value, low, high = study.paired(study.contenders[1], "rmse")
    np.testing.assert_allclose([value, low, high], 0.03, atol=1e-9)
    assert np.isnan(study.paired(study.contenders[3], "rmse")[0])


def test_published_claims_of_speed_are_held_to_the_numbers(study: PogobotStudy) -> None:
    fast, trained = study.contenders, study.claims()[-1]
    assert "none of them reached it" in trained
    slow = dataclasses.replace(flown(29, 0, 0.1), cpu50_ms=20.0, cpu99_ms=120.0)
    compared = dataclasses.replace(study, contenders=[*fast, Contender("MPC, 4 hops, learned map", [slow])])
    assert "4.0 times as long in the median and 10.0 times" in compared.claims()[0]
    assert "rebuilt at every hop, 100 times" in compared.claims()[0]


def test_sets_and_levels_are_credited_with_nothing_that_was_not_measured(study: PogobotStudy) -> None:
    assert not any("Of the" in line for line in dataclasses.replace(study, contenders=study.contenders[:2]).claims())
    plain = Contender("planner that ignores the sets", [flown(40, 0, 0.1)])
    capped = [dataclasses.replace(study.levels[0], found=np.zeros(50, bool))]
    found = dataclasses.replace(study, contenders=[study.contenders[0], plain], levels=capped).claims()
    assert "without them (planner that ignores the sets)" in found[0]
    assert "no reference had 50 unstable starts" in found[1]
    worse = Contender("planner that ignores the sets", [flown(30, 0, 0.1)])
    assert not any(
        "sets" in line for line in dataclasses.replace(study, contenders=[study.contenders[0], worse]).claims()
    )


def test_one_seed_is_not_seeds(study: PogobotStudy) -> None:
    page = dataclasses.replace(study, settings={"SAC": "1 seeds, 8,000 hops", "PPO": "2 seeds"}).to_markdown()
    assert "| SAC | 1 seed, 8,000 hops |" in page
    assert "| PPO | 2 seeds |" in page


def test_the_page_is_written_and_its_numbers_come_back(study: PogobotStudy, tmp_path: Path) -> None:
    page = write_docs(study, tmp_path).read_text()
    assert "40, 39 of 40" in page
    assert "29 of 40" in page
    assert "A3 in 1" in page
    assert (tmp_path / "pogobot.png").stat().st_size > 10_000
    again = PogobotStudy.load(tmp_path / "pogobot.json")
    assert again.to_markdown() == study.to_markdown()


def test_what_the_monitor_saw_is_counted() -> None:
    seen = watched()
    assert (seen.modes, seen.inside, seen.fell, seen.held, seen.corridors) == (4, 3, 4, 1, 2)
    assert seen.first_failures == {"A3": 1}
    assert seen.largest_jump == pytest.approx(2.0)


@pytest.mark.parametrize("options", [Options(seeds=0), Options(instances=0), Options(sac_seeds=-1)])
def test_numbers_out_of_range_are_refused(options: Options) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure(options)


def test_each_seed_is_trained_once_with_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, dict]] = []

    def train(path: Path, method: str, flags: dict, what: str) -> Path:
        begun.append((f"{method} {path.name}", flags))
        raise UserError("stopped")

    monkeypatch.setattr(runs, "train", train)
    with pytest.raises(UserError, match="stopped"):
        measure(Options(work=tmp_path / "work"))
    assert begun == [("roa roa-seed0", {"env": hybrid_pogobot.TASK, "seed": 0})]
