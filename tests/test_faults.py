"""What a long suite meets: kills at any moment, several launchers, full and read-only disks."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    SMALL_NET,
    cell,
    complete,
    interrupted,
    litter,
    manifest,
    results,
    snapshot,
    spawn,
    tiny,
)

from offrl.cell import Cell
from offrl.run import run, run_dir_of, status

SUITE = (
    *("n_updates=3000", "eval_every=1000", "eval_episodes=1", "batch_size=8", SMALL_NET),
    "dataset=file",
)
SWEEP = ("-m", "algo=bc,td3_bc", "seeds=[0],[1]", "launcher=joblib", "hydra.launcher.n_jobs=2")


def cells_of(data: Path, out: Path) -> list[Cell]:
    args = (*SUITE, f"dataset.path={data}", f"out={out}")
    return [cell(f"algo={a}", f"seeds=[{s}]", *args) for a in ("bc", "td3_bc") for s in (0, 1)]


def equal_to_uninterrupted(cells: list[Cell], out: Path) -> None:
    for c in cells:
        assert litter(run_dir_of(c)) == []
        assert results(run_dir_of(c)) == results(complete(cell(*c.overrides, f"out={out}")))


def kill_group(process: "subprocess.Popen[str]") -> None:
    """The launcher and its workers, all at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.full
def test_a_suite_killed_at_thirty_random_moments(hopper: Path, tmp_path: Path) -> None:
    """Launcher and workers together; then the same command finishes it."""
    g = random.Random(0)
    cells = cells_of(hopper, tmp_path / "o")
    args = (*SWEEP, *SUITE, f"dataset.path={hopper}", f"out={tmp_path / 'o'}")
    kills = at_work = 0
    while kills < 30:
        process = spawn(*args, cwd=tmp_path, new_group=True)
        deadline = time.monotonic() + 60
        if kills % 3:  # while a cell is at work; otherwise mostly while something starts
            while not any((run_dir_of(c) / "claim.json").exists() for c in cells):
                if process.poll() is not None or time.monotonic() > deadline:
                    break
                time.sleep(0.005)
        time.sleep(g.uniform(0, 1.5))
        if process.poll() is not None:  # it was done: begin another suite
            assert process.returncode == 0, process.communicate()
            break
        at_work += any((run_dir_of(c) / "claim.json").exists() for c in cells)
        kill_group(process)
        kills += 1
    process = spawn(*args, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "4 of 4 cells complete" in err
    assert at_work
    equal_to_uninterrupted(cells, tmp_path / "whole")


@pytest.mark.full
def test_two_launchers_with_two_workers_each(hopper: Path, tmp_path: Path) -> None:
    """Every cell is trained exactly once: it is never resumed, and no claim is lost."""
    cells = cells_of(hopper, tmp_path / "o")
    args = (*SWEEP, *SUITE, f"dataset.path={hopper}", f"out={tmp_path / 'o'}")
    launchers = [spawn(*args, cwd=tmp_path) for _ in range(2)]
    ends = [p.communicate(timeout=300) for p in launchers]
    assert [p.returncode for p in launchers] == [0, 0], ends
    assert all("4 of 4 cells complete" in err for _, err in ends)
    assert [manifest(run_dir_of(c))["resumed"] for c in cells] == [[]] * 4
    equal_to_uninterrupted(cells, tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, but: int) -> None:
    """Leaves `but` bytes, whole pages."""
    stat = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(stat.f_bavail * stat.f_bsize - but))


@pytest.mark.parametrize(
    ("left", "file"),
    [
        pytest.param(0, "", marks=pytest.mark.full),
        (4096, "eval.csv"),
        pytest.param(20480, "policy", marks=pytest.mark.full),
        (40960, "checkpoint-000000040"),
    ],
)
def test_a_full_disk(hopper: Path, tmp_path: Path, small_disk: Path, left: int, file: str) -> None:
    """While a record, the policy or the checkpoint is written; with room, it goes on, equal."""
    args = ("algo.hidden=[64,64]", "eval_episodes=100")  # files of several pages
    whole = results(complete(tiny(hopper, tmp_path / "whole", *args)))
    c = tiny(hopper, small_disk / "o", *args)
    run_dir = interrupted(c, 6)
    (kept,) = run_dir.glob("checkpoint-*")
    fill(small_disk, left)
    outcome = run(c)
    assert outcome.status == "failed"
    assert f"{run_dir / file if file else run_dir}" in outcome.message
    assert "cannot be written: No space left on device" in outcome.message
    assert list(run_dir.glob("checkpoint-*")) == [kept]
    (small_disk / "filling").unlink()
    complete(c)
    assert results(run_dir) == whole
    assert litter(run_dir) == []


def test_results_on_a_read_only_file_system(hopper: Path, small_disk: Path, tmp_path: Path) -> None:
    """What is complete is skipped there; what is not fails with its name; nothing changes."""
    done, begun = tiny(hopper, small_disk / "o"), tiny(hopper, small_disk / "o", "seeds=[1]")
    complete(done)
    interrupted(begun, 6)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    before = snapshot(small_disk)
    assert run(done).status == "complete"
    outcome = run(begun)
    assert outcome.status == "failed"
    assert f"out={small_disk / 'o'}: cannot be written: Read-only file system" in outcome.message
    assert snapshot(small_disk) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    complete(begun)


def test_a_flipped_byte_in_a_checkpoint(hopper: Path, tmp_path: Path) -> None:
    """It is seen and said, and the older checkpoint is used."""
    args = ("n_updates=60",)
    c = tiny(hopper, tmp_path / "o", *args)
    run_dir = interrupted(c, 11)
    newest = max(run_dir.glob("checkpoint-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match=rf"{newest.name}: damaged.*the checkpoint before"):
        complete(c)
    assert [r["step"] for r in manifest(run_dir)["resumed"]] == [20]
    assert results(run_dir) == results(complete(tiny(hopper, tmp_path / "whole", *args)))


def test_the_clock_set_back_during_a_run(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time of day enters a result, and the time that a run took never shrinks."""
    c = tiny(hopper, tmp_path / "o")
    run_dir = interrupted(c, 7)
    wall_s = manifest(run_dir)["wall_s"]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    for p in run_dir.iterdir():
        os.utime(p, (real() + 86400, real() + 86400))  # written "tomorrow"
    complete(c)
    assert manifest(run_dir)["wall_s"] >= wall_s
    assert status(c) == "complete"
    assert results(run_dir) == results(complete(tiny(hopper, tmp_path / "whole")))
