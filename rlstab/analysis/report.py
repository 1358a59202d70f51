"""One HTML file that says how good a policy is, what it looks like, how it runs and how to get it again."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis import plots
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.analysis.curves import LearningCurve
    from rlstab.analysis.evaluation import Evaluation
    from rlstab.analysis.stats import Statistic
    from rlstab.analysis.video import Recording

_TEMPLATE = "report.html.jinja"
_VIDEO_LIMIT_BYTES = 24_000_000


@dataclass(frozen=True)
class ReportData:
    """What a report shows; every part but the first two may be missing."""

    title: str
    evaluation: Evaluation
    subtitle: str = ""
    """One sentence: what was trained, where and for how long."""
    facts: Sequence[tuple[str, str, str]] = ()
    """More headline numbers: name, value with unit, a remark."""
    curve: LearningCurve | None = None
    curve_caption: str = (
        "Mean return of the episodes that ended last during training. Their actions were sampled, exploration noise "
        "included, so the curve is not comparable with returns of the most likely action."
    )
    deployed_returns: Sequence[float] = ()
    """Return of the exported policy in the same episodes, in the same order."""
    deployment_note: str = ""
    """One sentence: which file, which backend, which rate, overruns."""
    latency: Sequence[Sequence[str]] = ()
    """Header and rows, as text with units in the header or the first column."""
    recording: Recording | None = None
    contract: Mapping[str, str] = field(default_factory=dict)
    """What the exported file demands, in words."""
    commands: Sequence[str] = ()
    """What to type to get the same again."""
    reproduction: Mapping[str, str] = field(default_factory=dict)
    """Seed, source revision, machine, files."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package to version; default: those of the evaluation."""
    notices: Sequence[str] = ()
    """What went wrong on the way, or is missing and why."""


def render(data: ReportData) -> str:
    """The report as one HTML page that loads nothing from elsewhere and runs no script.

    Raises
    ------
    UserError
        The deployed returns are not of the evaluated episodes.
    """
    import jinja2

    count = len(data.evaluation.returns)
    if len(data.deployed_returns) not in (0, count):
        found = len(data.deployed_returns)
        raise UserError(
            f"{found} deployed returns cannot be compared with {count} evaluated ones: deploy the same episodes"
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rlstab.analysis"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    film = _film(data.recording)
    return environment.get_template(_TEMPLATE).render(
        data=data,
        cards=_cards(data),
        figures=_figures(data),
        paired=_paired(data),
        episodes=_episodes(data),
        notices=[*data.notices, *film.pop("notices")],
        tables=_tables(data),
        **film,
    )


def write(data: ReportData, path: str | Path) -> Path:
    """Write the report; ``.html`` is added to the name if it is not there.

    Raises
    ------
    UserError
        As `render`, or the disk refuses.
    """
    from rlstab.runs import atomic

    target = Path(path) if Path(path).suffix == ".html" else Path(f"{path}.html")
    page = render(data)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.disk_error(f"cannot make {target.parent}", error) from error
    atomic.write_text(target, page)
    return target


def picture(data: ReportData, path: str | Path) -> Path:
    """The report at a glance as one PNG: learning curve, returns, and stills where there are any."""
    import matplotlib
    from matplotlib.figure import Figure

    stills = data.recording is not None and len(data.recording.stills) > 0
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(6.8, 3.6 if stills else 2.4), layout="constrained")
        rows = 2 if stills else 1
        grid = figure.add_gridspec(rows, 2, height_ratios=(2, 1)[:rows])
        if data.curve is not None:
            plots.learning_curves([data.curve], figure.add_subplot(grid[0, 0]))
        returns = {"Evaluated": data.evaluation.returns}
        if len(data.deployed_returns):
            returns["Deployed"] = np.asarray(data.deployed_returns)
        plots.return_distribution(returns, figure.add_subplot(grid[0, 1]))
        if stills and data.recording is not None:
            data.recording.plot(figure.add_subplot(grid[1, :]))
        figure.suptitle(data.title)
    return plots.save(figure, path)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _interval(low: float, high: float, level: float) -> str:
    return f"{level:.0%} interval {_number(low)} to {_number(high)}" if np.isfinite(low) else ""


def _cards(data: ReportData) -> list[dict[str, str]]:
    evaluation = data.evaluation
    returns, count = evaluation.returns, len(evaluation.returns)
    aggregate = evaluation.aggregate()
    cards: list[tuple[str, str, str]] = []
    names: dict[Statistic, str] = {"mean": "Mean return", "iqm": "Interquartile mean"}
    for statistic, name in names.items():
        value, low, high = aggregate.get(statistic)
        interval = _interval(low, high, aggregate.level)
        cards.append((name, _number(value), f"{interval}, {count} episodes".strip(", ")))
    rate = evaluation.success_rate()
    if rate is not None:
        cards.append(("Success", f"{rate[0]:.0%}", f"95% interval {rate[1]:.0%} to {rate[2]:.0%}"))
    ended = int(evaluation.terminated.sum())
    cards.append(
        ("Mean length", f"{evaluation.lengths.mean():,.0f} steps", f"{ended} of {count} ended before the time limit")
    )
    if len(data.deployed_returns):
        deployed, evaluated = float(np.mean(data.deployed_returns)), float(returns.mean())
        change = f"{100 * (deployed - evaluated) / abs(evaluated):+.2f}%" if evaluated else _number(deployed)
        cards.append(("Deployed − evaluated", change, f"mean return {_number(deployed)}, same episodes"))
    cards.extend(data.facts)
    return [{"name": name, "value": value, "note": note} for name, value, note in cards]


def _figures(data: ReportData) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    if data.curve is not None:
        ax = plots.learning_curves([data.curve], plots.new_axes())
        several = len(data.curve.runs) > 1
        band = f" Band: {data.curve.level:.0%} bootstrap interval over {len(data.curve.runs)} runs." if several else ""
        figures.append(_figure(ax, f"{data.curve_caption}{band}"))
    groups: dict[str, Any] = {"Evaluated": data.evaluation.returns}
    if len(data.deployed_returns):
        groups["Deployed"] = data.deployed_returns
    ax = plots.return_distribution(groups, plots.new_axes())
    kind = "the most likely action" if data.evaluation.deterministic else "sampled actions"
    caption = f"Returns of {len(data.evaluation.returns)} episodes each, {kind}; a dot is an episode."
    figures.append(_figure(ax, caption))
    return figures


def _paired(data: ReportData) -> dict[str, Any] | None:
    if not len(data.deployed_returns):
        return None
    ax = plots.paired_returns(data.evaluation.returns, data.deployed_returns, plots.new_axes(aspect=0.9))
    return _figure(ax, "The same episodes, evaluated and deployed from the exported file; on the line they are equal.")


def _figure(ax: Any, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    return {"svg": Markup(plots.svg(ax, caption)), "caption": caption}


def _episodes(data: ReportData) -> list[list[str]]:
    evaluation = data.evaluation
    deployed = list(data.deployed_returns)
    table = [["Episode", "Return", *(["Deployed", "Difference"] if deployed else []), "Steps", "Ended by"]]
    for index, value in enumerate(evaluation.returns):
        row = [f"seed {evaluation.seed}, world {index}", f"{value:.2f}"]
        if deployed:
            row += [f"{deployed[index]:.2f}", f"{deployed[index] - value:+.2f}"]
        row += [str(evaluation.lengths[index]), "the task" if evaluation.terminated[index] else "the time limit"]
        table.append(row)
    return table


def _film(recording: Recording | None) -> dict[str, Any]:
    film: dict[str, Any] = {"stills": [], "video": "", "film_caption": "", "notices": []}
    if recording is None:
        return film
    if recording.notice:
        film["notices"].append(f"There is no video: {recording.notice}")
    film["stills"] = [
        {"source": _data_uri("image/jpeg", _jpeg(picture)), "time": f"{seconds:.1f} s"}
        for picture, seconds in zip(recording.stills, recording.still_times, strict=True)
    ]
    film["film_caption"] = (
        f"Episode {recording.episode} of the evaluation: return {_number(recording.episode_return)} "
        f"in {recording.length} steps." + (" The video runs at the robot's own speed." if recording.path else "")
    )
    if recording.path:
        try:
            content = Path(recording.path).read_bytes()
        except OSError as error:
            film["notices"].append(f"The video {recording.path} could not be read: {error.strerror}")
        else:
            if len(content) <= _VIDEO_LIMIT_BYTES:
                film["video"] = _data_uri("video/mp4", content)
            else:
                film["notices"].append(f"The video is too large to be part of this page; it is {recording.path}")
    return film


def _tables(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    evaluation = data.evaluation
    aggregate = evaluation.aggregate()
    median, low, high = aggregate.get("median")
    conditions = {
        "Environment": evaluation.env_id,
        **({"Checkpoint": evaluation.checkpoint} if evaluation.checkpoint else {}),
        "Policy": f"{evaluation.policy}, {'deterministic' if evaluation.deterministic else 'sampled actions'}",
        "Disturbances": "; ".join(evaluation.disturbances) or "none",
        "Evaluation seed": f"{evaluation.seed}, worlds 0 to {len(evaluation.returns) - 1}",
        "Intervals": f"{aggregate.level:.0%} percentile bootstrap over episodes ({aggregate.resamples} resamples, seed "
        f"{aggregate.seed}); they speak of this policy started elsewhere, not of training it again",
        "Median return": f"{_number(median)}, {_interval(low, high, aggregate.level)}".strip(", "),
    }
    versions = data.versions or evaluation.versions
    reproduction = {
        **data.reproduction,
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [
        ("How it was measured", list(conditions.items())),
        ("Contract of the exported policy", list(data.contract.items())),
        ("Reproduction", list(reproduction.items())),
    ]


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(picture).save(target, format="jpeg", quality=85)
    return target.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
