"""Film an episode: an MP4 file and a strip of stills, drawn without a screen."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.episodes import give_up_after, play, time_limit
from rlstab.analysis.evaluation import DEFAULT_SEED
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import UserError, first_line

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from matplotlib.axes import Axes

    from rlstab.envs.disturbance import Disturbance
    from rlstab.policies.base import Policy

_BLOCK_PIXELS = 16
"""H.264 codes blocks of this size; the encoder would stretch others."""


@dataclass(frozen=True, eq=False, repr=False)
class Recording(Result):
    """One filmed episode; where nothing could be drawn, its numbers and the reason."""

    kind: ClassVar[str] = "recording"

    env_id: str
    seed: int
    episode: int
    """The episode is entry ``episode`` of an `Evaluation` with the same seed."""
    episode_return: float
    length: int
    """Control steps."""
    path: str
    """The MP4 file; empty if there is none."""
    fps: float
    """Frames a second of the file, which runs at the speed of the simulated robot."""
    notice: str
    """Why there is no video; empty if there is one."""
    stills: NDArray[np.uint8] = field(metadata={"unit": "RGB"})
    """``(count, height, width, 3)``: evenly spaced over the film."""
    still_times: NDArray[np.float64] = field(metadata={"unit": "s"})
    """``(count,)``: since the start of the episode."""

    def summary(self) -> dict[str, Scalar]:
        """Which episode it is, how it went and where the film is."""
        film = {"video": self.path} if self.path else {"notice": self.notice}
        return {"episode": self.episode, "return": self.episode_return, "length": self.length, **film}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the stills side by side.

        Raises
        ------
        UserError
            There are none.
        """
        from rlstab.analysis import plots

        if not len(self.stills):
            raise UserError(f"there is no picture to show: {self.notice}")
        _, height, width, _ = self.stills.shape
        if ax is None:
            ax = plots.new_axes("page", aspect=height / width / len(self.stills), interactive=True)
        ax.imshow(np.concatenate(list(self.stills), axis=1))
        ax.set_xticks((np.arange(len(self.stills)) + 0.5) * width, [f"{seconds:.1f} s" for seconds in self.still_times])
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        return ax


def record(
    policy: Policy,
    env_id: str | Callable[[], Any],
    path: str | Path,
    *,
    seed: int = DEFAULT_SEED,
    episode: int = 0,
    deterministic: bool = True,
    disturbances: Sequence[Disturbance] = (),
    max_episode_steps: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    width: int = 480,
    height: int = 352,
    max_seconds: float = 12.0,
    max_fps: float = 32.0,
    stills: int = 6,
) -> Recording:
    """Play one episode of `evaluate` again and film it at the robot's own speed.

    Parameters
    ----------
    policy, env_id, seed, deterministic, disturbances, max_episode_steps, env_kwargs
        As for `rlstab.analysis.evaluation.evaluate`. A function that makes an environment must itself choose
        ``render_mode="rgb_array"``.
    path
        The file to write; ``.mp4`` is added if it is not there.
    episode
        Which episode of the evaluation.
    width, height
        Pixels, multiples of 16; environments outside this package choose their own size.
    max_seconds
        Simulated seconds that are filmed. The episode is played to its end in any case.
    max_fps
        Frames a second at most.
    stills
        Pictures kept in the result.

    Returns
    -------
    Recording
        If drawing or encoding fails, the numbers come nevertheless, with the reason in ``notice``.

    Raises
    ------
    UserError
        As for `evaluate`, or a size that is no multiple of 16.
    """
    from rlstab.envs.gym_make import name_of

    if width % _BLOCK_PIXELS or height % _BLOCK_PIXELS or min(width, height) < _BLOCK_PIXELS:
        raise UserError(f"the size of a video must be a multiple of {_BLOCK_PIXELS} pixels; got {width} x {height}")
    env, draw = _environment(
        env_id, seed, episode, disturbances, max_episode_steps, env_kwargs or {}, size=(width, height)
    )
    target = Path(path) if Path(path).suffix == ".mp4" else Path(f"{path}.mp4")
    film = _Film(target, draw, _steps_per_second(env), max_fps, max_seconds, stills)
    try:
        with film:
            limit = give_up_after(time_limit(env, env_id, max_episode_steps))
            played = play(
                policy,
                env,
                first=episode,
                seed=seed,
                deterministic=deterministic,
                step_limit=limit,
                on_step=film.on_step,
            )
    finally:
        env.close()
    pictures, times = film.stills()
    return Recording(
        env_id=name_of(env_id),
        seed=seed,
        episode=episode,
        episode_return=float(played.returns[0]),
        length=int(played.lengths[0]),
        path="" if film.notice else str(target),
        fps=film.fps,
        notice=film.notice,
        stills=pictures,
        still_times=times,
    )


class _Film:
    """Takes a picture every few steps and passes it to the encoder; the first failure ends filming, not the episode."""

    def __init__(
        self,
        path: Path,
        draw: Callable[[], NDArray[Any]],
        steps_per_second: float,
        max_fps: float,
        max_seconds: float,
        stills: int,
    ) -> None:
        self.notice = ""
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.mp4")
        self._draw = draw
        self._steps_per_second = steps_per_second
        self._every = max(1, round(steps_per_second / max_fps))
        self.fps = steps_per_second / self._every
        self._last_step = max_seconds * steps_per_second
        self._count = stills
        self._kept: list[tuple[float, NDArray[np.uint8]]] = []
        self._stride = 1
        self._step = 0
        self._frames = 0
        self._encoded = 0
        self._encoder: Any = None

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *details: object) -> None:
        try:
            if self._encoder is not None:
                self._encoder.close()
                if error_type is None and not self.notice:
                    self._check_partial()
                    self._partial.replace(self._path)
        except Exception as error:  # Whatever the encoder raises: the numbers of the episode must not be lost with it.
            self.notice = f"the video could not be written: {first_line(error)}"
        finally:
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)
        if not self._frames and not self.notice:
            self.notice = "no frame was drawn"

    def on_step(self, running: NDArray[np.bool_]) -> None:
        """Film the present state, unless the episode is over: then the next one has begun already."""
        step = self._step
        self._step += 1
        if self.notice or not running[0] or step % self._every or step > self._last_step:
            return
        try:
            picture = self._draw()
        except UserError as error:
            self.notice = str(error)
            return
        except Exception as error:  # Whatever the libraries below raise, from ImportError to their own.
            self.notice = f"the environment could not be drawn: {first_line(error)}"
            return
        if picture.ndim != 3:
            self.notice = "the environment draws something else than pictures (height, width, 3)"
            return
        picture = np.ascontiguousarray(picture[..., :3], np.uint8)
        self._keep(step / self._steps_per_second, picture)
        try:
            self._encode(picture)
        except Exception as error:
            self.notice = f"the video could not be written: {first_line(error)}"

    def stills(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Evenly spaced pictures and their times, from the first to the last or, of a long episode, nearly so."""
        if not self._kept:
            return np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0)
        chosen = np.unique(np.linspace(0, len(self._kept) - 1, min(self._count, len(self._kept))).round().astype(int))
        return np.stack([self._kept[i][1] for i in chosen]), np.array([self._kept[i][0] for i in chosen])

    def _keep(self, seconds: float, picture: NDArray[np.uint8]) -> None:
        # How long the episode will be is not known: keep every picture, then every second, every fourth, ...
        if self._frames % self._stride == 0:
            self._kept.append((seconds, picture))
            if len(self._kept) >= 8 * self._count:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._frames += 1

    def _check_partial(self) -> None:
        """Read the file back: imageio-ffmpeg does not look at the exit status of ffmpeg."""
        import imageio_ffmpeg

        try:
            readable = int(imageio_ffmpeg.count_frames_and_secs(str(self._partial))[0] or 0)
        except RuntimeError as error:  # Its text is all that ffmpeg wrote.
            raise RuntimeError("ffmpeg made a file that it cannot read; is the disk full?") from error
        if readable != self._encoded:
            raise RuntimeError(f"of {self._encoded} frames ffmpeg wrote {readable}; is the disk full?")

    def _encode(self, picture: NDArray[np.uint8]) -> None:
        if self._encoder is None:
            import imageio_ffmpeg

            self._path.parent.mkdir(parents=True, exist_ok=True)
            height, width, _ = _padded(picture).shape
            write_frames: Any = imageio_ffmpeg.write_frames  # Its type hints refuse what its documentation allows.
            self._encoder = write_frames(
                str(self._partial),
                (width, height),
                fps=self.fps,
                codec="libx264",
                macro_block_size=_BLOCK_PIXELS,
                quality=None,
                ffmpeg_log_level="error",
                output_params=["-crf", "26", "-preset", "veryfast", "-movflags", "+faststart"],
            )
            self._encoder.send(None)
        self._encoder.send(_padded(picture))
        self._encoded += 1


def _padded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row and column until whole blocks are full; nothing is stretched."""
    height, width, _ = picture.shape
    padding = ((0, -height % _BLOCK_PIXELS), (0, -width % _BLOCK_PIXELS), (0, 0))
    return np.ascontiguousarray(np.pad(picture, padding, mode="edge"))


def _environment(
    env_id: str | Callable[[], Any],
    seed: int,
    episode: int,
    disturbances: Sequence[Disturbance],
    max_episode_steps: int | None,
    env_kwargs: dict[str, Any],
    size: tuple[int, int],
) -> tuple[VectorEnv, Callable[[], Any]]:
    """One world that is the evaluation's ``episode``, and what draws it."""
    from rlstab.envs.batch_env import BatchEnv
    from rlstab.envs.registry import make_vec, runs_natively

    def make(kwargs: dict[str, Any]) -> VectorEnv:
        return make_vec(
            env_id,
            1,
            seed,
            disturbances=disturbances,
            max_episode_steps=max_episode_steps,
            world_offset=episode,
            env_kwargs=kwargs,
        )

    drawable = isinstance(env_id, str) and not runs_natively(env_id, env_kwargs)
    refusal: Exception | None = None
    try:
        env = make({**env_kwargs, "render_mode": "rgb_array"} if drawable else env_kwargs)
    except Exception as error:
        if not drawable:
            raise
        refusal = error
        env = make(env_kwargs)  # An environment that can't draw can still be played.

    def refuse() -> Any:
        assert refusal is not None
        raise refusal

    if refusal is not None:
        return env, refuse
    frame: Callable[..., Any] = env.frame  # type: ignore[attr-defined]  # Both kinds that make_vec makes have it.
    if isinstance(env, BatchEnv):
        return env, lambda: frame(0, *size)
    return env, lambda: frame(0)


def _steps_per_second(env: VectorEnv) -> float:
    step_seconds = getattr(env, "dt", None)
    if step_seconds:
        return 1.0 / float(step_seconds)
    return float(env.metadata.get("render_fps") or 30)
