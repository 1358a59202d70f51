from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlstab.errors import UserError
from rlstab.sim2real.artefact import (
    CONTRACT_KEY,
    DIGEST_KEY,
    network_digest,
    read_artefact,
    sidecar_path,
    write_artefact,
)
from rlstab.sim2real.contract import Contract


def test_what_was_written_is_read_back_inside_and_beside_the_network(policy_file: Path, contract: Contract) -> None:
    artefact = read_artefact(policy_file)
    assert artefact.contract == contract
    assert sidecar_path(policy_file).read_text() == contract.to_json()
    assert sorted(path.name for path in policy_file.parent.iterdir()) == ["policy.contract.json", "policy.onnx"]


def test_other_onnx_tools_read_the_file_and_its_contract(policy_file: Path, contract: Contract) -> None:
    model = onnx.load(policy_file)
    onnx.checker.check_model(model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert Contract.from_json(metadata[CONTRACT_KEY], "here") == contract


def test_the_digest_is_of_the_network_alone(network: bytes, policy_file: Path, contract: Contract) -> None:
    assert network_digest(network) == network_digest(policy_file.read_bytes()) == contract.sha256
    model = onnx.load(policy_file)
    del model.metadata_props[:]
    assert network_digest(model.SerializeToString()) == contract.sha256


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(policy_file: Path, data: st.DataObject) -> None:
    content = bytearray(policy_file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    changed = policy_file.with_name("changed.onnx")
    changed.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_artefact(changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 10, 200, -1])
def test_a_truncated_file_is_refused(policy_file: Path, kept: int) -> None:
    policy_file.write_bytes(policy_file.read_bytes()[:kept])
    with pytest.raises(UserError, match="export"):
        read_artefact(policy_file)


def test_a_changed_weight_and_a_changed_contract_are_told_apart(policy_file: Path) -> None:
    content = policy_file.read_bytes()
    weight = content.index(b"\x00\x00\x00\x3f")  # 0.5, the first weight
    policy_file.write_bytes(content[:weight] + b"\x01" + content[weight + 1 :])
    with pytest.raises(UserError, match="the network was changed after export"):
        read_artefact(policy_file)
    policy_file.write_bytes(content.replace(b'"slider"', b'"glider"'))
    with pytest.raises(UserError, match="the contract was changed after export"):
        read_artefact(policy_file)


def test_a_bare_network_has_no_contract(tmp_path: Path, network: bytes) -> None:
    path = tmp_path / "bare.onnx"
    path.write_bytes(network)
    with pytest.raises(UserError, match=r"has no contract.*rlstab export"):
        read_artefact(path)


def test_a_contract_for_another_network_is_refused(write_file: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="the network was changed"):
        read_artefact(write_file(sha256="0" * 64))


def test_another_format_version_is_refused(write_file: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="format_version is 99"):
        read_artefact(write_file(format_version=99))


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"PK\x03\x04 some archive")
    with pytest.raises(UserError, match="not an ONNX file"):
        read_artefact(path)


@pytest.mark.parametrize("name", ["absent.onnx", "."])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot read .*rlstab export"):
        read_artefact(tmp_path / name)


def test_a_sidecar_that_says_something_else_is_refused_and_an_absent_one_is_not(policy_file: Path) -> None:
    sidecar = sidecar_path(policy_file)
    sidecar.write_text(sidecar.read_text().replace("0.02", "0.01"))
    with pytest.raises(UserError, match="differs from the contract inside"):
        read_artefact(policy_file)
    sidecar.unlink()
    read_artefact(policy_file)


def test_a_contract_that_is_not_text_is_one_line(tmp_path: Path, network: bytes) -> None:
    contract = b'{"format_version": "\xff"}'
    digest = hashlib.sha256(contract).hexdigest().encode()
    entries = ((CONTRACT_KEY.encode(), contract), (DIGEST_KEY.encode(), digest))
    path = tmp_path / "policy.onnx"
    path.write_bytes(network + b"".join(metadata_entry(*entry) for entry in entries))
    with pytest.raises(UserError, match="the contract is not UTF-8 text") as caught:
        read_artefact(path)
    assert "\n" not in str(caught.value)


def metadata_entry(key: bytes, value: bytes) -> bytes:
    entry = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value
    size = bytes([len(entry) & 0x7F | 0x80, len(entry) >> 7])  # as a number of two bytes, however small
    return b"\x72" + size + entry


def test_a_sidecar_that_is_not_text_is_a_sidecar_that_differs(policy_file: Path) -> None:
    sidecar_path(policy_file).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="differs from the contract inside"):
        read_artefact(policy_file)


def test_a_sidecar_that_cannot_be_read_is_named(policy_file: Path) -> None:
    sidecar = sidecar_path(policy_file)
    sidecar.unlink()
    sidecar.mkdir()
    with pytest.raises(UserError, match=r"cannot read .*contract\.json"):
        read_artefact(policy_file)


def test_a_place_that_cannot_be_written_is_named_and_keeps_what_it_had(
    tmp_path: Path, network: bytes, contract: Contract
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("kept")
    with pytest.raises(UserError, match="file"):
        write_artefact(blocked / "policy.onnx", network, contract)
    assert blocked.read_text() == "kept"


def test_writing_again_replaces_both_files(policy_file: Path, network: bytes, contract: Contract) -> None:
    newer = dataclasses.replace(contract, safety={"tilt": 0.8})
    write_artefact(policy_file, network, newer)
    assert read_artefact(policy_file).contract == newer
