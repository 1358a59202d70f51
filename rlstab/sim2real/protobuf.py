"""The wire format of protobuf, as far as an ONNX file needs it: a message is a list of numbered fields.

A few lines, and bytes come out as they went in, independent of any library's way of writing a message again; and a
deployed controller needs no ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(field number, start, start of the payload, end)`` of a message's outermost fields.

    Raises
    ------
    ValueError
        It is not a protobuf message.
    """
    position = 0
    while position < len(message):
        start = position
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            payload, (_, position) = position, varint(message, position)
        elif kind == _LENGTH_DELIMITED:
            size, payload = varint(message, position)
            position = payload + size
        elif kind in (_FIXED64, _FIXED32):
            payload, position = position, position + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind} at byte {start}")
        if tag >> 3 == 0 or position > len(message):
            raise ValueError(f"it breaks off or is malformed at byte {start}")
        yield tag >> 3, start, payload, position


def payloads(message: bytes) -> dict[int, list[bytes]]:
    """Payloads of a message's outermost fields by number, each in order of appearance.

    Raises
    ------
    ValueError
        It is not a protobuf message.
    """
    found: dict[int, list[bytes]] = {}
    for number, _, payload, end in fields(message):
        found.setdefault(number, []).append(message[payload:end])
    return found


def varint(message: bytes, position: int = 0) -> tuple[int, int]:
    """Read a number of variable length; gives it and the position after it.

    Raises
    ------
    ValueError
        The message ends within it.
    """
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number breaks off at byte {position}")


def delimited(number: int, payload: bytes) -> bytes:
    """Write a field of bytes, text or a message."""
    return _encoded((number << 3) | _LENGTH_DELIMITED) + _encoded(len(payload)) + payload


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
