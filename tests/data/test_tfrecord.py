"""TFRecord files: every byte counts."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest
from rlu_toys import write_records

from benchmarks.timing.rlu_writer import framed
from offrl.data.tfrecord import records
from offrl.errors import UserError

RECORDS = [b"one", b"", b"three" * 5000]


def read(path: Path) -> list[bytes]:
    return list(records(path, lambda _: None))


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", RECORDS)
    assert read(path) == RECORDS
    seen: list[int] = []
    assert len(list(records(path, seen.append))) == 3
    assert sum(seen) == path.stat().st_size
    assert read(write_records(tmp_path / "b", [])) == []


def test_the_bytes_are_tensorflows(tmp_path: Path) -> None:
    # the check value of CRC-32C, and a record as TensorFlow writes it, by hand
    crc = google_crc32c.value(b"123456789")
    assert crc == 0xE3069283
    masked = struct.pack("<I", (_rotated(crc) + 0xA282EAD8) % 2**32)
    assert framed(b"123456789")[12:] == b"123456789" + masked
    assert framed(b"123456789")[:8] == b"\x09" + bytes(7)
    (tmp_path / "a").write_bytes(gzip.compress(framed(b"123456789")))
    assert read(tmp_path / "a") == [b"123456789"]


def _rotated(crc: int) -> int:
    bits = f"{crc:032b}"
    return int(bits[-15:] + bits[:-15], 2)


def plain(change: Callable[[bytearray], object]) -> Callable[[bytes], bytes]:
    """Changes what is compressed."""

    def spoil(data: bytes) -> bytes:
        inner = bytearray(gzip.decompress(data))
        change(inner)
        return gzip.compress(bytes(inner))

    return spoil


def flip(at: int) -> Callable[[bytes], bytes]:
    def change(data: bytearray) -> None:
        data[at] ^= 1

    return plain(change)


# records stand at 0, 19 and 35
BAD: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "length": (flip(0), 0, "checksum of its length"),
    "checksum of a length": (flip(19 + 9), 1, "checksum of its length"),
    "data": (flip(35 + 12 + 700), 2, "checksum of its data"),
    "checksum of data": (flip(18), 0, "checksum of its data"),
    "cut in the data": (plain(lambda d: d.__delitem__(slice(-99, None))), 2, "cut off"),
    "cut in a checksum": (plain(lambda d: d.__delitem__(slice(33, None))), 1, "cut off"),
    "cut in a length": (plain(lambda d: d.__delitem__(slice(24, None))), 1, "cut off"),
    "no end of GZIP": (lambda d: d[:-8], 3, "cut off"),
    "half a file": (lambda d: d[: len(d) - 30], 2, "cut off"),
    "empty": (lambda d: b"", 0, "cut off"),
    "no GZIP": (lambda d: gzip.decompress(d), 0, "no valid GZIP data"),
    "wrong sum of GZIP": (lambda d: d[:-8] + bytes(8), 0, "no valid GZIP data"),
    "garbage behind": (lambda d: d + b"x" * 99, 3, "no valid GZIP data"),
}


@pytest.mark.parametrize(("spoil", "number", "words"), BAD.values(), ids=BAD)
def test_what_is_damaged_is_named(
    spoil: Callable[[bytes], bytes], number: int, words: str, tmp_path: Path
) -> None:
    path = write_records(tmp_path / "shard", RECORDS)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=f"shard: record {number}: .*{words}.*again"):
        read(path)


def test_the_container_may_have_several_members(tmp_path: Path) -> None:
    parts = [gzip.compress(framed(r)) for r in RECORDS]
    (tmp_path / "a").write_bytes(b"".join(parts))
    assert read(tmp_path / "a") == RECORDS


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: No such file.*is the path right"):
        read(tmp_path / "absent")
