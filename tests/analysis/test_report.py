from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlstab.analysis.curves import learning_curve
from rlstab.analysis.evaluation import Evaluation
from rlstab.analysis.report import ReportData, picture, render, write
from rlstab.analysis.video import Recording
from rlstab.errors import UserError

RETURNS = np.array([1000.0, 2000.0, 3000.0, 6000.0])


def evaluation(**changes: Any) -> Evaluation:
    plain = Evaluation(
        env_id="Hopper-v5",
        policy="ActorCritic",
        deterministic=True,
        seed=77,
        disturbances=(),
        max_episode_steps=None,
        env_kwargs={},
        wall_seconds=1.0,
        versions={"mujoco": "3.11.0"},
        returns=RETURNS,
        lengths=np.array([500, 1000, 1000, 1000]),
        terminated=np.array([True, False, False, False]),
        success=None,
    )
    return dataclasses.replace(plain, **changes)


def recording(path: str = "", notice: str = "", stills: int = 3) -> Recording:
    pictures = np.zeros((stills, 16, 32, 3), np.uint8)
    return Recording("Hopper-v5", 77, 2, 3000.0, 1000, path, 31.25, notice, pictures, np.arange(stills) * 0.5)


def full(tmp_path: Path) -> ReportData:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\x00\x00\x00\x18ftyp")
    return ReportData(
        title="Hopper-v5 & <PPO>",
        subtitle="Trained on two cores.",
        evaluation=evaluation(success=np.array([True, True, False, True])),
        facts=[("Training", "6,740 steps/s", "1.2 million steps")],
        curve=learning_curve([([0, 1e6], [0.0, 3000.0])]),
        deployed_returns=[1000.0, 2000.0, 3000.0, 6120.0],
        deployment_note="125 Hz, 0 overruns.",
        latency=[("ms", "p50", "max"), ("inference", "0.021", "0.120")],
        recording=recording(str(film)),
        contract={"Rate": "125 Hz"},
        commands=["rlstab quickstart --seed 1"],
        reproduction={"Source": "abc123"},
        notices=["A thing to know."],
    )


def test_the_checkpoint_and_what_the_curve_shows_are_said(tmp_path: Path) -> None:
    measured = evaluation(checkpoint_step=901_120, checkpoint_rule="best by training return")
    shown = Page(render(dataclasses.replace(full(tmp_path), evaluation=measured))).text
    assert "step 901,120, best by training return" in shown
    assert "exploration noise included" in shown
    assert "Checkpoint" not in Page(render(full(tmp_path))).text


class Page(HTMLParser):
    """Collects tags that must be closed, and every address a browser would load."""

    VOID = frozenset(("meta", "link", "img", "br", "use", "path", "line"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    text = render(full(tmp_path))
    page = Page(text)
    assert page.open == []
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert not re.search(r"url\((?!#|&#)", text)
    assert "@import" not in text
    assert "script" not in page.tags


def test_the_page_shows_what_it_was_given(tmp_path: Path) -> None:
    text = Page(render(full(tmp_path))).text
    for shown in (
        "Hopper-v5 & <PPO>",
        "3,000",  # mean return
        "75%",  # success
        "+1.00%",  # deployed against evaluated
        "1 of 4 ended before the time limit",
        "6,740 steps/s",
        "0.021",
        "125 Hz",
        "rlstab quickstart --seed 1",
        "seed 77, world 3",
        "+120.00",
        "mujoco 3.11.0",
        "A thing to know.",
        "not of training it again",
    ):
        assert shown in text, shown


def test_a_bare_evaluation_makes_a_report() -> None:
    page = Page(
        render(ReportData("Plain", evaluation(returns=RETURNS[:1], lengths=np.array([3]), terminated=np.array([True]))))
    )
    assert page.open == []
    assert "Deploy" not in page.text
    assert "interval" not in page.text.split("How it was measured")[0], "one episode has none"
    assert not {"video", "img"} & page.tags


def test_what_users_write_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    texts: dict[str, Any] = dict.fromkeys(("title", "subtitle", "curve_caption", "deployment_note"), bad)
    lists: dict[str, Any] = {
        "commands": [bad],
        "notices": [bad],
        "latency": [(bad,), (bad,)],
        "facts": [(bad, bad, bad)],
    }
    data = dataclasses.replace(full(tmp_path), **texts, **lists, contract={bad: bad}, reproduction={bad: bad})
    assert "script" not in Page(render(data)).tags


def test_a_missing_video_is_said_and_the_rest_comes(tmp_path: Path) -> None:
    text = render(dataclasses.replace(full(tmp_path), recording=recording(notice="no libEGL", stills=0)))
    assert "There is no video: no libEGL" in text
    assert "<video" not in text
    gone = render(dataclasses.replace(full(tmp_path), recording=recording(path=str(tmp_path / "gone.mp4"))))
    assert "could not be read" in gone
    stills = render(dataclasses.replace(full(tmp_path), recording=recording(notice="no encoder")))
    assert "Episode 2 of the evaluation" in stills
    assert "The video runs" not in stills
    assert "The video runs" in render(full(tmp_path))
    assert "data:image/jpeg" in gone


def test_deployed_returns_must_be_of_the_same_episodes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 deployed returns cannot be compared with 4"):
        render(dataclasses.replace(full(tmp_path), deployed_returns=[1.0, 2.0]))


def test_the_file_is_written_and_is_the_same_each_time(tmp_path: Path) -> None:
    data = full(tmp_path)
    path = write(data, tmp_path / "sub" / "report")
    assert path == tmp_path / "sub" / "report.html"
    assert path.read_text() == write(data, tmp_path / "again.html").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        write(data, tmp_path / "file" / "report")


def test_the_picture_has_stills_only_where_there_are_any(tmp_path: Path) -> None:
    from matplotlib.image import imread

    whole = imread(picture(full(tmp_path), tmp_path / "whole.png"))
    bare = imread(picture(ReportData(title="Bare", evaluation=evaluation()), tmp_path / "bare.png"))
    assert whole.shape[1] == bare.shape[1]
    assert whole.shape[0] > 1.3 * bare.shape[0]
    assert len(np.unique(bare[..., 0])) > 10, "something is drawn"
