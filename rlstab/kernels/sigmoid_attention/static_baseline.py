"""What compilers made of the kernels when somebody last looked, and what has become worse since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rlstab.errors import UserError

MEASURES: tuple[str, ...] = ("registers", "instructions", "group_products")
SLACK = 0.1
"""A compiler's choices differ by as much without being worse."""
SLACK_IN_REGISTERS = 8

Baseline: TypeAlias = dict[str, dict[str, list[int]]]
"""By configuration, then by version of Triton: the `MEASURES`."""


def read(file: Path) -> Baseline:
    """Read a baseline.

    Raises
    ------
    UserError
        There is no such file, or it holds something else.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))["configurations"]
    except OSError as error:
        raise UserError(f"cannot read the baseline {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no baseline: write one with --write-baseline") from error


def write(file: Path, rows: Sequence[Mapping[str, Any]], version: str) -> None:
    """Put figures in the place of those of the same version and configurations; all others stay."""
    known = read(file) if file.exists() else {}
    for row in rows:
        known.setdefault(key(row), {})[version] = [row[measure] for measure in MEASURES]
    lines = [f"  {json.dumps(name)}: {json.dumps(dict(sorted(known[name].items())))}" for name in sorted(known)]
    text = f'{{\n "measures": {json.dumps(MEASURES)},\n "configurations": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    file.write_text(text, encoding="utf-8")


def key(row: Mapping[str, Any]) -> str:
    """What a configuration is called there."""
    return f"sm_{row['architecture']} {row['name']}"


def regressions(row: Mapping[str, Any], baseline: Baseline, version: str) -> list[str]:
    """Say what is worse than in the baseline. A version that nobody has looked at has nothing to be compared with."""
    if not any(version in versions for versions in baseline.values()):
        return []
    known = baseline.get(key(row), {}).get(version)
    if known is None:
        return [f"has no figures of triton {version} in the baseline: look at it, then write the baseline anew"]
    before = dict(zip(MEASURES, known, strict=True))
    problems: list[str] = []
    for measure, slack in (("registers", SLACK_IN_REGISTERS), ("instructions", 0)):
        if row[measure] > before[measure] + max(slack, SLACK * before[measure]):
            problems.append(f"has {row[measure]} {measure}, had {before[measure]}")
    if row["group_products"] < (1 - SLACK) * before["group_products"]:
        problems.append(f"has {row['group_products']} group-wide products, had {before['group_products']}")
    return problems
