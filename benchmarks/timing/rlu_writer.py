"""Writes shards in RL Unplugged's layout: what the converter is tested and timed on."""

import gzip
import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Values = Sequence[bytes] | Sequence[int] | Sequence[float]


def write_records(path: Path, records: Iterable[bytes], level: int = 6) -> Path:
    with gzip.open(path, "wb", compresslevel=level) as f:
        for record in records:
            f.write(framed(record))
    return path


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def example(features: Mapping[str, Values], packed: bool = True) -> bytes:
    """An Example in the encoding of Protocol Buffers; numbers packed or one by one."""
    entries = (
        field(1, field(1, name.encode()) + field(2, _feature(values, packed)))
        for name, values in features.items()
    )
    return field(1, b"".join(entries))


def transition(
    o_t: Sequence[bytes],
    o_tp1: Sequence[bytes],
    a_t: int,
    a_tp1: int,
    r_t: float,
    d_t: float,
    episode_id: int,
    episode_return: float,
) -> dict[str, Values]:
    """The features of a row; pictures are PNGs, the oldest first."""
    return {
        "o_t": o_t,
        "o_tp1": o_tp1,
        "a_t": [a_t],
        "a_tp1": [a_tp1],
        "r_t": [float(r_t)],
        "d_t": [float(d_t)],
        "episode_id": [episode_id],
        "episode_return": [float(episode_return)],
    }


def png(frame: NDArray[np.uint8], mode: str = "L", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).convert(mode).save(out, "png", **how)
    return out.getvalue()


def field(number: int, value: bytes | int) -> bytes:
    """A field of bytes, or of a number."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _feature(values: Values, packed: bool) -> bytes:
    kinds = {type(v) for v in values}
    if kinds == {bytes}:
        return field(1, b"".join(field(1, v) for v in values if isinstance(v, bytes)))
    if kinds == {float}:
        raw = [struct.pack("<f", v) for v in values]
        each = field(1, b"".join(raw)) if packed else b"".join(_varint(1 << 3 | 5) + v for v in raw)
        return field(2, each)
    numbers = [int(v) for v in values]
    if packed:
        return field(3, field(1, b"".join(map(_varint, numbers))))
    return field(3, b"".join(field(1, v) for v in numbers))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number has ten bytes
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
