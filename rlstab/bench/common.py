"""What every benchmark returns: all repetitions, where they were taken, and the ratio to peers of the same run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Measurement:
    """One implementation in one case: a sample a repetition, or the reason why there is none."""

    case: tuple[str, ...]
    implementation: str
    samples: tuple[float, ...] = ()
    note: str = ""
    missed: tuple[int, ...] = ()
    """Repetitions (from 0) that were given up before they ended: they took longer than any sample. Durations only."""

    @property
    def durations(self) -> list[float]:
        """A sample a repetition, infinite where it was given up."""
        samples = iter(self.samples)
        count = len(self.samples) + len(self.missed)
        return [math.inf if repetition in self.missed else next(samples) for repetition in range(count)]

    @property
    def median(self) -> float:
        """Middle sample, in the result's unit; infinite where most repetitions were given up."""
        return statistics.median(self.durations)


@dataclass(frozen=True, eq=False, repr=False)
class BenchmarkResult(Result):
    """Measurements of several implementations in several cases, taken in one run with interleaved repetitions."""

    kind: ClassVar[str] = "benchmark"

    name: str
    title: str
    about: str
    """What is measured and how, in Markdown."""
    command: str
    unit: str
    higher_is_better: bool
    reference: str
    """The implementation that the others are compared with."""
    labels: tuple[str, ...]
    """What the entries of `Measurement.case` are; tables are grouped by the last if there are several."""
    measurements: tuple[Measurement, ...]
    conditions: Conditions
    settings: dict[str, Any] = field(default_factory=dict)
    not_peers: tuple[str, ...] = ()
    """Implementations that do less than the reference: shown, but left out of the verdict."""

    def implementations(self) -> list[str]:
        """Names in the order of measurement."""
        return list(dict.fromkeys(measurement.implementation for measurement in self.measurements))

    def cases(self) -> list[tuple[str, ...]]:
        """Cases in the order of measurement."""
        return list(dict.fromkeys(measurement.case for measurement in self.measurements))

    def find(self, case: tuple[str, ...], implementation: str) -> Measurement | None:
        """Look up a measurement that was made, be it that every repetition was given up."""
        for measurement in self.measurements:
            if measurement.case == case and measurement.implementation == implementation and measurement.durations:
                return measurement
        return None

    def ratios(self, case: tuple[str, ...], implementation: str) -> list[float]:
        """How many times better the reference is, in each repetition.

        Repetitions of one case follow each other closely, so that a slow moment of the machine hits both sides. One
        that both gave up says nothing and is left out. Empty where either side was not measured.
        """
        ours, other = self.find(case, self.reference), self.find(case, implementation)
        if ours is None or other is None:
            return []
        return [
            mine / peer if self.higher_is_better else peer / mine
            for mine, peer in zip(ours.durations, other.durations, strict=True)
            if math.isfinite(mine) or math.isfinite(peer)
        ]

    def advantage(self, case: tuple[str, ...], implementation: str) -> float | None:
        """How many times better the reference is: the median of `ratios`, ``None`` without any."""
        ratios = self.ratios(case, implementation)
        return statistics.median(ratios) if ratios else None

    def peers(self) -> list[str]:
        """Implementations that do the same work as the reference."""
        return [name for name in self.implementations() if name != self.reference and name not in self.not_peers]

    def _others(self) -> list[str]:
        """Everything but the reference and its own parts, such as ``"rlstab (physics)"``."""
        return [name for name in self.implementations() if name.split(" (")[0] != self.reference]

    def standing(self, case: tuple[str, ...], names: Sequence[str]) -> str:
        """Say how the reference stands against all of ``names`` in a case.

        ``"ahead"``: better than each in every repetition. ``"behind"``: one is better in every repetition.
        ``"level"``: neither, the repetitions disagree.
        """
        measured = [ratios for name in names if (ratios := self.ratios(case, name))]
        if any(max(ratios) < 1 for ratios in measured):
            return "behind"
        return "ahead" if all(min(ratios) > 1 for ratios in measured) else "level"

    def summary(self) -> dict[str, Scalar]:
        """Count the cases by how the reference stands against its peers, and name the closest one.

        With partial implementations, a second count includes them, but not the reference's own.
        """
        compared = [
            (ratio, case, peer)
            for case in self.cases()
            for peer in self.peers()
            if (ratio := self.advantage(case, peer)) is not None
        ]
        facts: dict[str, Scalar] = {"benchmark": self.name, "cases": len(self.cases())}
        if compared:
            ratio, case, peer = min(compared)
            cases = list(dict.fromkeys(case for _, case, _ in compared))
            standings = [self.standing(case, self.peers()) for case in cases]
            for standing in ("ahead", "level", "behind"):
                facts[standing] = standings.count(standing)
            if self.not_peers:
                standings = [self.standing(case, self._others()) for case in cases]
                facts["ahead of those that do less, too"] = standings.count("ahead")
            facts["smallest ratio"] = ratio
            facts["smallest ratio at"] = f"{' '.join(case)} against {peer}"
        return facts

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the ratio to each implementation in each case, on a logarithmic axis."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.figure(figsize=(10, 5)).gca()
        names = [" ".join(case) for case in self.cases()]
        for peer in self.implementations():
            ratios = [self.advantage(case, peer) for case in self.cases()]
            if peer != self.reference and any(ratio is not None for ratio in ratios):
                ax.plot(names, [float("nan") if ratio is None else ratio for ratio in ratios], "o", label=peer)
        ax.axhline(1.0, color="black", linewidth=0.8)
        ax.set_yscale("log")
        ax.set_ylabel(f"{self.reference} is better by a factor of")
        ax.tick_params(axis="x", rotation=90)
        ax.legend()
        return ax

    def figure(self, path: Path) -> None:
        """Draw the page's picture; a table of ratios needs none."""

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Lay the numbers out as ``(title, columns, rows of text)``, for a terminal or a page."""
        grouped = len(self.labels) > 1
        groups = list(dict.fromkeys(case[-1] for case in self.cases())) if grouped else [""]
        implementations = self.implementations()
        others = [name for name in implementations if name != self.reference]
        result: list[tuple[str, list[str], list[list[str]]]] = []
        for group in groups:
            cases = [case for case in self.cases() if not grouped or case[-1] == group]
            heads = list(self.labels[:-1] if grouped else self.labels)
            shown = [list(case[:-1] if grouped else case) for case in cases]
            title = f"{group} {self.labels[-1]}: " if grouped else ""
            numbers = [
                [*label, *(_cell(self.find(case, name)) for name in implementations)]
                for label, case in zip(shown, cases, strict=True)
            ]
            result.append((f"{title}median (lowest to highest), {self.unit}", [*heads, *implementations], numbers))
            if others:
                ratios = [
                    [*label, *(_ratios(self.ratios(case, name)) for name in others)]
                    for label, case in zip(shown, cases, strict=True)
                ]
                ratio_title = f"{title}factor by which {self.reference} is better, median (lowest to highest)"
                result.append((ratio_title, [*heads, *others], ratios))
        return result

    def missing(self) -> list[str]:
        """Say what was not measured where, and why, be it one repetition; one line a reason."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for measurement in self.measurements:
            if measurement.note or not measurement.durations:
                key = (measurement.implementation, measurement.note)
                reasons.setdefault(key, []).append(" ".join(measurement.case))
        everywhere = len(self.cases())
        return [
            f"{name}: {note} ({'everywhere' if len(cases) == everywhere else ', '.join(cases)})"
            for (name, note), cases in reasons.items()
        ]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", self.about.strip(), "", f"Made by `{self.command}`.", ""]
        facts = self.summary()
        if "ahead" in facts:
            least = f"{_number(float(str(facts['smallest ratio'])))} ({facts['smallest ratio at']})"
            verdict = f"Of {facts['cases']} cases {self.reference} is ahead of every peer in {facts['ahead']}"
            partial = facts.get("ahead of those that do less, too")
            verdict += "" if partial is None else f" (in {partial} also of those that do less)"
            verdict += f", level with the best in {facts['level']}, behind in {facts['behind']}."
            meaning = "Ahead or behind means in every repetition, level that the repetitions disagree."
            lines += [f"**{verdict}** {meaning} The smallest median ratio to a peer is {least}.", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title[0].upper()}{title[1:]}", "", *markdown_table(columns, rows), ""]
        if self.missing():
            lines += ["## Not measured", "", *(f"* {reason}" for reason in self.missing()), ""]
        lines += self.conditions.section(self.settings)
        return "\n".join(lines)


def _cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return "-"
    durations = measurement.durations
    if not measurement.samples:
        return "given up"
    return f"{_number(measurement.median)} ({_number(min(durations))} to {_number(max(durations))})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "given up"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratios(ratios: list[float]) -> str:
    if not ratios:
        return "-"
    median, low, high = (f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios)))
    return median if len(ratios) == 1 else f"{median} ({low} to {high})"
