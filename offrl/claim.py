"""One process owns a run directory: atomic creation and a heartbeat, no file locks.

`claim.json` names the owner.  It is created by linking a complete private file onto the name, so
it is never seen half-written, and it works where flock does not (network file systems).

A stale claim is taken over through its *successor* file, whose name contains the stale claim's
token.  Only who has created the successor may replace the claim, and only after looking again that
it is still the stale one.  So of several takers one wins, and a taker that decided long ago cannot
remove the claim of one that was faster.  A successor is a claim itself: where its owner died, it is
taken over by the same rule.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offrl.atomic import create_durably
from offrl.errors import UserError

HEARTBEAT_S = 10.0
STALE_S = 120.0
NAME = "claim.json"

Content = dict[str, Any]  # token, host, machine, pid, started


class Claim:
    """The right to write into a run directory."""

    def __init__(self, path: Path, content: Content) -> None:
        self._path = path
        self._content = content
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="claim-heartbeat", daemon=True)
        self._heart.start()

    def check(self) -> None:
        """Raises UserError if the claim was lost; call it before writing what others may read.

        That happens to a process that was silent for two minutes (suspended, or cut off from the
        file system), while another machine wanted the run.
        """
        now = _read(self._path)
        if now is None or now[0]["token"] != self._content["token"]:
            by = f"{now[0]['host']}, process {now[0]['pid']}" if now else "nobody"
            raise UserError(
                f"{self._path.parent}: this process has lost its claim on the run, which belongs "
                f"to {by} now; it was silent for too long, or {NAME} was removed. Run it again."
            )

    def release(self) -> None:
        """Gives the run directory back; does nothing to a claim that is no longer ours."""
        self._stop.set()
        self._heart.join()
        # Whoever takes over in between, after two minutes of silence, loses the file that it just
        # created, and is told so by its next check().
        with contextlib.suppress(OSError, UserError):
            now = _read(self._path)
            if now is not None and now[0]["token"] == self._content["token"]:
                self._path.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # a missed beat is no reason to stop: eleven more fit into the time until it counts
            with contextlib.suppress(OSError, UserError):
                self.check()
                os.utime(self._path)  # the file system's own clock


@contextlib.contextmanager
def claim(run_dir: Path) -> Iterator[Claim | None]:
    """Owns `run_dir` (created if need be) inside the `with`; gives None if another process does.

    Raises UserError where the directory cannot be written.
    """
    path = run_dir / NAME
    content: Content = {
        "token": secrets.token_hex(8),
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _process(os.getpid())[1],
    }
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with _private_file(path, content) as private:
            won = _acquire(path, private, content)
            if won:
                _remove_litter(path, private.stat().st_mtime)
    except OSError as e:
        raise UserError(f"{run_dir}: cannot be written: {e.strerror or e}") from e
    if not won:
        yield None
        return
    mine = Claim(path, content)
    try:
        yield mine
    finally:
        mine.release()


def holder(run_dir: Path) -> Content | None:
    """The content of the claim (host, pid, ...), live or stale, or None; for messages."""
    found = _read(run_dir / NAME)
    return found[0] if found else None


def owned(run_dir: Path) -> bool:
    """Whether a live process owns the run directory just now."""
    path = run_dir / NAME
    found = _read(path)
    if found is None:
        return False
    try:
        with _private_file(path, found[0]) as probe:  # its time is the file system's now
            return not _stale(path, found, probe.stat().st_mtime)
    except OSError as e:
        raise UserError(f"{run_dir}: cannot be written: {e.strerror or e}") from e


def _acquire(path: Path, private: Path, content: Content) -> bool:
    """Makes `content`, which lies in the file `private`, the content of `path`, if nobody is."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.link(private, path)
            return True
        found = _read(path)
        if found is None:
            continue  # released just now
        other = found[0]
        if other["token"] == content["token"]:
            return True  # a repeated request of a network file system: the link was made
        if not _stale(path, found, private.stat().st_mtime):
            return False
        successor = _successor(path, other)
        if not _acquire(successor, private, content):
            return False
        now = _read(path)
        if now is not None and now[0]["token"] == other["token"]:
            os.rename(successor, path)
            return True
        successor.unlink()  # somebody was faster, before we had the successor


def _stale(path: Path, found: tuple[Content, float], now: float) -> bool:
    """Whether the owner of a claim is dead.  On this machine that is known, elsewhere assumed."""
    other, mtime = found
    here = other["host"] == socket.gethostname() and other["machine"] == _machine()
    if here and isinstance(other["pid"], int):
        alive, started = _process(other["pid"])
        return not alive or started != other["started"]
    if mtime > now + STALE_S:  # the clock was set back; a live owner follows it at its next beat
        time.sleep(2 * HEARTBEAT_S)
        again = _read(path)
        return again is not None and again[1] == mtime
    return now - mtime > STALE_S


def _machine() -> str | None:
    """What tells apart machines, and containers, of one host name; changes at a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _process(pid: int) -> tuple[bool, int | None]:
    """(is it alive, its start in clock ticks since the boot or None where that is unknown)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False, None
    except PermissionError:
        pass  # alive, of another user
    try:
        # after the name in brackets, which may contain anything: field 3 is the state, 20 the
        # number of threads (a zombie's may still be ending, and writing), 22 the start
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = fields.rpartition(")")[2].split()
        return state not in "ZX" or int(rest[16]) > 1, int(rest[18])
    except (OSError, ValueError, IndexError):
        return True, None


def _successor(path: Path, content: Content) -> Path:
    return path.with_name(f"claim.{content['token']}.next.json")


def _read(path: Path) -> tuple[Content, float] | None:
    """(content, modification time) of one claim file, or None if there is none."""
    try:
        with path.open("rb") as f:
            data, mtime = f.read(), os.fstat(f.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror or e}") from e
    try:
        found = json.loads(data)
        return {k: found[k] for k in ("token", "host", "machine", "pid", "started")}, mtime
    except (ValueError, KeyError, TypeError):  # by a crash of the file system: only time can tell
        unknown = dict.fromkeys(("host", "machine", "pid", "started"), "unknown")
        return {"token": "damaged", **unknown}, mtime


def _remove_litter(path: Path, now: float) -> None:
    """Removes private files of killed processes; those of live ones last for milliseconds."""
    for private in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if now - private.stat().st_mtime > STALE_S:
                private.unlink()


@contextlib.contextmanager
def _private_file(path: Path, content: Content) -> Iterator[Path]:
    private = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    create_durably(private, json.dumps(content, sort_keys=True).encode())
    try:
        yield private
    finally:
        with contextlib.suppress(FileNotFoundError):
            private.unlink()
