from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from rlstab.sim2real.protobuf import delimited, fields, payloads, varint


@given(parts=st.lists(st.tuples(st.integers(1, 2**20), st.binary(max_size=300))))
def test_fields_come_back_with_their_bytes(parts: list[tuple[int, bytes]]) -> None:
    message = b"".join(delimited(number, payload) for number, payload in parts)
    read = [(number, message[start:end]) for number, _, start, end in fields(message)]
    assert read == parts
    assert sum(end - start for _, start, _, end in fields(message)) == len(message)
    numbers = {number for number, _ in parts}
    assert payloads(message) == {key: [content for number, content in parts if number == key] for key in numbers}


def test_messages_of_onnx_are_read() -> None:
    model = helper.make_model(helper.make_graph([], "name", [], []), ir_version=10)
    parts = payloads(model.SerializeToString())
    assert varint(parts[1][0])[0] == 10
    assert payloads(parts[7][0])[2] == [b"name"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x0a\x05ab", "breaks off"),
        (b"\x80", "a number breaks off"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "malformed"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        payloads(message)
