"""TFRecord files, compressed with GZIP: the framing of TensorFlow's records.

A record is its length (uint64), the masked CRC-32C of that, its bytes, and their masked CRC-32C;
all numbers are little-endian.  Both checksums are verified.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from offrl.errors import UserError, missing_extra

_BUFFER = 1 << 20
_REPORT = 256  # records between two reports


def records(path: Path, report: Callable[[int], object]) -> Iterator[bytes]:
    """The records of a file, in order.

    report(k): k more bytes of the file were read.  Raises UserError, naming the file and the number
    of the record (the first is 0), for a file that is none, is cut off or fails a checksum.
    """
    masked = _masked_crc32c()
    number = reported = 0
    try:
        with (
            path.open("rb") as raw,
            gzip.GzipFile(fileobj=raw, mode="rb") as unzipped,
            io.BufferedReader(unzipped, _BUFFER) as f,
        ):
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
                if number % _REPORT == 0:
                    report(raw.tell() - reported)
                    reported = raw.tell()
            report(raw.tell() - reported)
    except EOFError as e:
        raise _broken(path, number, "the file is cut off there") from e
    except (gzip.BadGzipFile, zlib.error) as e:
        raise _broken(path, number, f"no valid GZIP data ({e})") from e
    except OSError as e:
        raise UserError(f"{path}: {e.strerror or e}; is the path right?") from e


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
