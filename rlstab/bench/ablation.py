"""`rlstab bench ablation`: what sigmoid or softmax, its bias, and each stabiliser do to a transformer's learning."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.analysis.bootstrap import FloatArray, bootstrap, format_interval
from rlstab.analysis.result import Result, Scalar
from rlstab.bench import method_worker
from rlstab.bench.conditions import Conditions, command_line, markdown_table
from rlstab.bench.memory import TASKS, Task
from rlstab.bench.reports import Report
from rlstab.bench.study import Table
from rlstab.bench.trainings import Training, collect, conditions_of
from rlstab.errors import UserError
from rlstab.runs.provenance import usable_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FEW_RATES = (1e-3, 3e-3, 1e-2)

_WEIGHTS: dict[str, dict[str, Any]] = {
    "softmax": {"attention": "softmax"},
    "sigmoid, count": {"score_bias": "count"},
    "sigmoid, window": {"score_bias": "window"},
    "sigmoid, head": {"score_bias": "head"},
}
ATTENTION: dict[str, dict[str, Any]] = {
    f"{name}, {'QK-norm' if norm else 'no norm'}": {**settings, "qk_norm": norm, "residual": "gru"}
    for norm in (True, False)
    for name, settings in _WEIGHTS.items()
}
"""What the whole range of rates is tried on."""

BASE = "sigmoid, count, QK-norm"

COMBINATIONS: dict[str, dict[str, Any]] = {
    f"{attention}, {label}": {**settings, **change}
    for label, change in {
        "plain": {"residual": "plain"},
        "Stable-SPAM": {"optimizer": "stable_spam"},
        "plain, Stable-SPAM": {"residual": "plain", "optimizer": "stable_spam"},
    }.items()
    for attention, settings in ATTENTION.items()
}
"""What a factorial study adds at all rates: the other combinations of attention, residual and optimiser."""

OPTIONS: dict[str, dict[str, Any]] = {
    "plain residual": {"residual": "plain"},
    "LayerScale 0.1": {"layer_scale": 0.1},
    "plain, LayerScale 0.1": {"residual": "plain", "layer_scale": 0.1},
    "output norm": {"output_norm": True},
    "sigma-reparametrisation": {"sigma_reparam": True},
    "z-loss 1e-4": {"z_loss": 1e-4},
    "warm-up, a tenth": {"warmup_steps": None},  # of the steps asked for, when they are known
    "weight decay 0.01": {"weight_decay": 0.01},
    "Stable-SPAM": {"optimizer": "stable_spam"},
    "cached context": {"context": "cached", "sequence_length": 26},
}
"""What is changed one at a time against the base, at a few rates."""

_COMMON = ("without success", "gain of the past", "gain of an offset", "steps/s")

_PLANNED = "the passive T-maze, RepeatPrevious, Hopper without velocities and MiniGrid's memory"

MONITORS: dict[str, str] = {
    "mass": "attention mass (mean)",
    "entropy": "entropy of the weights (nat)",
    "max_score": "largest |score|",
    "gradient_norm_query": "gradient norm of the queries' matrix",
    "gain": "norm of attention's Jacobian",
    "certified_gain": "its certified bound (sigmoid)",
}


@dataclass(frozen=True)
class Options:
    """What to train."""

    env: str = "rlstab/RepeatPreviousEasy-v0"
    """Task: one of `rlstab bench memory` whose best returns with and without memory are known."""
    seeds: int = 5
    """Trainings of each variant at each rate, with seeds 0, 1, ..."""
    steps: int = 100_000
    """Environment steps of each training."""
    factorial: bool = False
    """Whether every attention is also combined with the plain residual and with Stable-SPAM, at all rates: 254
    trainings a seed in place of 86."""
    jobs: int = field(default_factory=usable_cores)
    """Trainings that run at the same time, each on one core."""
    work: Path = Path("runs/ablation")
    """Folder that keeps one report a finished training; those of equal steps and hyper-parameters are used again."""


@dataclass(frozen=True, eq=False, repr=False)
class AblationResult(Result):
    """Returns of each variant at each learning rate, and what went on inside."""

    kind: ClassVar[str] = "ablation"
    title: ClassVar[str] = "Ablation of the transformer policy"
    labels: ClassVar[tuple[str, ...]] = ("variant",)

    name: str
    command: str
    env: str
    best: float
    """Return of a perfect memory."""
    blind: float
    """Best expected return without memory."""
    rates: dict[str, tuple[float, ...]]
    """Variant to its learning rates."""
    returns: dict[str, FloatArray] = field(metadata={"unit": "return"})
    """Variant to ``(seeds, rates)``: mean deterministic return of the final policy; ``blind`` where it diverged."""
    gains: dict[str, FloatArray] = field(metadata={"unit": "logit per standard deviation"})
    """Variant to ``(seeds, rates)``: largest gain of the past (`rlstab.analysis.history`); NaN where diverged."""
    offsets: dict[str, FloatArray] = field(metadata={"unit": "logit per standard deviation"})
    """Variant to ``(seeds, rates)``: gain of a constant offset of the observation; NaN where diverged."""
    speeds: dict[str, float] = field(metadata={"unit": "environment steps a second"})
    """Variant to steps a second of processor time, mean; certificates left out."""
    monitors: dict[str, dict[str, FloatArray]]
    """Variant to monitor to ``(rates, points)``, mean over heads and seeds, from the training's beginning to its end;
    before the first look, that one."""
    conditions: Conditions
    settings: dict[str, Any]

    def sensitivity(self, variant: str) -> tuple[float, float, float]:
        """Mean over rates of what is lost against the variant's best rate, in units of what memory is worth.

        0: equally good at every rate, or equally bad; with its 95 % interval over seeds (arXiv:2309.14322, for
        returns).
        """
        return _sensitivity(tuple(map(tuple, self.returns[variant].tolist())), self.blind, self.best - self.blind)

    def relative_sensitivity(self, variant: str) -> tuple[float, float, float]:
        """See `sensitivity`, in units of what the variant itself earns at its best rate."""
        return _sensitivity(tuple(map(tuple, self.returns[variant].tolist())), self.blind, None)

    def top(self, variant: str) -> tuple[float, str]:
        """Best mean over rates, and the rate."""
        best = self.best_rate(variant)
        return float(self.returns[variant].mean(0)[best]), f"{self.rates[variant][best]:g}"

    def best_rate(self, variant: str) -> int:
        """Index of the rate with the best mean return."""
        return int(self.returns[variant].mean(0).argmax())

    def unsuccessful(self, variant: str) -> FloatArray:
        """Share of the trainings at each rate that earn less than a tenth of what memory is worth, ``(rates,)``.

        Returns do not tell those that diverged or collapsed from those that have not learned yet.
        """
        return (self.returns[variant] < self.blind + 0.1 * (self.best - self.blind)).mean(0)

    def summary(self) -> dict[str, Scalar]:
        """Sensitivity to the rate of each attention."""
        return {name: _with_interval(*self.sensitivity(name)) for name in ATTENTION}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw return against learning rate."""
        from rlstab.analysis import plots

        ax = ax if ax is not None else plots.new_axes()
        self._curves(ax, list(ATTENTION))
        ax.legend(fontsize=6)
        return ax

    def _curves(self, ax: Axes, variants: Sequence[str]) -> None:
        for number, variant in enumerate(variants):
            style, returns = "-" if variant.endswith("QK-norm") else "--", self.returns[variant]
            # Beside each other, or their ranges would hide one another.
            rates = np.array(self.rates[variant]) * 1.06 ** (number - (len(variants) - 1) / 2)
            mean, colour = returns.mean(0), f"C{number % 4}"
            ax.plot(rates, mean, style, color=colour, linewidth=1.2, label=variant)
            ax.vlines(rates, returns.min(0), returns.max(0), color=colour, linewidth=0.9, alpha=0.7)
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("return: mean, and range of seeds")

    def figure(self, path: Path) -> Path:
        """Draw return against rate, and the monitors over the training at the rate that suits all."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(3, 3, figsize=(12.0, 9.6), layout="constrained")
        handles, labels = [], []
        for ax, norm in zip(axes.flat, ("QK-norm", "no norm"), strict=False):
            self._curves(ax, [name for name in ATTENTION if name.endswith(norm)])
            ax.set_title(norm, fontsize=8)
            for found, known in zip(ax.get_legend_handles_labels(), (handles, labels), strict=True):
                known += found
        figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
        axes.flat[1].sharey(axes.flat[0])
        rate = self._rate_of_monitors()
        index = RATES.index(rate)
        for ax, (monitor, label) in zip(axes.flat[2:], MONITORS.items(), strict=False):
            curves = {variant: self.monitors[variant][monitor][index] for variant in ATTENTION}
            first = _first_look(list(curves.values()))
            for number, (variant, curve) in enumerate(curves.items()):
                style = "-" if variant.endswith("QK-norm") else "--"
                ax.plot(np.linspace(0, 1, len(curve))[first:], curve[first:], style, color=f"C{number % 4}")
            ax.set_xlim(0.0, 1.0)
            ax.set_title(f"{label}, rate {rate:g}", fontsize=8)
            ax.set_xlabel("share of the training")
            if any(np.isfinite(curve).any() for curve in curves.values()):
                ax.set_yscale("log")
        ax = axes.flat[-1]
        for number, name in enumerate(ATTENTION):
            known = self.gains[name][:, index][np.isfinite(self.gains[name][:, index])]
            if known.size:
                ax.barh(number, np.median(known), color=f"C{number % 4}")
                ax.hlines(number, known.min(), known.max(), color="black", linewidth=1.0)
        ax.set_yticks(range(len(ATTENTION)), list(ATTENTION), fontsize=6)
        ax.set_title(f"largest gain of the past, rate {rate:g}:\nmedian (bar) and range (line) of seeds", fontsize=8)
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def tables(self) -> list[Table]:
        """Lay the numbers out as ``(title, columns, rows of text)``."""
        combined = [name for name in COMBINATIONS if name in self.returns]
        attention = [
            [
                *(name, f"{self.top(name)[0]:.2f}", self.top(name)[1]),
                *(_with_interval(*of(name)) for of in (self.sensitivity, self.relative_sensitivity)),
                *self._common(name),
            ]
            for name in (*ATTENTION, *combined)
        ]
        columns = ["attention", "best return", "at rate", "sensitivity to the rate", "relative", *_COMMON]
        options = []
        for name in (BASE, *OPTIONS):
            at = [self.rates[name].index(rate) for rate in FEW_RATES]
            options.append([name, *(self._interval_text(name, index) for index in at), *self._common(name)])
        few = ["option", *(f"return at {rate:g}" for rate in FEW_RATES), *_COMMON]
        every = [[name, *(self._interval_text(name, i) for i in range(len(RATES)))] for name in (*ATTENTION, *combined)]
        return [
            ("Attention, over all rates; success and gains at the best rate", columns, attention),
            (f"One change at a time against {BASE}; success and gains at the best rate", few, options),
            (
                "Interquartile mean of the return at each rate, with 95 % interval",
                ["attention", *(f"{r:g}" for r in RATES)],
                every,
            ),
        ]

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def hypotheses(self) -> list[str]:
        """Say of each hypothesis, written down before the trainings, whether its intervals bear it out."""
        plain, normed = self._compare("no norm"), self._compare("QK-norm")
        rate = RATES.index(self._rate_of_monitors())
        sigmoid, softmax = (self._median(self.gains[f"{n}, no norm"][:, rate]) for n in ("sigmoid, count", "softmax"))
        return [
            f"H1, sigmoid lowers the sensitivity to the rate without QK-norm: {plain}.",
            f"H2, with QK-norm there is no difference: {normed}.",
            f"H3, sigmoid's largest gain of the past is lower: {_verdict(sigmoid, softmax)} without QK-norm at rate "
            f"{self._rate_of_monitors():g} (median over seeds {_with_interval(*sigmoid)} against "
            f"{_with_interval(*softmax)}).",
        ]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", ABOUT.strip(), "", *self._nowhere(), f"Made by `{self.command}`.", ""]
        lines += ["The hypotheses were written down before the trainings.", ""]
        lines += [*(f"* {line}" for line in self.hypotheses()), ""]
        lines += [f"![Return against learning rate, and monitors over the training]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        lines += ["## What was planned and is not here", "", *(f"* {line}" for line in self._not_covered()), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])

    def _nowhere(self) -> list[str]:
        """Say at which rates no attention succeeds: a paragraph, or nothing."""
        lost = np.min([self.unsuccessful(name) for name in ATTENTION], axis=0) == 1.0
        rates = [f"{rate:g}" for rate, none in zip(RATES, lost, strict=True) if none]
        if not rates:
            return []
        steps = self.settings["environment steps"]
        where = f"At the rates {', '.join(rates)}" if len(rates) > 1 else f"At the rate {rates[0]}"
        return [
            f"{where} no training with any attention succeeds within {steps:,} steps, be it that it collapsed or that "
            "it needs more of them: that counts in the sensitivity, and not in the columns for the best rate.",
            "",
        ]

    def _not_covered(self) -> list[str]:
        lines = [f"Tasks: of {_PLANNED} there is one, {self.env.removeprefix('rlstab/')}."]
        if not any(name in self.returns for name in COMBINATIONS):
            lines.append(
                "Combinations: the plain residual and Stable-SPAM are changed one at a time, against one attention and "
                "at three rates, and not combined with every attention at all seven (`--factorial` trains those)."
            )
        return lines

    def _compare(self, norm: str) -> str:
        texts = []
        for of in (self.sensitivity, self.relative_sensitivity):
            sigmoid, softmax = of(f"sigmoid, count, {norm}"), of(f"softmax, {norm}")
            texts.append(
                f"{_verdict(sigmoid, softmax)} ({_with_interval(*sigmoid)} against {_with_interval(*softmax)})"
            )
        return f"{texts[0]}; relative to its own best rate: {texts[1]}"

    def _median(self, values: FloatArray) -> tuple[float, float, float]:
        found = bootstrap((values[np.isfinite(values), None],), lambda sample: np.median(sample, axis=0))
        return tuple(float(part[0]) for part in found)  # pyright: ignore[reportReturnType]

    def _interval_text(self, variant: str, index: int) -> str:
        return _with_interval(*_interquartile_mean(tuple(self.returns[variant][:, index].tolist())))

    def _common(self, variant: str) -> list[str]:
        best = self.best_rate(variant)
        found = [values[variant][:, best] for values in (self.gains, self.offsets)]
        known = [values[np.isfinite(values)] for values in found]
        medians = [f"{np.median(values):.3g}" if values.size else "-" for values in known]
        return [f"{100 * self.unsuccessful(variant)[best]:.0f} %", *medians, f"{self.speeds[variant]:,.0f}"]

    def _rate_of_monitors(self) -> float:
        """Find the rate at which the worst attention is best: there are all of them worth a look."""
        return RATES[int(np.min([self.returns[name].mean(0) for name in ATTENTION], axis=0).argmax())]


ABOUT = """
What sigmoid or softmax attention, the bias of sigmoid's scores, QK-norm and each further option do to PPO with a
transformer. Every attention is trained at seven learning rates, every option at three of them, with the same seeds; all
else is the task's preset, with the gated residual of GTrXL where no other is named. *Sensitivity to the rate* is the
mean over rates of what is lost against the variant's best rate, in units of what memory is worth on the task (the
definition of arXiv:2309.14322, for returns); it is small, too, for a variant that learns little at any rate.
*Relative* is the same in units of what the variant itself earns at its best rate; rates at which nothing is learned
bring it close to 1. Hypotheses are judged by the first, which was planned, and with the bias "count". The
best rate is that of the best mean return, for options among the three. *Without success* is the share of the seeds at
the best rate that earn less than a tenth of what memory is worth; one that diverged earns what no memory does. *Gain of
the past* is the largest derivative of the logits in an earlier observation, *gain of an offset* the sum of those in all
observations, medians over the seeds at the best rate that did not diverge. Best returns and the sensitivity are of
means over seeds. Intervals are 95 % percentile bootstraps over seeds by rliable. Steps are per second of processor
time, mean over all rates, certificates left out.

In the picture, returns are means with the range of the seeds, monitors are means over heads and seeds from the first
look at them on, and gains of the past are medians with the range of the seeds. The norm of attention's Jacobian and its
certified bound are those at the beginning of four episodes.
"""


def measure(options: Options, on_progress: Callable[[str], None] = print) -> AblationResult:
    """Run the trainings that are not in the work folder yet, and compare.

    Raises
    ------
    UserError
        A number is out of range, the task is unknown, or a training fails.
    """
    if min(options.seeds, options.steps, options.jobs) < 1:
        raise UserError("seeds, steps and jobs must be at least 1")
    known = [env for env, task in TASKS.items() if task.best is not None]
    if options.env not in known:
        raise UserError(f"the best returns on {options.env} are not known: choose from {', '.join(known)}")
    combinations = COMBINATIONS if options.factorial else {}
    rates = {**dict.fromkeys((*ATTENTION, *combinations), RATES), **dict.fromkeys(OPTIONS, FEW_RATES)}
    one_at_a_time = {name: {**ATTENTION[BASE], **change} for name, change in OPTIONS.items()}
    changes = {**ATTENTION, **combinations, **one_at_a_time}
    trainings = {
        (variant, rate, seed): _training(variant, changes[variant], rate, seed, options)
        for seed in range(options.seeds)
        for variant in rates
        for rate in rates[variant]
    }
    found = collect(trainings, options.work, options.jobs, on_progress)
    grids = {
        variant: [[found[variant, rate, seed] for rate in rates[variant]] for seed in range(options.seeds)]
        for variant in rates
    }
    task = TASKS[options.env]
    assert task.best is not None
    assert task.blind is not None
    return AblationResult(
        name="ablation",
        command=command_line("ablation", options),
        env=options.env,
        best=task.best,
        blind=task.blind,
        rates=rates,
        returns={name: _table(grid, lambda report: _returned(report, task)) for name, grid in grids.items()},
        gains={
            name: _table(grid, lambda report: _gain(report, "largest gain of the past")) for name, grid in grids.items()
        },
        offsets={
            name: _table(grid, lambda report: _gain(report, "gain of a constant offset"))
            for name, grid in grids.items()
        },
        speeds={
            name: float(_table(grid, lambda report: report["total_steps"] / report["processor_seconds"]).mean())
            for name, grid in grids.items()
        },
        monitors={name: _monitors(grids[name]) for name in ATTENTION},
        conditions=conditions_of({"rlstab": list(found.values())}, ours="rlstab"),
        settings={"task": options.env, "environment steps": options.steps, "seeds": options.seeds},
    )


def _training(variant: str, change: Mapping[str, Any], rate: float, seed: int, options: Options) -> Training:
    name = "_".join("".join(c if c.isalnum() else " " for c in f"{variant} {rate:g}").split())
    settings = {**change, "learning_rate": rate}
    if "warmup_steps" in change:
        settings["warmup_steps"] = options.steps // 10
    return method_worker.training("transformer_ppo", name, options.env, seed, options.steps, settings)


def _table(grid: Sequence[Sequence[Report]], value: Callable[[Report], Any]) -> FloatArray:
    return np.array([[float(value(report)) for report in row] for row in grid])


def _returned(report: Report, task: Task) -> float:
    # What a training earned before it diverged is worth nothing.
    return float(task.blind if report["diverged"] else np.mean(report["eval_returns"]))  # pyright: ignore[reportArgumentType]


def _gain(report: Report, name: str) -> float:
    history = report.get("history")
    return float("nan") if history is None else float(history[name])


@functools.lru_cache(maxsize=512)
def _interquartile_mean(returns: tuple[float, ...]) -> tuple[float, float, float]:
    # A page asks for the same interval several times, and resampling takes a while.
    cut = len(returns) // 4

    def middle(sample: FloatArray) -> FloatArray:
        # What `scipy.stats.trim_mean` computes, whose checks take fifty times as long as so few numbers.
        return np.sort(sample, axis=0)[cut : len(sample) - cut].mean(0)

    found = bootstrap((np.array(returns)[:, None],), middle)
    return tuple(float(part[0]) for part in found)  # pyright: ignore[reportReturnType]


@functools.lru_cache(maxsize=128)
def _sensitivity(
    returns: tuple[tuple[float, ...], ...], blind: float, unit: float | None
) -> tuple[float, float, float]:
    def loss(returns: FloatArray) -> FloatArray:
        means = np.maximum(returns.mean(0), blind)
        top = max(float(means.max()), blind + 1e-9)
        return np.array([(top - means).mean() / (unit or top - blind)])

    value, low, high = bootstrap((np.array(returns),), loss, whole_rows=True)
    return float(value[0]), float(low[0]), float(high[0])


def _first_look(curves: Sequence[FloatArray]) -> int:
    """Index of the last point that repeats the first look; all curves are looked at together."""
    moves = [np.flatnonzero(np.diff(curve) != 0) for curve in curves if np.isfinite(curve).all()]
    return min((int(found[0]) for found in moves if found.size), default=0)


def _verdict(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> str:
    """Compare two intervals ``(value, low, high)``."""
    return "lower" if ours[2] < theirs[1] else "higher" if ours[1] > theirs[2] else "no difference shown"


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} {format_interval(round(low, 2), round(high, 2))}".strip()


def _monitors(grid: Sequence[Sequence[Report]], points: int = 20) -> dict[str, FloatArray]:
    """Bring the log's figures to equally many points, mean over heads and seeds."""
    share = np.linspace(0.0, 1.0, points)

    def curve(report: Report, monitor: str) -> FloatArray:
        rows = report["metrics"]
        values = [
            [v for k, v in row.items() if k.startswith("attention/") and k.endswith(f"/{monitor}")] for row in rows
        ]
        if not rows or not all(values):
            return np.full(points, np.nan)
        steps = np.array([row["step"] for row in rows]) / report["requested_steps"]
        return np.interp(share, steps, [float(np.mean(found)) for found in values])

    found: dict[str, FloatArray] = {}
    for monitor in MONITORS:
        curves = np.array([[curve(report, monitor) for report in row] for row in grid])
        known = np.isfinite(curves)
        mean = np.where(known, curves, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        found[monitor] = np.where(known.any(0), mean, np.nan)
    return found
