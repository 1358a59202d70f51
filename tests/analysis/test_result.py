from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlstab.analysis.result import Result
from rlstab.errors import UserError


@dataclass(frozen=True)
class Part:
    name: str
    samples: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Result):
    kind: ClassVar[str] = "test_probe"

    label: str
    score: float
    parts: tuple[Part, ...]
    notes: dict[str, Any]
    maybe: np.ndarray | None
    values: np.ndarray = field(metadata={"unit": "m"})
    times: np.ndarray = field(metadata={"unit": "s"})

    def summary(self):
        return {"label": self.label, "score": self.score, "missing": None}

    def plot(self, ax=None):
        raise NotImplementedError


def probe(**changes: Any) -> Probe:
    values = {
        "label": "<b>hop</b>",
        "score": 1.5,
        "parts": (Part("a", (1.0, 2.0)), Part("b", ())),
        "notes": {"nested": [1, {"deep": None}]},
        "maybe": None,
        "values": np.arange(3.0),
        "times": np.arange(3) * 0.1,
    }
    return Probe(**{**values, **changes})


def test_saving_and_loading_keeps_every_field(tmp_path: Path) -> None:
    written = probe(score=float("nan"), maybe=np.array([True, False]))
    path = written.save(tmp_path / "sub" / "run.v5")

    assert path == tmp_path / "sub" / "run.v5.json"
    for read in (Probe.load(path), Result.load(tmp_path / "sub" / "run.v5")):
        assert isinstance(read, Probe)
        assert np.isnan(read.score)
        assert read.parts == written.parts
        assert read.notes == written.notes
        assert read.maybe is not None
        assert read.maybe.tolist() == [True, False]
        np.testing.assert_array_equal(read.values, written.values)


@given(
    hnp.arrays(
        dtype=st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_any_array_survives_with_its_shape_and_type(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    path = probe(values=array.T).save(tmp_path_factory.mktemp("result") / "a")
    read = Probe.load(path).values
    assert read.dtype == array.dtype
    assert read.shape == array.T.shape
    np.testing.assert_array_equal(read, array.T)


def test_the_json_is_strict_and_says_units(tmp_path: Path) -> None:
    path = probe(score=float("inf")).save(tmp_path / "a.json")
    document = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document["units"] == {"values": "m", "times": "s"}
    assert document["kind"] == "test_probe"


def arrays_beside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*.safetensors"))


def test_a_result_written_again_leaves_one_pair_of_files(tmp_path: Path) -> None:
    path = probe().save(tmp_path / "run.v5")
    first = arrays_beside(path)
    probe(values=np.ones(3)).save(path)
    second = arrays_beside(path)
    assert len(first) == len(second) == 1
    assert first != second
    probe(values=np.ones(3)).save(path)
    assert arrays_beside(path) == second, "equal arrays have one file, which is not taken away"
    assert {file.name for file in tmp_path.iterdir()} == {"run.v5.json", second[0].name}


@pytest.mark.parametrize("fatal", ["write_bytes", "write_text"])
def test_a_result_is_the_old_or_the_new_one_whenever_saving_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: str
) -> None:
    from rlstab.runs import atomic

    def killed(path: Path, data: Any) -> None:
        raise KeyboardInterrupt

    path = probe(values=np.zeros(3)).save(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(atomic, fatal, killed)
        with pytest.raises(KeyboardInterrupt):
            probe(values=np.ones(3)).save(path)
    np.testing.assert_array_equal(Probe.load(path).values, np.zeros(3))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(TypeError):  # killed takes other arguments: as good as any death
            probe(values=np.ones(3)).save(path)
    np.testing.assert_array_equal(Probe.load(path).values, np.ones(3))


def test_damaged_arrays_are_refused_with_their_checksum(tmp_path: Path) -> None:
    path = probe().save(tmp_path / "a")
    (arrays,) = arrays_beside(path)
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="sha256"):
        Probe.load(path)
    arrays.unlink()
    with pytest.raises(UserError, match="missing"):
        Probe.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not a result"),
        ("[]", "lacks"),
        ('{"schema_version": 1, "kind": "test_prob", "fields": {}}', "did you mean 'test_probe'"),
        ('{"schema_version": 99, "kind": "test_probe", "fields": {}}', "newer"),
        ('{"schema_version": 1, "kind": "test_probe", "fields": {"label": "x"}}', "complete"),
        ('{"schema_version": "new", "kind": "test_probe", "fields": {}}', "its schema_version is 'new'"),
        ('{"schema_version": null, "kind": "test_probe", "fields": {}}', "its schema_version is None"),
        ('{"schema_version": 1, "kind": ["a"], "fields": {}}', r"its kind is \['a'\]"),
        ('{"schema_version": 1, "kind": "test_probe", "fields": []}', r"its fields is \[\]"),
        ('{"schema_version": 1, "kind": "test_probe", "fields": {}, "arrays_sha256": "../../x"}', "its arrays_sha256"),
    ],
)
def test_what_is_not_a_result_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Result.load(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_another_kind_are_refused(tmp_path: Path) -> None:
    from rlstab.analysis.stats import Aggregate

    with pytest.raises(UserError, match="no result at"):
        Result.load(tmp_path / "none")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*folder\.json"):
        Result.load(tmp_path / "folder")
    with pytest.raises(UserError, match="not 'aggregate'"):
        Aggregate.load(probe().save(tmp_path / "a"))


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        probe().save(tmp_path / "file" / "a")


def test_the_frame_has_columns_of_one_length_and_their_units() -> None:
    frame = probe(maybe=np.zeros(7)).to_frame()
    assert list(frame.columns) == ["values", "times"]
    assert frame.attrs["units"] == {"values": "m", "times": "s"}


def test_plain_dictionaries_have_no_numbers_json_lacks() -> None:
    plain = probe(values=np.array([1.0, np.nan]), score=float("inf")).to_dict()
    assert plain["values"] == [1.0, None]
    assert plain["score"] is None
    assert json.loads(json.dumps(plain, allow_nan=False))["parts"][0] == {"name": "a", "samples": [1.0, 2.0]}


def test_notebooks_show_the_summary_escaped() -> None:
    shown = probe()._repr_html_()
    assert "&lt;b&gt;hop&lt;/b&gt;" in shown
    assert "<b>hop" not in shown
    assert repr(probe()) == "Probe(label=<b>hop</b>, score=1.5, missing=not known)"


def test_importing_the_package_is_light() -> None:
    heavy = (
        "torch",
        "matplotlib",
        "pandas",
        "rliable",
        "arch",
        "jinja2",
        "imageio_ffmpeg",
        "scipy",
        "gymnasium",
        "mujoco",
    )
    code = (
        "import sys, rlstab.analysis.evaluation, rlstab.analysis.curves, rlstab.analysis.plots, rlstab.analysis.video,"
        f" rlstab.analysis.report; print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
