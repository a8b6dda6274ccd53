"""TensorFlow's Example messages, read without TensorFlow.

    Example { Features features = 1; }
    Features { map<string, Feature> feature = 1; }  # an entry is { key = 1; value = 2; }
    Feature { BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; }  # one
    BytesList, FloatList, Int64List { repeated value = 1; }  # numbers are packed, or not

In the encoding of Protocol Buffers a message is a row of fields, each a tag, number << 3 | type,
and a value.  Fields that are not of these messages are skipped.
"""

import struct
from collections.abc import Callable, Iterator

Feature = list[bytes] | list[float] | list[int]

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # types of values


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of an Example by name; an empty list where one has no values.

    Raises ValueError for bytes that are no such message.
    """
    out: dict[str, Feature] = {}
    for number, kind, start, end in _fields(data, 0, len(data)):
        if number != 1 or kind != _BYTES:
            continue
        for inner, inner_kind, a, b in _fields(data, start, end):
            if inner == 1 and inner_kind == _BYTES:
                name, feature = _entry(data, a, b)
                out[name] = feature
    return out


def _entry(data: bytes, start: int, end: int) -> tuple[str, Feature]:
    name = ""
    value: Feature = []
    for number, kind, a, b in _fields(data, start, end):
        if number == 1 and kind == _BYTES:
            name = data[a:b].decode()  # UnicodeDecodeError is a ValueError
        elif number == 2 and kind == _BYTES:
            for which, inner_kind, c, d in _fields(data, a, b):
                if which in _LISTS and inner_kind == _BYTES:
                    value = _LISTS[which](data, c, d)
    return name, value


def _bytes_list(data: bytes, start: int, end: int) -> list[bytes]:
    return [data[a:b] for n, kind, a, b in _fields(data, start, end) if n == 1 and kind == _BYTES]


def _float_list(data: bytes, start: int, end: int) -> list[float]:
    values: list[float] = []
    for number, kind, a, b in _fields(data, start, end):
        if number == 1 and kind in (_BYTES, _FOUR):
            if (b - a) % 4:
                raise ValueError("packed floats are cut off")
            values += struct.unpack_from(f"<{(b - a) // 4}f", data, a)
    return values


def _int64_list(data: bytes, start: int, end: int) -> list[int]:
    values: list[int] = []
    for number, kind, a, b in _fields(data, start, end):
        if number == 1 and kind in (_BYTES, _VARINT):
            while a < b:
                value, a = _varint(data, a, b)
                values.append(value - (1 << 64) if value >> 63 else value)
    return values


_LISTS: dict[int, Callable[[bytes, int, int], Feature]] = {
    1: _bytes_list,
    2: _float_list,
    3: _int64_list,
}


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, type, start and end of the value) of every field of data[start:end]."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        kind, first = tag & 7, at
        if kind == _BYTES:
            size, first = _varint(data, at, end)
            at = first + size
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_FOUR, _EIGHT):
            at += 4 if kind == _FOUR else 8
        else:
            raise ValueError(f"a field of type {kind}, which is none of Protocol Buffers")
        if at > end:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, kind, first, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends); seven bits a byte, the lowest first."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number of more than ten bytes")
