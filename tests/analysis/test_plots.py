from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlstab.analysis import plots, stats
from rlstab.analysis.curves import learning_curve
from rlstab.errors import UserError


def curves(count: int = 5, label: str = "PPO"):
    rng = np.random.default_rng(0)
    return learning_curve(
        [(np.linspace(0, 2e6, 20), rng.normal(size=20).cumsum()) for _ in range(count)], label=label, resamples=20
    )


def test_learning_curves_say_what_they_show() -> None:
    ax = plots.learning_curves([curves(), curves(label="SAC")], plots.new_axes())
    assert ax.get_xlabel() == "Environment steps (millions)"
    assert ax.get_ylabel() == "Return (IQM of 5 runs)"
    lines = ax.get_lines()
    assert len({line.get_color() for line in lines}) == len({str(line.get_linestyle()) for line in lines}) == 2
    assert len(ax.collections) == 2, "one band a curve"
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["PPO", "SAC"]


def test_one_run_has_no_band_and_different_numbers_of_runs_are_told_apart() -> None:
    assert not plots.learning_curves([curves(1)], plots.new_axes()).collections
    legend = plots.learning_curves([curves(5), curves(3, "SAC")], plots.new_axes()).get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["PPO (IQM of 5 runs)", "SAC (IQM of 3 runs)"]


def test_every_episode_is_a_dot_and_none_hides_another() -> None:
    returns = np.array([1.0, 1.0, 1.0, 1.0, 50.0, 90.0])
    ax = plots.return_distribution({"a": returns, "b": returns[:4]}, plots.new_axes())
    first, second = (np.asarray(collection.get_offsets()) for collection in ax.collections)
    assert (len(first), len(second)) == (6, 4)
    assert len(np.unique(first, axis=0)) == 6
    assert np.abs(first[:, 1]).max() < 0.5, "dots stay in their row"


@pytest.mark.parametrize("values", [np.full(30, 7.0), np.random.default_rng(0).normal(size=300)])
def test_histograms_count_every_episode(values: np.ndarray) -> None:
    ax = plots.return_histogram({"": values}, plots.new_axes())
    assert ax.patches[0].get_data().values.sum() == len(values)  # type: ignore[attr-defined]


def test_pairs_are_drawn_on_equal_axes() -> None:
    ax = plots.paired_returns([1, 2, 3], [1, 2, 4], plots.new_axes())
    assert ax.get_xlim() == ax.get_ylim()


def test_the_other_figures_draw() -> None:
    aggregate = stats.aggregate([1, 2, 3], resamples=10)
    assert "95% interval over 3 runs" in aggregate.plot(plots.new_axes()).get_xlabel()
    plots.intervals({"a": aggregate, "b": aggregate}, plots.new_axes())
    stats.probability_of_improvement([1, 2], [1, 3], resamples=10).plot(plots.new_axes())
    stats.performance_profile([1, 2, 3], resamples=10).plot(plots.new_axes())
    plots.learning_curves([curves()], plots.new_axes(), show_runs=True)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, suffix: str, start: bytes) -> None:
    ax = curves().plot(plots.new_axes())
    first = plots.save(ax, tmp_path / f"a.{suffix}").read_bytes()
    assert first.startswith(start)
    again = curves().plot(plots.new_axes())
    assert plots.save(again, tmp_path / f"b.{suffix}").read_bytes() == first


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.png, \.pdf or \.svg"):
        plots.save(plots.new_axes(), tmp_path / "a.bmp")


def test_svg_takes_the_colour_of_the_page_and_describes_itself() -> None:
    text = plots.svg(curves().plot(plots.new_axes()), 'Return & "steps"')
    assert text.startswith('<svg role="img" aria-label="Return &amp; &quot;steps&quot;"')
    assert "currentColor" in text
    assert plots.INK not in text
    assert "<script" not in text


def test_notebooks_get_a_figure_of_their_own() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    ax = curves().plot()
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(ax.figure)  # type: ignore[arg-type]
