from __future__ import annotations

from pathlib import Path

from rlstab.bench.pages import write_docs


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
