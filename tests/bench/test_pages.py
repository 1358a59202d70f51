from __future__ import annotations

from pathlib import Path

import pytest

from rlstab.bench.pages import results_folder, write_docs
from rlstab.errors import UserError


class Race:
    name = "race"
    title = "A race"

    def save(self, path: str | Path) -> Path:
        Path(path).write_text("{}")
        return Path(path)

    def figure(self, path: Path) -> None:
        path.write_bytes(b"picture")

    def to_markdown(self) -> str:
        return "# A race\n"


def test_a_page_is_written_with_its_numbers_and_listed_once(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# Measurements\n\nText.\n")
    page = write_docs(Race(), tmp_path)
    write_docs(Race(), tmp_path)
    assert page.read_text() == "# A race\n"
    assert (tmp_path / "race.json").read_text() == "{}"
    assert (tmp_path / "race.png").read_bytes() == b"picture"
    assert (tmp_path / "index.md").read_text() == "# Measurements\n\nText.\n\n* [A race](race.md)\n"


def test_an_index_is_begun_where_there_is_none(tmp_path: Path) -> None:
    write_docs(Race(), tmp_path)
    assert (tmp_path / "index.md").read_text() == "# Measurements\n\n* [A race](race.md)\n"


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = results_folder(tmp_path / "deep" / "results")
    assert folder == tmp_path / "deep" / "results"
    assert list(folder.iterdir()) == []
    assert results_folder(folder) == folder


def test_the_folder_is_that_of_the_documentation_by_default() -> None:
    assert (results_folder() / "index.md").is_file()


@pytest.mark.parametrize("below", ["results", "deep/results", "."])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write results to") as caught:
        results_folder(tmp_path / "file" / below)
    assert "\n" not in str(caught.value)
