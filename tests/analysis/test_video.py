from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.analysis import plots, video
from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.video import Recording, record
from rlstab.errors import UserError


class Still:
    """Does nothing."""

    observation_space: Any = None
    action_space: Any = None

    def __init__(self, size: int) -> None:
        self.size = size

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(observation), self.size), np.float32), state


class Painter(gymnasium.Env):
    """Draws a square that moves; ends after twenty steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode: Any = "rgb_array", fault: Exception | None = None) -> None:
        self.render_mode, self.fault, self.time = render_mode, fault, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1), {}

    def step(self, action):
        self.time += 1
        return np.zeros(1), 1.0, self.time == 20, False, {}

    def render(self):
        if self.fault is not None:
            raise self.fault
        if self.render_mode is None:
            return None
        picture = np.zeros((32, 50, 3), np.uint8)
        picture[8:16, 2 * self.time : 2 * self.time + 8] = 255
        return picture


def frames_in(path: Path) -> int:
    import imageio_ffmpeg

    return int(imageio_ffmpeg.count_frames_and_secs(str(path))[0] or 0)


def size_of(path: Path) -> Any:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    size = dict(next(reader) or {})["size"]
    assert len(list(reader)) > 0
    return size


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the reader leaves its pipes open
def test_a_film_runs_at_the_speed_of_the_robot(tmp_path: Path) -> None:
    film = record(Still(1), Painter, tmp_path / "new" / "film", max_fps=10, stills=4)
    assert (film.notice, film.fps, film.length, film.episode_return) == ("", 10, 20, 20)
    path = tmp_path / "new" / "film.mp4"
    assert film.path == str(path)
    assert path.read_bytes()[4:8] == b"ftyp"
    assert frames_in(path) == 10, "every second one of 20 steps"
    assert size_of(path) == (64, 32), "padded to whole blocks, not stretched"
    assert film.still_times.tolist() == pytest.approx([0.0, 0.3, 0.6, 0.9])
    assert film.stills.shape == (4, 32, 50, 3)
    assert len({still.tobytes() for still in film.stills}) == 4
    assert list(path.parent.iterdir()) == [path], "no temporary file stays"


def test_only_the_first_seconds_are_filmed_but_the_episode_is_played(tmp_path: Path) -> None:
    film = record(Still(1), Painter, tmp_path / "a", max_seconds=0.5, max_fps=20)
    assert film.length == 20
    assert frames_in(tmp_path / "a.mp4") == 11


def test_stills_of_a_long_film_span_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(video._Film, "_encode", lambda self, picture: None)
    film = video._Film(tmp_path / "a.mp4", lambda: np.zeros((4, 4, 3)), 10.0, 10.0, 1e9, stills=3)
    for _ in range(1000):
        film.on_step(np.array([True]))
    pictures, times = film.stills()
    assert len(pictures) == 3
    assert times[0] == 0
    assert 80 < times[-1] < 100
    assert len(film._kept) < 24


@pytest.mark.parametrize(
    ("maker", "notice"),
    [
        (lambda: Painter(fault=ImportError("no libEGL.so\nsecond line")), "could not be drawn: no libEGL.so"),
        (lambda: Painter(fault=UserError("install libegl1")), "install libegl1"),
        (lambda: Painter(render_mode=None), "rgb_array"),
    ],
)
def test_without_pictures_the_numbers_come_with_a_notice(tmp_path: Path, maker, notice: str) -> None:
    film = record(Still(1), maker, tmp_path / "a")
    assert notice in film.notice
    assert "\n" not in film.notice
    assert (film.path, film.episode_return, len(film.stills)) == ("", 20, 0)
    assert not list(tmp_path.iterdir())
    assert film.summary()["notice"] == film.notice
    with pytest.raises(UserError, match="no picture"):
        film.plot(plots.new_axes())


def test_an_environment_that_refuses_to_be_made_for_drawing_is_played_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlstab.envs import registry

    make_vec = registry.make_vec

    def refusing(env_id, *args, env_kwargs=None, **kwargs):
        if env_kwargs and "render_mode" in env_kwargs:
            raise UserError("no way to draw: install libegl1")
        return make_vec(env_id, *args, env_kwargs=env_kwargs, **kwargs)

    monkeypatch.setattr(registry, "make_vec", refusing)
    film = record(Still(1), "Pendulum-v1", tmp_path / "a", max_episode_steps=5)
    assert film.notice == "no way to draw: install libegl1"
    assert film.length == 5


def test_a_folder_that_cannot_be_written_is_a_notice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    film = record(Still(1), Painter, tmp_path / "file" / "a")
    assert "could not be written" in film.notice
    assert film.episode_return == 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_film_that_ffmpeg_did_not_finish_is_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imageio_ffmpeg

    write_frames = imageio_ffmpeg.write_frames

    def cut_short(path: str, *args: Any, **kwargs: Any) -> Any:
        """As ffmpeg on a full disk: it takes the frames and ends with a status that nobody reads."""
        encoder = write_frames(path, *args, **kwargs)
        encoder.send(None)
        try:
            while True:
                encoder.send((yield))
        finally:
            encoder.close()
            Path(path).write_bytes(Path(path).read_bytes()[:200])

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", cut_short)
    film = record(Still(1), Painter, tmp_path / "a")
    assert "could not be written: ffmpeg made a file that it cannot read" in film.notice
    assert (film.path, film.episode_return) == ("", 20)
    assert not list(tmp_path.iterdir())


def test_frames_that_are_missing_are_a_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imageio_ffmpeg

    monkeypatch.setattr(imageio_ffmpeg, "count_frames_and_secs", lambda path: (3, 0.1))
    assert "of 20 frames ffmpeg wrote 3" in record(Still(1), Painter, tmp_path / "a").notice
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["send", "close"])
def test_whatever_the_encoder_raises_the_numbers_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    import imageio_ffmpeg

    class Encoder:
        def send(self, frame: Any) -> None:
            if where == "send" and frame is not None:
                raise ValueError("odd frame")

        def close(self) -> None:
            raise ValueError("odd end")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", lambda *args, **kwargs: Encoder())
    film = record(Still(1), Painter, tmp_path / "a")
    assert "could not be written: odd" in film.notice
    assert film.episode_return == 20


def test_a_native_environment_films_the_very_episode_that_was_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlstab.envs.batch_env import BatchEnv

    monkeypatch.setattr(BatchEnv, "frame", lambda self, world, width, height: np.zeros((height, width, 3), np.uint8))
    evaluated = evaluate(Still(3), "Hopper-v5", episodes=3, seed=5)
    film = record(Still(3), "Hopper-v5", tmp_path / "a", seed=5, episode=2, width=32, height=16)
    assert film.episode_return == evaluated.returns[2]
    assert film.length == evaluated.lengths[2]
    assert film.fps == pytest.approx(125 / 4)


def test_a_recording_is_kept_in_files_and_shown_as_a_strip(tmp_path: Path) -> None:
    film = record(Still(1), Painter, tmp_path / "a", stills=3)
    read = Recording.load(film.save(tmp_path / "recording"))
    np.testing.assert_array_equal(read.stills, film.stills)
    assert len(read.plot(plots.new_axes()).get_xticks()) == 3


@pytest.mark.parametrize("size", [(100, 96), (96, 0)])
def test_sizes_the_codec_would_stretch_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="multiple of 16"):
        record(Still(1), Painter, tmp_path / "a", width=size[0], height=size[1])
