"""The walker's study: what is asked of controllers, its page, and its refusals."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.bench import hybrid_walker
from rlstab.bench.hybrid_walker import MANY, ONE, Options, measure
from rlstab.bench.hybrid_walker_result import OURS, RIVAL, WalkerStudy
from rlstab.bench.hybrid_walker_rows import difference, interval
from rlstab.bench.pages import write_docs
from rlstab.controllers.roa.walker import system
from rlstab.controllers.roa.walker.baselines import OrbitDistance, Simulated
from rlstab.controllers.roa.walker.certificate import RegionStatement
from rlstab.controllers.roa.walker.data import gait_states
from rlstab.controllers.roa.walker.walk import Starts
from rlstab.controllers.runs import begin, configure
from rlstab.errors import UserError

STATEMENT = RegionStatement(0.8, 100, 0.4, 0.7, 1, 0.09, 2, 0.11, 0.05, 1e-3, 0.88, 0.9, (0.7, 0.9, 1.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    for name, value in (("STATES", 200), ("HELD_OUT", 10), ("STARTS", 20)):
        patch.setattr(system, name, value)
    sizes: dict[str, Any] = {"total_steps": 4, "batch_size": 32, "hidden_sizes": (8,)}
    made, _ = begin("roa", configure("roa", "rlstab/Walker-v0", **sizes), tmp_path_factory.mktemp("runs"))
    patch.undo()
    return made.path


@pytest.fixture(scope="module")
def study(run: Path) -> WalkerStudy:
    patch = pytest.MonkeyPatch()
    source, goal = np.array([0.12, 0.14]), np.full(2, 0.13)
    few = Starts(gait_states(source), source, goal, gait_states(goal)[:, 0])
    patch.setattr(hybrid_walker, "_starts", lambda options: {ONE: few, MANY: few})
    patch.setattr(hybrid_walker, "state_regions", lambda *_, **__: STATEMENT)
    patch.setattr(hybrid_walker, "_SIDE", 5)
    patch.setattr(hybrid_walker, "OrbitDistance", functools.partial(OrbitDistance, starts=10))
    patch.setattr(hybrid_walker, "SimulatedRegions", functools.partial(Simulated, 1))
    found = measure(Options(run=run, timed=1, watched=1, table=False, rl_seeds=0), lambda _: None)
    patch.undo()
    return found


def test_every_controller_walks_from_the_same_starts(study: WalkerStudy) -> None:
    names = {row.controller for row in study.walks}
    assert {
        OURS,
        f"{OURS}, descent",
        RIVAL,
        "MPC, simulated",
        "CLF-QP, goal at once",
        "planner, orbit distance",
    } <= names
    assert {row.reached.shape for row in study.walks} == {(1, 2)}
    assert study.find("CLF-QP, goal at once", ONE) is not None
    at_once = study.find("CLF-QP, goal at once", MANY)
    assert at_once is not None
    assert at_once.reached.all()


def test_the_page_is_drawn_and_comes_back_from_its_numbers(study: WalkerStudy, tmp_path: Path) -> None:
    page = study.to_markdown()
    assert "rlstab bench walker --docs --run RUN --timed 1 --watched 1 --no-table --rl-seeds 0" in page
    assert "1 of 100: < 9.00%" in page
    assert "88% (90%)" in page
    assert "* SAC: it was left out by --rl-methods or --rl-seeds" in page
    assert WalkerStudy.load(study.save(tmp_path / "study")).to_markdown() == page
    assert write_docs(study, tmp_path).name == "walker.md"
    assert (tmp_path / "walker.png").stat().st_size > 10_000


def test_a_claim_needs_an_interval_that_leaves_zero_out(study: WalkerStudy) -> None:
    rng = np.random.default_rng(0)
    rows = [dataclasses.replace(row, reached=np.zeros((1, 50), bool)) for row in study.walks]
    good = [
        dataclasses.replace(row, reached=rng.random((2, 50)) < 0.5) if row.controller == OURS else row for row in rows
    ]
    assert "(more)" in dataclasses.replace(study, walks=good).verdict()
    assert "(no clear difference)" in dataclasses.replace(study, walks=rows).verdict()
    assert "(more)" not in dataclasses.replace(study, walks=rows).verdict()
    assert "MPC by simulation computes" in study.verdict()


def test_the_verdict_says_what_the_bridges_do_and_what_the_networks_do(study: WalkerStudy) -> None:
    few, many = np.arange(50)[None] < 20, np.arange(50)[None] < 45
    bridged = {OURS, "planner, simulated"}
    rows = [dataclasses.replace(row, reached=many if row.controller in bridged else few) for row in study.walks]
    first, without, simulated = dataclasses.replace(study, walks=rows).verdict().split(". ")[:3]
    assert first.startswith("With bridges, which look-ahead does not have")
    assert "one goal: +50.0%" in first
    assert "one goal: 0.400 against 0.400, +0.0%" in without
    assert "same planner on simulated regions: one goal: +0.0%" in simulated
    assert "of its computing time" in simulated


def test_intervals_are_those_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.random((1, 400)) < 0.5
    ours = np.repeat(theirs, 2, 0)
    ours[:, :40] = True
    mean, low, high = difference(ours, theirs)
    assert low <= mean <= high
    assert low > 0.0
    assert high < 0.1
    assert interval(theirs)[1] < theirs.mean() < interval(theirs)[2]
    assert np.isnan(interval(np.ones((1, 1), bool))[1])


@pytest.mark.parametrize("changes", [{"seeds": 0}, {"repeats": 0}, {"samples": 0}, {"rl_seeds": -1}])
def test_what_makes_no_study_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least"):
        measure(Options(work=tmp_path, **changes))


def test_a_run_of_another_method_is_refused(tmp_path: Path) -> None:
    config = configure("ppo", "rlstab/Walker-v0", total_steps=64, num_envs=2, n_steps=32, batch_size=32)
    made, _ = begin("ppo", config, tmp_path, tell=lambda line: None)
    with pytest.raises(UserError, match="holds no networks of the walker"):
        measure(Options(run=made.path))
