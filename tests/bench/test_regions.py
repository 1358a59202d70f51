from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlstab.analysis.result import Result
from rlstab.bench import registry
from rlstab.bench.conditions import Conditions
from rlstab.bench.pages import write_docs
from rlstab.bench.regions import Options, measure
from rlstab.bench.regions_result import CASES, Region, RegionsStudy
from rlstab.cli.main import main
from rlstab.controllers.runs import begin, configure
from rlstab.errors import UserError

CASE = "PlantPath-v0"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with one short training, which is used again."""
    folder = tmp_path_factory.mktemp("regions")
    config = configure("lyapunov", f"rlstab/{CASE}", preset="quadratic", total_steps=26, sweep_samples=4000)
    begin("lyapunov", config, folder, name=f"{CASE}-quadratic-seed0", tell=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def study(work: Path) -> RegionsStudy:
    return measure(Options(1, ("quadratic",), (CASE,), budget_s=8.0, work=work), lambda line: None)


def _region(case: int, kind: str, seed: int, area: float) -> Region:
    status = "proved" if area else "refuted"
    return Region(CASES[case].env_id, kind, seed, status, area, 0.1, area > 0, 5.0, 0.1, 99, 3.0, 2.0, 60.0, None)


def test_a_finished_training_is_proved_and_its_numbers_kept(study: RegionsStudy, work: Path) -> None:
    (region,) = study.regions
    assert region.status == "proved"
    assert region.area > 14.0
    assert region.converges
    assert region.train_cpu_s is None
    assert region.prove_s < 12.0
    assert list((work / f"{CASE}-quadratic-seed0" / "certificates").glob("*-sound.json"))


def test_the_page_has_published_areas_and_what_was_not_proved(study: RegionsStudy, tmp_path: Path) -> None:
    more = [_region(1, "network", seed, area) for seed, area in enumerate((0.0, 250.0, 300.0))]
    whole = dataclasses.replace(study, regions=[*study.regions, *more])
    page = write_docs(whole, tmp_path).read_text()
    assert "| pendulum, 0.75 N m | network | 250 (0, 250, 300) | 43% | 202.9 (network) |" in page
    assert "1.23 of the published" in page
    assert "Each number is of 3 trainings of a plant" in page
    assert "verifies no\npublished network" in page
    assert whole.missing() == ["rlstab/PlantPendulumWeak-v0 network seed 0: refuted"]
    assert (tmp_path / "regions.png").stat().st_size > 10_000
    again = Result.load(tmp_path / "regions.json")
    assert again.summary() == whole.summary()


def test_it_is_registered_and_shown(study: RegionsStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "regions", "--from", str(study.save(tmp_path / "regions.json"))]) == 0
    assert "path tracking, 0.84" in capsys.readouterr().out
    assert registry.get("regions").options() is Options
    assert isinstance(Conditions.now(1), Conditions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(cases=("Hopper-v5",)), "no case 'Hopper-v5'"),
        (Options(seeds=0), "seeds must be at least 1"),
        (Options(kinds=()), "there must be a kind"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure(options)
