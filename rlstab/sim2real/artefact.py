"""The file: an ONNX model whose metadata holds the contract, and the checks that it is whole.

An ``.onnx`` file is a protobuf message ``ModelProto``. Its metadata entries are the top-level fields number 14; the
graph, its weights and the operator set are other top-level fields. Reading only this outermost level
(`rlstab.sim2real.protobuf`) lets the digest be defined on bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rlstab.errors import UserError
from rlstab.runs.atomic import disk_error, write_bytes
from rlstab.sim2real.contract import Contract
from rlstab.sim2real.protobuf import delimited, fields

CONTRACT_KEY = "rlstab.contract"
DIGEST_KEY = "rlstab.contract.sha256"

_METADATA_FIELD = 14


@dataclass(frozen=True)
class Artefact:
    """A file that was read, with its parts proved to belong together."""

    path: Path
    model: bytes
    """The whole file, for the inference engine."""
    contract: Contract


def sidecar_path(path: Path) -> Path:
    """Where the readable copy of the contract lies: ``policy.onnx`` has ``policy.contract.json``."""
    return path.with_suffix(".contract.json")


def network_digest(model: bytes) -> str:
    """SHA-256, in hex, of the file's top-level fields other than metadata, in file order.

    Embedding or removing a contract does not change it; any change of the graph, the weights or the operator set does.

    Raises
    ------
    ValueError
        ``model`` is not a protobuf message.
    """
    return hashlib.sha256(_split(model)[0]).hexdigest()


def write_artefact(path: Path, network: bytes, contract: Contract) -> None:
    """Write ``network`` with ``contract`` inside, and the contract beside it. Replaces what was there.

    Parameters
    ----------
    path
        Ends in ``.onnx``.
    network
        A serialised ONNX model without metadata.
    contract
        Its ``sha256`` is that of ``network``.
    """
    text = contract.to_json()
    entries = {CONTRACT_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
    model = network + b"".join(_metadata_entry(key, value) for key, value in entries.items())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(f"cannot make the folder {path.parent}", error) from error
    write_bytes(path, model)
    write_bytes(sidecar_path(path), text.encode())


def read_artefact(path: Path) -> Artefact:
    """Read a file and check that nothing in it was changed since it was exported.

    Raises
    ------
    UserError
        Not an ONNX file, no contract, a contract of another format, or bytes that do not match their checksum.
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        hint = "give the .onnx file that `rlstab export RUN` wrote"
        raise UserError(f"cannot read {path}: {error.strerror}; {hint}") from error
    try:
        network, metadata = _split(model)
    except ValueError as error:
        raise UserError(f"{path} is not an ONNX file, or is damaged ({error}); export the run again") from error
    if CONTRACT_KEY not in metadata:
        raise UserError(
            f"{path} has no contract, so nothing says what robot and observation it is for; use `rlstab export RUN`"
        )
    text = metadata[CONTRACT_KEY]
    _check_digest(path, "contract", hashlib.sha256(text).hexdigest(), metadata.get(DIGEST_KEY, b"").decode("latin1"))
    contract = Contract.from_json(_decoded(path, text), str(path))
    _check_digest(path, "network", hashlib.sha256(network).hexdigest(), contract.sha256)
    _check_sidecar(path, text)
    return Artefact(path, model, contract)


def _decoded(path: Path, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the contract is not UTF-8 text ({error}); export the run again") from error


def _check_sidecar(path: Path, text: bytes) -> None:
    sidecar = sidecar_path(path)
    try:
        beside = sidecar.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {sidecar}: {error.strerror}; make it readable or delete it") from error
    if beside != text:
        raise UserError(f"{sidecar} differs from the contract inside {path.name}; delete it or export the run again")


def _check_digest(path: Path, part: str, actual: str, stated: str) -> None:
    if actual != stated:
        raise UserError(
            f"{path}: the {part} was changed after export: its SHA-256 is {actual[:12]}…, the file states "
            f"{stated[:12] or 'none'}…; export the run again"
        )


def _split(model: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Separate the metadata entries of a serialised ``ModelProto`` from all the rest."""
    rest: list[bytes] = []
    metadata: dict[str, bytes] = {}
    for number, start, payload, end in fields(model):
        if number != _METADATA_FIELD:
            rest.append(model[start:end])
            continue
        entry = {part: model[payload:end][begin:stop] for part, _, begin, stop in fields(model[payload:end])}
        if set(entry) != {1, 2}:
            raise ValueError("a metadata entry is not a key and a value")
        key = entry[1].decode("latin1")
        if key in metadata:
            raise ValueError("a metadata key occurs twice")
        metadata[key] = entry[2]
    if not rest:
        raise ValueError("it holds no model")
    return b"".join(rest), metadata


def _metadata_entry(key: str, value: str) -> bytes:
    return delimited(_METADATA_FIELD, delimited(1, key.encode()) + delimited(2, value.encode()))
