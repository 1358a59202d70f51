"""Results pages of the documentation: a page is its saved numbers and the command that made them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from rlstab.errors import UserError
from rlstab.runs import atomic


class Documented(Protocol):
    """What a results page is made from."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        ...

    @property
    def title(self) -> str:
        """Heading, and entry of the index."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write the numbers."""
        ...

    def figure(self, path: Path) -> object:
        """Write the picture, if the page has one."""
        ...

    def to_markdown(self) -> str:
        """Write the page."""
        ...


def results_folder(folder: Path | None = None) -> Path:
    """Find or make the folder of results pages.

    Parameters
    ----------
    folder
        Default: ``docs/results`` of the checkout this package runs from.

    Raises
    ------
    UserError
        The package does not run from a checkout, or the disk refuses.
    """
    if folder is None:
        folder = Path(__file__).resolve().parents[2] / "docs" / "results"
        if not folder.is_dir():
            raise UserError(f"there is no {folder}: results pages are written from a checkout installed with pip -e")
        return folder
    return writable_folder(folder, "results")


def writable_folder(folder: Path, what: str) -> Path:
    """Make a folder if it is not there, and see whether it can be written to.

    Parameters
    ----------
    folder
        Which.
    what
        What is to be kept there, for the message.

    Raises
    ------
    UserError
        The disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise atomic.disk_error(f"cannot write {what} to {folder}", error) from error
    return folder


def write_docs(result: Documented, folder: Path) -> Path:
    """Write ``NAME.json`` and ``NAME.md`` and list the page in ``index.md``.

    Parameters
    ----------
    result
        What was measured.
    folder
        See `results_folder`.

    Raises
    ------
    UserError
        The disk refuses.
    """
    result.save(folder / f"{result.name}.json")
    result.figure(folder / f"{result.name}.png")
    page = folder / f"{result.name}.md"
    atomic.write_text(page, result.to_markdown())
    index, entry = folder / "index.md", f"* [{result.title}]({page.name})"
    text = index.read_text(encoding="utf-8") if index.exists() else "# Measurements\n\n"
    if entry not in text.splitlines():
        gap = "" if text.rstrip().splitlines()[-1].startswith("*") else "\n"
        atomic.write_text(index, f"{text.rstrip()}\n{gap}{entry}\n")
    return page
