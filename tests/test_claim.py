"""Claims, with real processes: one owner at any moment, and a dead one stands in nobody's way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offrl import claim as claims
from offrl.claim import claim, holder
from offrl.errors import UserError

HEAD = """
import os, socket, sys, time
from pathlib import Path
from offrl import claim as claims
claims.HEARTBEAT_S, claims.STALE_S = 0.1, 1.5
run_dir = Path(sys.argv[1])
"""

# claims until told to stop
OWNER = (
    HEAD
    + """
if sys.argv[2:]:
    socket.gethostname = lambda: sys.argv[2]
with claims.claim(run_dir) as mine:
    print("no" if mine is None else "yes", flush=True)
    sys.stdin.readline()
"""
)

# takes turns with others: "go N" on stdin is one attempt at run_dir/N
RACER = (
    HEAD
    + """
for line in sys.stdin:
    at = float(line.split()[1])
    target = run_dir / line.split()[0]
    while time.time() < at:  # all together, to the microsecond
        pass
    with claims.claim(target) as mine:
        if mine is not None:
            mine.check()
        print("no" if mine is None else "yes", flush=True)
        sys.stdin.readline()  # holds what it has until everybody has tried
        if mine is not None:
            mine.check()
    print("released", flush=True)
"""
)


def start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def racers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [start(RACER, tmp_path) for _ in range(3)]
    yield processes
    for p in processes:
        p.kill()
        p.communicate()


def race(racers: list[subprocess.Popen[str]], target: Path) -> list[str]:
    at = time.time() + 0.02
    for p in racers:
        ask(p, f"{target.name} {at}")
    answers = [answer(p) for p in racers]
    for p in racers:
        ask(p, "release")
    assert [answer(p) for p in racers] == ["released"] * len(racers)
    return sorted(answers)


def plant(run_dir: Path, name: str = claims.NAME, **changed: object) -> Path:
    """A claim of a process of this machine that is gone, or as changed."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    content = {
        "token": "0123456789abcdef",
        "host": socket.gethostname(),
        "machine": claims._machine(),
        "pid": gone.pid,
        "started": 1,
    }
    run_dir.mkdir(exist_ok=True)
    path = run_dir / name
    path.write_text(json.dumps({**content, **changed}))
    return path


def test_a_claim_is_seen_and_goes_away(tmp_path: Path) -> None:
    run_dir = tmp_path / "new" / "run"
    assert holder(run_dir) is None
    with claim(run_dir) as mine:
        assert mine is not None
        found = holder(run_dir)
        assert found is not None
        assert found["pid"] == os.getpid()
        with claim(run_dir) as second:
            assert second is None
        mine.check()
    assert list(run_dir.iterdir()) == []


def test_a_failure_inside_releases(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(tmp_path):
        _ = 1 / 0
    assert holder(tmp_path) is None


def test_fifty_races_for_a_free_run_have_one_winner_each(
    racers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for i in range(50):
        assert race(racers, tmp_path / str(i)) == ["no", "no", "yes"]
        assert list((tmp_path / str(i)).iterdir()) == []


def test_fifty_races_for_a_stale_run_have_one_winner_each(
    racers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for i in range(50):
        plant(tmp_path / str(i))
        assert race(racers, tmp_path / str(i)) == ["no", "no", "yes"]
        assert list((tmp_path / str(i)).iterdir()) == []


@pytest.mark.parametrize("reaped", [True, False])
def test_kill_9_and_immediate_takeover(tmp_path: Path, reaped: bool) -> None:
    owner = start(OWNER, tmp_path)
    assert answer(owner) == "yes"
    with claim(tmp_path) as mine:
        assert mine is None
    owner.send_signal(signal.SIGKILL)
    if reaped:
        owner.communicate()
    else:  # a zombie still has its pid
        while " Z " not in Path(f"/proc/{owner.pid}/stat").read_text():
            time.sleep(0.01)
    with claim(tmp_path) as mine:
        assert mine is not None
        mine.check()
    owner.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_that_was_given_away_again_is_stale(tmp_path: Path) -> None:
    plant(tmp_path, pid=os.getpid(), started=1)
    with claim(tmp_path) as mine:
        assert mine is not None


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "another container"}])
def test_a_foreign_claim_is_judged_by_its_age(tmp_path: Path, other: dict[str, str]) -> None:
    path = plant(tmp_path, **other)
    with claim(tmp_path) as mine:
        assert mine is None  # its pid means nothing here
    now = path.stat().st_mtime
    os.utime(path, (now, now - claims.STALE_S + 10))
    with claim(tmp_path) as mine:
        assert mine is None
    os.utime(path, (now, now - claims.STALE_S - 10))
    with claim(tmp_path) as mine:
        assert mine is not None
    assert list(tmp_path.iterdir()) == []


def test_the_heartbeat_keeps_a_live_foreign_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "STALE_S", 1.5)
    owner = start(OWNER, tmp_path, "elsewhere")
    assert answer(owner) == "yes"
    for _ in range(5):
        time.sleep(0.5)
        with claim(tmp_path) as mine:
            assert mine is None
    owner.send_signal(signal.SIGSTOP)  # silent
    time.sleep(2.0)
    with claim(tmp_path) as mine:
        assert mine is not None
        owner.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        ask(owner, "release")
        owner.communicate()
        mine.check()  # who woke up late has not removed the new owner's claim


def test_the_clock_set_back_keeps_nobody_out_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last beat of a dead owner elsewhere then lies in the future."""
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.1)
    path = plant(tmp_path, host="elsewhere")
    later = time.time() + 7200
    os.utime(path, (later, later))
    with claim(tmp_path) as mine:
        assert mine is not None
        mine.check()


def test_the_clock_set_back_takes_nothing_from_a_live_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.5)  # five of the owner's beats
    owner = start(OWNER, tmp_path, "elsewhere")
    assert answer(owner) == "yes"
    later = time.time() + 7200
    os.utime(tmp_path / claims.NAME, (later, later))
    with claim(tmp_path) as mine:
        assert mine is None
    ask(owner, "release")
    owner.communicate()


def test_who_lost_the_claim_is_told(tmp_path: Path) -> None:
    with claim(tmp_path) as mine:
        assert mine is not None
        plant(tmp_path, host="elsewhere", pid=77)
        with pytest.raises(UserError, match="belongs to elsewhere, process 77 now"):
            mine.check()
    assert holder(tmp_path) is not None  # not ours to remove
    (tmp_path / claims.NAME).unlink()
    with claim(tmp_path) as mine:
        assert mine is not None
        (tmp_path / claims.NAME).unlink()
        with pytest.raises(UserError, match="nobody"):
            mine.check()


def test_a_taker_that_died_half_way_is_taken_over_too(tmp_path: Path) -> None:
    plant(tmp_path, token="a" * 16)
    plant(tmp_path, f"claim.{'a' * 16}.next.json", token="b" * 16)
    plant(tmp_path, f"claim.{'b' * 16}.next.json", token="c" * 16)
    with claim(tmp_path) as mine:
        assert mine is not None
        mine.check()
    assert list(tmp_path.iterdir()) == []


def test_a_taker_at_work_is_respected(tmp_path: Path) -> None:
    plant(tmp_path, token="a" * 16)
    plant(tmp_path, f"claim.{'a' * 16}.next.json", token="b" * 16, host="elsewhere")
    with claim(tmp_path) as mine:
        assert mine is None


def test_a_taker_that_decided_long_ago_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judges a claim stale; B takes it over, whole; then A goes on."""
    plant(tmp_path)
    real, winners = claims._stale, []

    def stale_then_b(*claim: object) -> bool:
        monkeypatch.setattr(claims, "_stale", real)
        b = start(OWNER, tmp_path)
        assert answer(b) == "yes"
        winners.append(b)
        return True

    monkeypatch.setattr(claims, "_stale", stale_then_b)
    with claim(tmp_path) as mine:
        assert mine is None
    found = holder(tmp_path)
    assert found is not None
    assert found["pid"] == winners[0].pid
    winners[0].communicate("release\n")
    assert list(tmp_path.iterdir()) == []


def test_old_litter_of_killed_processes_goes_away(tmp_path: Path) -> None:
    old, new = (tmp_path / f".{claims.NAME}.{name}.tmp" for name in ("0a1b2c3d", "4e5f6a7b"))
    old.write_text("")
    os.utime(old, (0, 0))
    new.write_text("")
    with claim(tmp_path):
        assert not old.exists()
        assert new.exists()  # perhaps of somebody who is about to try


def test_a_damaged_claim_is_judged_by_its_age(tmp_path: Path) -> None:
    path = tmp_path / claims.NAME
    path.write_bytes(b"")
    with claim(tmp_path) as mine:
        assert mine is None
    os.utime(path, (0, 0))
    with claim(tmp_path) as mine:
        assert mine is not None


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UserError, match="file/run: cannot be written: Not a directory")
    with refused, claim(tmp_path / "file" / "run"):
        pass
