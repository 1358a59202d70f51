"""The study of the car drives everyone on the same roads, says what its intervals allow, and comes back from a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlstab.bench import hybrid_car, hybrid_car_checks, runs
from rlstab.bench import hybrid_car_cases as cases
from rlstab.bench.hybrid_car import TASK, Options, measure
from rlstab.bench.hybrid_car_result import MAIN, CarStudy, Learned, Row
from rlstab.bench.pages import write_docs
from rlstab.controllers.roa.car.planner import CarPlanner
from rlstab.controllers.runs import configure
from rlstab.envs.hybrid import road as roads
from rlstab.errors import UserError
from rlstab.policies.roa.car import CarModel
from rlstab.runs.config import to_json
from rlstab.runs.run import Run

SHORT = roads.Road(np.array([[0.0, 0.0], [4.0, 0.0], [7.0, 1.0]]), np.array([1.0, 0.1]))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CarStudy:
    patch = pytest.MonkeyPatch()
    torch.manual_seed(0)
    trained = [(0, CarModel(hidden_sizes=(8,), state_sizes=(8,))), (1, CarModel(hidden_sizes=(8,), state_sizes=(8,)))]
    learned = [Learned("roa", seed, 100.0 + seed, 3200) for seed, _ in trained]
    patch.setattr(hybrid_car, "_trained", lambda options, on_progress: (trained, learned))
    patch.setattr(roads, "random_road", lambda rng: SHORT)
    patch.setattr(hybrid_car_checks, "_CONFIGURATIONS", 4)
    patch.setattr(hybrid_car_checks, "_STARTS", 32)
    patch.setattr(cases, "SPEEDS", (5.0,))
    patch.setattr(cases, "TIME_WEIGHTS", (0.2,))
    patch.setattr(CarPlanner, "__post_init__", lambda self: self.__dict__.update(speeds=4, shifts=3))
    made = measure(Options(seeds=2, maps=2, mpc_maps=0, work=tmp_path_factory.mktemp("work")), lambda _: None)
    patch.undo()
    return made


def test_everyone_drives_along_the_same_roads(study: CarStudy) -> None:
    assert all(len(row.figures["rmse"]) == 2 for row in study.rows)
    assert len(study.of(*MAIN)) == 2
    assert [row.seed for row in study.of(*MAIN)] == [0, 1]
    assert [row.seed for row in study.of("LQR", "5 m/s")] == [None]
    # Both roads are the same one.
    assert np.ptp(study.of("LQR", "5 m/s")[0].figures["rmse"]) < 1e-12
    assert {part.name for part in study.latencies} == {
        "LQR", "planner by hand, LQR", "planner", "planner, differentiable",
    }  # fmt: skip
    assert study.missing() == [f"{name}: left out by the options" for name in ("MPC", "SAC", "PPO")]
    for part in study.learned:
        assert part.levels is not None
        assert part.levels.configurations == 4
        assert part.monitor is not None
        assert part.monitor.modes == 4


def test_the_page_is_drawn_and_comes_back_from_its_numbers(study: CarStudy, tmp_path: Path) -> None:
    page = study.to_markdown()
    assert "rlstab bench car --docs --seeds 2 --maps 2 --mpc-maps 0 --work WORK" in page
    assert "| LQR | 5 m/s |" in page
    assert CarStudy.load(study.save(tmp_path / "study")).to_markdown() == page
    assert write_docs(study, tmp_path).name == "car.md"
    assert (tmp_path / "car.png").stat().st_size > 10_000


def _row(name: tuple[str, str], rmse: float, steps: float, noise: float, seed: int | None = None) -> Row:
    spread = noise * np.random.default_rng(len(name[0])).normal(size=12)
    figures = {
        "rmse": rmse + spread,
        "steps": np.full(12, steps),
        "valid": np.ones(12),
        "off_road": np.full(12, 0.5 * rmse),
    }
    return Row(*name, seed, figures, 0)


def test_verdicts_claim_what_intervals_allow(study: CarStudy) -> None:
    def verdicts(rmse: float, noise: float) -> list[str]:
        rows = [_row(MAIN, 0.4, 3000.0, noise, seed) for seed in (0, 1)] + [_row(("LQR", "5 m/s"), rmse, 3500.0, 0.0)]
        return dataclasses.replace(study, rows=rows).verdicts()

    clear = verdicts(0.7, 0.01)
    assert len(clear) == 1
    assert "rmse -0.3" in clear[0]
    assert clear[0].count(", less") == 2
    assert "neither more nor less" in verdicts(0.4, 0.2)[0]
    assert "(+100.0%), more" in verdicts(0.2, 0.0)[0]


def test_the_tuned_regulator_is_compared_too(study: CarStudy) -> None:
    tuned = _row(("LQR, tuned", "5 m/s"), 0.6, 3500.0, 0.0)
    (said,) = dataclasses.replace(study, rows=[_row(MAIN, 0.4, 3000.0, 0.0, 0), tuned]).verdicts()
    assert said.startswith("Against LQR, tuned, 5 m/s: rmse -0.2 ")
    assert said.count(", less") == 2


def test_the_page_says_what_its_numbers_leave_out(study: CarStudy) -> None:
    rows = [_row(MAIN, 0.4, 3000.0, 0.0, 0), _row(("LQR, tuned", "5 m/s"), 0.6, 3500.0, 0.0)]
    mpc = _row(("MPC, 20 steps", "5 m/s"), 0.6, 3500.0, 0.0)
    assert study.learned[0].monitor is not None
    seen = dataclasses.replace(study.learned[0].monitor, shortest_dwell=1, needed_dwell=40.0)
    found = dataclasses.replace(study, rows=[*rows, mpc], learned=[dataclasses.replace(study.learned[0], monitor=seen)])
    moved, roads_of_mpc, learners, dwell = found.limits()
    assert "0.200 m away (root mean square), others 0.300 m (LQR, tuned, 5 m/s)" in moved
    assert "MPC drove 12 roads only" in roads_of_mpc
    assert learners.startswith("SAC and PPO were not run")
    assert "A4" in dwell
    assert "1 span of 0.2 s, where 40 are asked for" in dwell
    assert f"* {study.limits()[0]}\n" in study.to_markdown()


def test_cost_is_error_over_time_and_what_time_is_worth() -> None:
    row = _row(MAIN, 0.5, 3000.0, 0.0)
    assert row.cost.tolist() == pytest.approx([30.0 * (0.25 + 0.2)] * 12)


def test_trainings_are_of_the_preset_and_their_time_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    def train(path: Path, method: str, flags: Mapping[str, Any], what: str, threads: int = 1) -> Path:
        asked.append({"method": method, **flags})
        from rlstab.controllers.roa.learner import make_learner

        config = configure("roa", total_steps=3, hidden_sizes=(4,), **flags)
        run = Run.create(
            path.parent, method=method, env_id=TASK, config=to_json(config), seed=flags["seed"], device="cpu",
            command=[], name=path.name,
        )  # fmt: skip
        run.metrics.write(3, {"time/elapsed_s": 77.0})
        run.checkpoints.save(3, make_learner(config).state_dict())
        run.close()
        return path

    monkeypatch.setattr(runs, "train", train)
    models, learned = hybrid_car._trained(Options(seeds=1, work=tmp_path / "w"), lambda _: None)
    assert asked == [{"method": "roa", "env": TASK, "seed": 0}]
    assert learned == [Learned("roa", 0, 77.0, 3)]
    assert isinstance(models[0][1], CarModel)
    again, _ = hybrid_car._trained(Options(run=tmp_path / "w" / "roa-seed0"), lambda _: None)
    assert again[0][0] == 0


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"maps": 0}, {"mpc_maps": -1}, {"rl_steps": -1}])
def test_what_makes_no_study_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least"):
        measure(Options(work=tmp_path, **changes))
