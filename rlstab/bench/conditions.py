"""Where and when a benchmark ran, and the command that ran it."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlstab.runs.provenance import git_state, machine, package_versions


@dataclass(frozen=True)
class Conditions:
    """Where and when a benchmark ran."""

    machine: dict[str, Any]
    threads: int
    load: float | None
    """One-minute load average before it began: above the number of cores, others were using the machine. ``None``: not
    known, as for trainings that were kept."""
    versions: dict[str, dict[str, str]]
    """Implementation to packages to versions."""
    git: dict[str, Any]
    date: str
    commits: tuple[str, ...] = ()
    """What was measured earlier and kept: the revisions it was made from, in place of ``git``."""

    @classmethod
    def now(cls, threads: int, versions: dict[str, dict[str, str]] | None = None) -> Conditions:
        """Describe this moment; ``versions`` defaults to those of this interpreter."""
        return cls(
            machine=machine(),
            threads=threads,
            load=round(os.getloadavg()[0], 2),
            versions=versions or {"rlstab": package_versions()},
            git=git_state(),
            date=datetime.date.today().isoformat(),
        )

    def section(self, settings: Mapping[str, Any]) -> list[str]:
        """Lay them out as the last part of a results page, with the settings of the benchmark.

        Returns
        -------
        list
            Lines of Markdown.
        """
        facts: dict[str, Any] = {
            "date": self.date,
            "processor": f"{self.machine.get('processor')}, {self.machine.get('cores')} cores usable",
            "system": self.machine.get("system"),
            "threads": self.threads,
            **({} if self.load is None else {"load average before": self.load}),
            "commit": ", ".join(self.commits) or describe_commit(self.git),
            **settings,
        }
        rows = [[str(key), str(value)] for key, value in facts.items()]
        versions = markdown_table(["implementation", "versions"], _version_rows(self.versions))
        return ["## Conditions", "", *markdown_table(["what", "value"], rows), "", *versions, ""]


def describe_commit(git: Mapping[str, Any]) -> str:
    """Name the revision of a source tree in a few characters."""
    return f"{git.get('commit', 'unknown')[:12]}{' with changes' if git.get('dirty') else ''}"


def command_line(name: str, options: Any) -> str:
    """Spell the command that measures with ``options`` and writes the page: flags that differ from their defaults.

    Parameters
    ----------
    name
        Of the benchmark.
    options
        Instance of its ``Options``. A path is shown as the last word of its flag in capitals: the page is for every
        machine, and does not name a folder of this one.
    """
    words = ["rlstab", "bench", name, "--docs"]
    defaults = type(options)()
    for field, value in vars(options).items():
        flag = field.replace("_", "-")
        if value == getattr(defaults, field):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, Path):
            words += [f"--{flag}", flag.rpartition("-")[2].upper()]
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag}", *(shlex.quote(_spell(entry)) for entry in values)]
    return " ".join(words)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows of text out as lines of a Markdown table."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def page_head(title: str, about: str, command: str, verdict: str) -> list[str]:
    """Lines that every study's page begins with."""
    return [f"# {title}", "", about.strip(), "", f"Made by `{command}`.", "", f"**{verdict}**", ""]


def _spell(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _version_rows(versions: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    rows: dict[str, list[str]] = {}
    for name, packages in versions.items():
        rows.setdefault(", ".join(f"{package} {version}" for package, version in packages.items()), []).append(name)
    return [[", ".join(names), text] for text, names in rows.items()]
