from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.bench import ablation
from rlstab.bench.ablation import ATTENTION, BASE, FEW_RATES, OPTIONS, RATES, AblationResult, Options, measure
from rlstab.bench.pages import write_docs
from rlstab.errors import UserError


def report_with(report: dict[str, Any], returned: float, **fields: Any) -> dict[str, Any]:
    row = {"attention/layer0_head0/mass": 1.0, "attention/layer0_head1/mass": 3.0}
    row |= {f"attention/layer0_head0/{name}": 2.0 for name in ("entropy", "max_score")}
    row |= {"attention/layer0/gradient_norm_query": 0.5}
    metrics = [{"step": step, **row} for step in (0, report["requested_steps"])]
    history = {"largest gain of the past": 4.0, "gain of a constant offset": 9.0}
    report = {**report, "processor_seconds": 2.0, "diverged": False}
    return {**report, "eval_returns": [returned], "metrics": metrics, "history": history, **fields}


@pytest.fixture
def result(fake: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> AblationResult:
    """Softmax without norm learns at the two lowest rates only; everything else is perfect below 0.1."""
    few = {name: OPTIONS[name] for name in ("LayerScale 0.1", "Stable-SPAM")}
    monkeypatch.setattr(ablation, "OPTIONS", few)

    def change(report: dict[str, Any]) -> dict[str, Any]:
        settings = report["hyperparameters"]
        fragile = settings["attention"] == "softmax" and not settings["qk_norm"]
        learns = settings["learning_rate"] < (1e-3 if fragile else 0.1)
        if not learns:
            # It earned something before it diverged.
            return report_with(report, 0.9, history=None, metrics=[], diverged=True)
        return report_with(report, 1.0)

    fake.change = change
    return measure(Options(seeds=2, steps=2000, jobs=1, work=work), lambda _: None)


def test_every_variant_is_trained_at_its_rates(result: AblationResult, fake: Any) -> None:
    assert len(fake.begun) == 2 * (len(ATTENTION) * len(RATES) + 2 * len(FEW_RATES))
    assert len({(name, seed) for name, _, seed in fake.begun}) == len(fake.begun)


def test_sensitivity_is_the_share_that_is_lost_over_the_rates(result: AblationResult) -> None:
    assert result.relative_sensitivity("softmax, no norm") == pytest.approx((5 / 7, 5 / 7, 5 / 7))
    assert result.relative_sensitivity("softmax, QK-norm") == pytest.approx((1 / 7, 1 / 7, 1 / 7))
    # A variant that earns half of what memory is worth at its best rate loses half as much.
    half = {name: result.blind + (values - result.blind) / 2 for name, values in result.returns.items()}
    poor = dataclasses.replace(result, returns=half)
    assert result.sensitivity("softmax, no norm")[0] == pytest.approx(5 / 7)
    assert poor.sensitivity("softmax, no norm")[0] == pytest.approx(5 / 14)
    assert poor.relative_sensitivity("softmax, no norm")[0] == pytest.approx(5 / 7)
    assert result.unsuccessful("softmax, no norm").tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert result.top("softmax, no norm") == (1.0, "0.0001")


def test_the_hypotheses_are_judged_by_intervals(result: AblationResult) -> None:
    first, second, third = result.hypotheses()
    assert "lower (0.14 [0.14, 0.14] against 0.71 [0.71, 0.71])" in first
    assert "no difference shown" in second
    assert "no difference shown without QK-norm" in third


def test_monitors_are_means_over_heads_and_seeds(result: AblationResult) -> None:
    masses = result.monitors[BASE]["mass"]
    assert masses.shape == (len(RATES), 20)
    np.testing.assert_allclose(masses[0], 2.0)
    assert np.isnan(masses[-1]).all()  # Nothing was logged by those that diverged.
    assert np.isnan(result.gains[BASE][:, -1]).all()
    assert (result.gains[BASE][:, 0] == 4.0).all()


def test_the_page_is_drawn_and_comes_back_from_its_numbers(result: AblationResult, tmp_path: Path) -> None:
    page = result.to_markdown()
    assert "| softmax, no norm | 1.00 | 0.0001 | 0.71 [0.71, 0.71] | 0.71 [0.71, 0.71] | 0 % | 4 |" in page
    assert "At the rate 0.1 no training with any attention succeeds within 2,000 steps" in page
    assert "there is one, RepeatPreviousEasy-v0." in page
    assert "(`--factorial` trains those)" in page
    assert "| LayerScale 0.1 | 1.00 [1, 1] | 1.00 [1, 1] | 1.00 [1, 1] | 0 % | 4 |" in page
    assert AblationResult.load(result.save(tmp_path / "ablation")).to_markdown() == page
    write_docs(result, tmp_path)
    assert (tmp_path / "ablation.md").read_text() == page
    assert (tmp_path / "ablation.png").stat().st_size > 10_000
    assert "[Ablation of the transformer policy](ablation.md)" in (tmp_path / "index.md").read_text()


def test_each_option_changes_one_thing() -> None:
    base = ablation._training(BASE, ATTENTION[BASE], 1e-3, 0, Options()).hyperparameters
    for name, change in OPTIONS.items():
        other = ablation._training(name, {**ATTENTION[BASE], **change}, 1e-3, 0, Options()).hyperparameters
        assert {key for key in base if base[key] != other[key]} == set(change), name


def test_what_makes_no_study_is_refused() -> None:
    with pytest.raises(UserError, match="are not known: choose from rlstab/PassiveTMaze-v0"):
        measure(Options(env="rlstab/HopperP-v0"))
    with pytest.raises(UserError, match="must be at least 1"):
        measure(Options(seeds=0))


def test_a_factorial_study_has_every_combination(fake: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "OPTIONS", {})
    fake.change = lambda report: report_with(report, 1.0)
    result = measure(Options(seeds=1, steps=2000, jobs=1, work=work, factorial=True), lambda _: None)
    assert len(fake.begun) == len(set(fake.begun)) == 4 * 2 * 2 * 2 * len(RATES)
    varied = {(*(sorted(settings.items())),) for settings in (*ATTENTION.values(), *ablation.COMBINATIONS.values())}
    assert len(varied) == 32
    assert "| softmax, no norm, plain, Stable-SPAM | 1.00 |" in result.to_markdown()
    assert "--factorial" in result.command
    assert "(`--factorial` trains those)" not in result.to_markdown()


def test_a_variant_reads_alike_in_both_tables(result: AblationResult) -> None:
    first, second, _ = result.tables()
    heads = [columns[-4:] for _, columns, _ in (first, second)]
    rows = [next(row for row in rows if row[0] == BASE)[-4:] for _, _, rows in (first, second)]
    assert heads[0] == heads[1]
    assert rows[0] == rows[1]


def test_monitors_are_drawn_from_the_first_look_on() -> None:
    moving, later, still = np.array([2.0, 2.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, 1.0]), np.full(4, np.nan)
    assert ablation._first_look([moving, later, still]) == 2
    assert ablation._first_look([later, still]) == 0


def test_the_interquartile_mean_is_scipy_s() -> None:
    from scipy.stats import trim_mean

    for count in (1, 2, 5, 8):
        values = np.random.default_rng(count).normal(size=count)
        assert ablation._interquartile_mean(tuple(values))[0] == pytest.approx(trim_mean(values, 0.25))
