"""TFRecord files, compressed with GZIP: the framing of TensorFlow's records.

A record is its length (uint64), the masked CRC-32C of that, its bytes, and their masked CRC-32C;
all numbers are little-endian.  Both checksums are verified.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from offrl.errors import UserError, missing_extra

_CHUNK = 1 << 16  # compressed bytes at a time
_GZIP = 31  # zlib's number for the container


def records(path: Path, report: Callable[[int], object]) -> Iterator[bytes]:
    """The records of a file, in order.

    report(k): k more bytes of the file were read.  Raises UserError, naming the file and the number
    of the record (the first is 0), for a file that is none, is cut off or fails a checksum.
    """
    masked = _masked_crc32c()
    number = 0
    try:
        with path.open("rb") as raw:
            f = _Stream(_unzipped(raw, report))
            while head := f.read(12):
                if len(head) < 12:
                    raise EOFError
                if masked(head[:8]) != int.from_bytes(head[8:], "little"):
                    raise _broken(path, number, "the checksum of its length does not fit")
                length = int.from_bytes(head[:8], "little")
                data, check = f.read(length), f.read(4)
                if len(data) < length or len(check) < 4:
                    raise EOFError
                if masked(data) != int.from_bytes(check, "little"):
                    raise _broken(path, number, "the checksum of its data does not fit")
                yield data
                number += 1
    except EOFError as e:
        raise _broken(path, number, "the file is cut off there") from e
    except zlib.error as e:
        raise _broken(path, number, f"there or soon after no valid GZIP data ({e})") from e
    except OSError as e:
        raise UserError(f"{path}: {e.strerror or e}; is the path right?") from e


def _unzipped(f: IO[bytes], report: Callable[[int], object]) -> Iterator[bytes]:
    """Not gzip.GzipFile: that loses the bytes before an error, and so the number of the record."""
    unzip = zlib.decompressobj(_GZIP)
    while chunk := f.read(_CHUNK):
        report(len(chunk))
        while chunk:
            if unzip.eof:  # one more member
                unzip = zlib.decompressobj(_GZIP)
            yield unzip.decompress(chunk)
            chunk = unzip.unused_data
    if not unzip.eof:
        raise EOFError


class _Stream:
    """Chunks as one row of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held, self._at = chunks, b"", 0

    def read(self, n: int) -> bytes:
        """The next `n` bytes; fewer only at the end."""
        while len(self._held) - self._at < n:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held, self._at = self._held[self._at :] + chunk, 0
        out = self._held[self._at : self._at + n]
        self._at += len(out)
        return out


def _broken(path: Path, number: int, why: str) -> UserError:
    return UserError(f"{path}: record {number}: {why}; copy or download the file again")


def _masked_crc32c() -> Callable[[bytes], int]:
    try:
        import google_crc32c
    except ImportError as e:
        raise UserError(f"google-crc32c: {missing_extra('rlu')}") from e
    crc32c: Any = google_crc32c.value

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return int(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    return masked
