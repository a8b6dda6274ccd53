"""Downloads against a server on this machine that misbehaves in every way we know."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from offrl.data import download
from offrl.data.download import fetch
from offrl.errors import UserError

BODY = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body` at every path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.ranges = True  # answers Range requests
        self.etag: str | None = '"1"'
        self.cut_after: int | None = None  # bytes per connection, whatever was announced
        self.extra_length = 0  # announced, never sent
        self.shift = 0  # bytes that a range starts too late
        self.status = 200
        self.requests: list[str | None] = []  # the Range header of each

    def url(self, name: str = "data.hdf5") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        s = self.server
        wanted = self.headers.get("Range")
        s.requests.append(wanted)
        if s.status != 200:
            return self.send_error(s.status)
        start = 0
        matches = self.headers.get("If-Range", s.etag) == s.etag
        if wanted and s.ranges and matches:
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + s.shift
            if start >= len(s.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(s.body)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(s.body) - 1}/{len(s.body)}")
        else:
            self.send_response(200)
        if s.etag:
            self.send_header("ETag", s.etag)
        rest = s.body[start:]
        self.send_header("Content-Length", str(len(rest) + s.extra_length))
        self.end_headers()
        self.wfile.write(rest[: s.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as s:
        thread = threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield s
        s.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "d4rl" / "data.hdf5"


def _leftovers(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if p != target and p.suffix != ".lock")


def test_a_plain_download(server: Server, target: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert fetch([server.url()], target) == SHA
    assert target.read_bytes() == BODY
    assert _leftovers(target) == []
    assert capfd.readouterr() == ("", "")  # quiet where stderr is not a terminal


def test_a_page_instead_of_the_file(server: Server, target: Path) -> None:
    """A captive portal answers everything with 200: its page must not become the data."""
    with pytest.raises(UserError, match="no such file"):
        fetch([server.url()], target, lambda path: path.read_bytes() != BODY)
    assert not target.exists()
    assert not [name for name in _leftovers(target) if name.endswith(".part")]
    assert fetch([server.url()], target, lambda path: path.read_bytes() == BODY) == SHA


def test_an_existing_file_is_not_downloaded(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    assert fetch([server.url()], target) == hashlib.sha256(b"mine").hexdigest()
    assert server.requests == []


def test_cut_connections_are_resumed(server: Server, target: Path) -> None:
    server.cut_after = 80_000
    assert fetch([server.url()], target) == SHA
    assert server.requests == [None, "bytes=80000-", "bytes=160000-", "bytes=240000-"]


def test_a_later_process_resumes(server: Server, target: Path) -> None:
    _cut_download(server, target, 200_000)
    assert fetch([server.url()], target) == SHA
    assert server.requests == ["bytes=200000-"]
    assert _leftovers(target) == []


def test_without_range_support_it_starts_again(server: Server, target: Path) -> None:
    _cut_download(server, target, 200_000)
    server.ranges = False
    assert fetch([server.url()], target) == SHA
    assert server.requests == ["bytes=200000-"]


def test_a_file_that_changed_meanwhile_starts_again(server: Server, target: Path) -> None:
    _cut_download(server, target, 200_000)
    server.body, server.etag = BODY[::-1], '"2"'
    fetch([server.url()], target)
    assert target.read_bytes() == BODY[::-1]


def test_a_part_of_another_address_is_not_continued(server: Server, target: Path) -> None:
    _cut_download(server, target, 200_000)
    server.body = BODY[::-1]  # under the same ETag, which holds for one address only
    fetch([server.url("another.hdf5")], target)
    assert target.read_bytes() == BODY[::-1]


def test_a_part_that_is_already_whole(server: Server, target: Path) -> None:
    _cut_download(server, target, len(BODY))
    assert fetch([server.url()], target) == SHA
    assert server.requests == [f"bytes={len(BODY)}-"]


def test_a_part_that_is_too_long_starts_again(server: Server, target: Path) -> None:
    _cut_download(server, target, len(BODY))
    part = target.with_name("data.hdf5.part")
    part.write_bytes(part.read_bytes() + b"more")
    assert fetch([server.url()], target) == SHA


def test_a_size_that_is_never_reached(server: Server, target: Path) -> None:
    server.ranges, server.extra_length = False, 100
    with pytest.raises(UserError, match="got 300000 of 300100 bytes"):
        fetch([server.url()], target)
    assert not target.exists()
    assert len(server.requests) < 10


def test_another_range_than_was_asked_for(server: Server, target: Path) -> None:
    _cut_download(server, target, 200_000)
    server.shift = 1
    with pytest.raises(UserError, match="asked for byte 200000, got bytes 200001-"):
        fetch([server.url()], target)
    assert not target.exists()


def test_mirrors_are_tried_in_order(server: Server, target: Path) -> None:
    with Server() as broken:
        broken.status = 404
        thread = threading.Thread(target=broken.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert fetch(["no address", broken.url(), server.url(), "http://x.invalid/"], target) == SHA
        broken.shutdown()
        thread.join()
    assert broken.requests == [None]


def test_offline_says_what_was_tried_and_where_to_put_the_file(
    server: Server, target: Path
) -> None:
    server.status = 503
    closed = "http://127.0.0.1:9/data.hdf5"
    with pytest.raises(UserError) as e:
        fetch([closed, server.url()], target)
    message = str(e.value)
    for part in (closed, server.url(), "503", f"put the file at {target}"):
        assert part in message
    assert not target.exists()


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/data\.hdf5"):
        fetch([server.url()], tmp_path / "file" / "data.hdf5")


def test_only_one_of_several_downloads(server: Server, target: Path) -> None:
    got: list[str] = []
    threads = [
        threading.Thread(target=lambda: got.append(fetch([server.url()], target))) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [SHA] * 4
    assert server.requests == [None]


def _cut_download(server: Server, target: Path, size: int) -> None:
    """Leave what a process killed after `size` bytes leaves behind."""
    received = download._receive

    def killed(response: object, part: Path, have: int, total: int | None) -> None:
        received(response, part, have, total)
        with part.open("r+b") as f:
            f.truncate(size)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as m:
        m.setattr(download, "_receive", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch([server.url()], target)
    assert not target.exists()
    assert target.with_name("data.hdf5.part").stat().st_size == size
    server.requests.clear()
