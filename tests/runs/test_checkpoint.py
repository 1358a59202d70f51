from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.runs import checkpoint as checkpoint_module
from rlstab.runs.checkpoint import DamagedCheckpointError, is_intact, read_checkpoint, read_info
from rlstab.runs.store import CheckpointStore
from rlstab.runs.tensors import digest_file

STATE = {"policy": {"weights": [np.arange(6.0).reshape(2, 3)], "kind": "mlp"}, "rng": {"state": 2**100}, "steps": 7}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(100, STATE, score=1.5, meta={"metrics_offset": 12})
    store.save(200, STATE, score=2.5)
    return store


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def test_what_was_saved_is_read(store: CheckpointStore) -> None:
    checkpoint = read_checkpoint(store.at(100))
    assert (checkpoint.step, checkpoint.score, checkpoint.extra) == (100, 1.5, False)
    assert checkpoint.meta == {"metrics_offset": 12}
    np.testing.assert_array_equal(checkpoint.state["policy"]["weights"][0], STATE["policy"]["weights"][0])
    assert checkpoint.state["rng"] == STATE["rng"]
    assert read_info(store.at(100)).score == 1.5


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_damaged_tensors_are_named_with_both_checksums_and_the_older_one(
    store: CheckpointStore, damage: Callable[[Path], None]
) -> None:
    file = store.at(200) / "tensors.safetensors"
    expected = digest_file(file).sha256
    damage(file)
    with pytest.raises(DamagedCheckpointError) as caught:
        read_checkpoint(store.at(200))
    message = str(caught.value)
    assert all(word in message for word in ("tensors.safetensors", expected, digest_file(file).sha256))
    assert message.endswith(f"the newest older one that is intact is {store.at(100)}")
    assert "\n" not in message


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink])
def test_a_torn_or_missing_description_is_damage(store: CheckpointStore, damage: Callable[[Path], None]) -> None:
    damage(store.at(200) / "meta.json")
    for read in (read_checkpoint, read_info):
        with pytest.raises(DamagedCheckpointError, match=rf"meta\.json.* that is intact is {store.at(100)}$"):
            read(store.at(200))


def test_missing_tensors_are_damage(store: CheckpointStore) -> None:
    (store.at(100) / "tensors.safetensors").unlink()
    with pytest.raises(DamagedCheckpointError, match=r"tensors\.safetensors is missing; no older checkpoint is intact"):
        read_checkpoint(store.at(100))


def test_the_older_one_that_is_offered_is_itself_checked(store: CheckpointStore) -> None:
    store.save(300, STATE)
    flip_a_bit(store.at(300) / "tensors.safetensors")
    flip_a_bit(store.at(200) / "tensors.safetensors")
    with pytest.raises(DamagedCheckpointError, match=f"intact is {store.at(100)}"):
        read_checkpoint(store.at(300))


@pytest.mark.parametrize(
    ("key", "value"), [("step", 999), ("score", 1e9), ("state", {"policy": "mine"}), ("files", {}), ("extra", True)]
)
def test_a_changed_description_is_damage(store: CheckpointStore, key: str, value: object) -> None:
    file = store.at(200) / "meta.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, key: value}))
    with pytest.raises(DamagedCheckpointError, match=rf"meta\.json was changed.*should be {document['sha256']}"):
        read_checkpoint(store.at(200))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_no_changed_byte_goes_unnoticed(store: CheckpointStore, data: st.DataObject) -> None:
    path = store.at(200)
    file = path / data.draw(st.sampled_from(["meta.json", "tensors.safetensors"]))
    original = file.read_bytes()
    content = bytearray(original)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        state = read_checkpoint(path).state
    except UserError:
        return
    else:
        # White space between JSON's words is all that may change unnoticed.
        assert json.loads(content) == json.loads(original)
        assert state["steps"] == 7
    finally:
        file.write_bytes(original)


def test_a_newer_version_asks_for_an_upgrade(store: CheckpointStore) -> None:
    file = store.at(200) / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 2}))
    with pytest.raises(UserError, match="newer rlstab: update this one") as caught:
        read_checkpoint(store.at(200))
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint at"):
        read_checkpoint(tmp_path / "gone")
    (tmp_path / "model.zip").write_text("x")
    with pytest.raises(UserError, match=r"model\.zip is not a checkpoint"):
        read_checkpoint(tmp_path / "model.zip")


def test_python_objects_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="policy"):
        CheckpointStore(tmp_path).save(1, {"policy": object()})
    assert list(tmp_path.iterdir()) == []


def test_one_branch_of_the_state(store: CheckpointStore) -> None:
    checkpoint = read_checkpoint(store.at(100), branch="policy")
    assert list(checkpoint.state) == ["policy"]
    assert checkpoint.state["policy"]["kind"] == "mlp"
    np.testing.assert_array_equal(checkpoint.state["policy"]["weights"][0], STATE["policy"]["weights"][0])
    with pytest.raises(UserError, match="holds no 'actor', only policy, rng, steps"):
        read_checkpoint(store.at(100), branch="actor")


def test_damage_in_another_branch_is_damage(store: CheckpointStore) -> None:
    store.save(300, {"policy": {"weights": np.zeros(2)}, "replay": np.zeros(1000, np.uint8)})
    flip_a_bit(store.at(300) / "tensors.safetensors")
    with pytest.raises(DamagedCheckpointError, match="checksum"):
        read_checkpoint(store.at(300), branch="policy")


def test_intact_or_not(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_intact(store.at(200))
    flip_a_bit(store.at(200) / "tensors.safetensors")
    assert not is_intact(store.at(200))
    assert is_intact(store.at(100))

    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint_module, "digest_file", refuse)
    assert not is_intact(store.at(100))
