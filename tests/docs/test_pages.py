"""What the documentation shows works: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlstab.bench.registry import BENCHMARKS
from rlstab.cli.main import COMMANDS
from rlstab.controllers import registry
from rlstab.envs.rendering import DEBIAN_PACKAGES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_has_marks_of_an_unfinished_merge(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_python_runs() -> None:
    # In reading order and in one folder: the methods page trains the run that later pages read.
    order = [
        "environments.md",
        "methods.md",
        "ppo.md",
        "runs.md",
        "results.md",
        "artefacts.md",
        "attention.md",
        "transformer.md",
        "hinf.md",
        "roa_walker.md",
        "robustness.md",
        "observation_attacks.md",
        "certificates.md",
        "roa_pogobot.md",
        "roa_car.md",
    ]
    assert {page.name for page in PAGES if blocks(page, "python")} <= set(order)
    for name in order:
        for block in blocks(ROOT / "docs" / name, "python"):
            exec(compile(block, name, "exec"), {"__name__": name})


@pytest.mark.parametrize("saved", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_pages_are_those_of_their_numbers(saved: Path) -> None:
    owners = [benchmark for benchmark in BENCHMARKS.values() if saved.stem.startswith(benchmark.page or benchmark.name)]
    owner = max(owners, key=lambda benchmark: len(benchmark.page or benchmark.name))
    assert owner.load(saved).to_markdown() == saved.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    methods = [method.name for method in registry.methods()]
    for line in "".join(blocks(page, "bash")).splitlines():
        found = re.search(r"(?:^|/)rlstab ([\w-]+)(?: ([\w-]+))?", line)
        if found is None:
            continue
        command, argument = found.groups()
        assert command in COMMANDS, line
        if command == "train":
            assert argument in (*methods, "--resume"), line
        if command == "bench":
            assert argument in BENCHMARKS, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "installation.md"], ids=name_of)
def test_the_libraries_for_drawing_are_those_the_program_asks_for(page: Path) -> None:
    assert f"sudo apt-get install {DEBIAN_PACKAGES['egl']}" in page.read_text(encoding="utf-8")


def test_every_page_can_be_reached() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    }
    assert set(PAGES[1:]) <= linked
