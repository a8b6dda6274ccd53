"""Downloading one file: resumable, checked for its size, in place only when whole."""

import contextlib
import fcntl
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from offrl.atomic import write_atomic
from offrl.data.digest import sha256_file
from offrl.errors import UserError

_ATTEMPTS = 3  # in a row, without receiving anything, before the next mirror is tried
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20


class _Cut(Exception):
    """The server did not send the bytes that it had announced."""


_LOST = (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException, _Cut)


def fetch(
    urls: Sequence[str], target: Path, valid: Callable[[Path], bool] = lambda path: True
) -> str:
    """Download `target` from the first of `urls` that delivers it; return its SHA-256.

    An interrupted download continues in `<target>.part`, also in a later process.  An existing
    target is not downloaded again.  Of several processes one downloads and the others wait.
    What is not `valid` (a login page, say) is thrown away, and the next address is tried.
    Raises UserError, naming every URL tried and where to put the file by hand.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            if not target.exists():
                _from_any(urls, target, valid)
            return sha256_file(target)
    except OSError as e:
        raise UserError(f"cannot write {target} ({e.strerror or e})") from e


def _from_any(urls: Sequence[str], target: Path, valid: Callable[[Path], bool]) -> None:
    failures = []
    part = target.with_name(target.name + ".part")
    for url in urls:
        try:
            _from_one(url, part)
            if not valid(part):
                part.unlink()
                raise ValueError("what it sent is no such file")
        except (urllib.error.URLError, ValueError, *_LOST) as e:  # ValueError: not a URL
            failures.append(f"{url} ({e})")
        else:
            part.replace(target)
            _note(part).unlink(missing_ok=True)
            return
    raise UserError(
        f"cannot download {target.name}; tried {'; '.join(failures) or 'no address'}. "
        f"On a machine without network, put the file at {target}"
    )


def _from_one(url: str, part: Path) -> None:
    attempts = 0
    while True:
        before = _size(part)
        try:
            return _request(url, part)
        except urllib.error.HTTPError as e:
            if e.code != 416 or not before:
                raise
            if e.headers.get("Content-Range") == f"bytes */{before}":
                return  # whole, but an earlier process ended before it was put in place
            part.unlink()  # longer than the server's file: start again
        except _LOST:
            attempts = 0 if _size(part) > before else attempts + 1
            if attempts >= _ATTEMPTS:
                raise


def _request(url: str, part: Path) -> None:
    """One connection: continue `part` if it came from this URL and the server can, else anew."""
    note = _read_note(part)
    have = _size(part) if note.get("url") == url else 0
    request = urllib.request.Request(url, headers={"User-Agent": "offrl"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if note.get("validator"):  # the server sends all of it if the file has changed
            request.add_header("If-Range", note["validator"])
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if response.status != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Cut(f"asked for byte {have}, got {response.headers.get('Content-Range')}")
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if have == 0:
            part.unlink(missing_ok=True)
            origin = {"url": url, "validator": _validator(response)}
            write_atomic(_note(part), json.dumps(origin).encode())
        _receive(response, part, have, total)


def _receive(response: http.client.HTTPResponse, part: Path, have: int, total: int | None) -> None:
    with (
        part.open("ab") as f,
        tqdm(
            desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None
        ) as bar,  # disable=None: silent unless stderr is a terminal
    ):
        while chunk := response.read(_CHUNK):
            f.write(chunk)
            bar.update(len(chunk))
        f.flush()
        os.fsync(f.fileno())
    if total is not None and _size(part) != total:
        raise _Cut(f"got {_size(part)} of {total} bytes")


def _validator(response: http.client.HTTPResponse) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> Mapping[str, str]:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold `<target>.lock`; the system lets go of it when this process ends in any way."""
    with target.with_name(target.name + ".lock").open("w") as f:
        with contextlib.suppress(OSError):  # a file system without locks: go on without
            fcntl.flock(f, fcntl.LOCK_EX)
        yield
