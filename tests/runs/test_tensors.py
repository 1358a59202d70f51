from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file, save_file

from rlstab.runs.tensors import FORMAT_NAMES, FileDigest, digest_file, read_tensors, write_tensors

arrays = st.sampled_from(sorted(FORMAT_NAMES)).flatmap(
    lambda name: npst.arrays(np.dtype(name), npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
)


@given(tensors=st.dictionaries(st.text("abc/#.", min_size=1, max_size=8), arrays, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_the_safetensors_library_reads_what_is_written(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    path = tmp_path / "x.safetensors"
    path.unlink(missing_ok=True)
    digest = write_tensors(path, tensors)
    assert digest == FileDigest(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size) == digest_file(path)
    for read in (load_file(path), read_tensors(path)):
        assert read.keys() == tensors.keys()
        for name, array in tensors.items():
            assert read[name].dtype == array.dtype
            assert read[name].shape == array.shape
            assert read[name].tobytes() == array.tobytes()


def test_the_file_is_the_one_the_library_writes(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(True), "c": np.arange(3)}
    write_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_memory_layout_does_not_matter(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 6)
    tensors = {"transposed": array.T, "strided": array[::2, 1::2], "reversed": array[::-1]}
    write_tensors(tmp_path / "x", tensors)
    read = read_tensors(tmp_path / "x")
    for name in tensors:
        np.testing.assert_array_equal(read[name], tensors[name])


def test_arrays_larger_than_a_chunk(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, 9_000_001, dtype=np.uint8)
    digest = write_tensors(tmp_path / "x", {"x": array})
    assert digest == digest_file(tmp_path / "x")
    np.testing.assert_array_equal(read_tensors(tmp_path / "x")["x"], array)


def test_read_arrays_are_writable(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"x": np.zeros(3)})
    read_tensors(tmp_path / "x")["x"] += 1


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "x", {})
    assert (tmp_path / "x").read_text() == "precious"


def test_another_file_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not tensors at all")
    with pytest.raises(ValueError):  # noqa: PT011 (the library's words)
        read_tensors(tmp_path / "x")


def test_some_arrays_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"a": np.arange(3), "b": np.ones((2, 2), np.float32)})
    read = read_tensors(path, ["b"])
    assert list(read) == ["b"]
    np.testing.assert_array_equal(read["b"], np.ones((2, 2)))
    assert read["b"].flags.writeable
    assert read_tensors(path, []) == {}
    with pytest.raises(ValueError, match="c"):
        read_tensors(path, ["c"])
