"""Bad input through a whole run: one clear error, nothing half-written, and it can go on later."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from harness import (
    TINY,
    Train,
    complete,
    litter,
    manifest,
    results,
    tiny,
    write_robot,
)

from offrl.run import Outcome, run, run_dir_of, status


def truncated(path: Path) -> None:
    write_robot(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def put(key: str, value: object) -> Callable[[Path], None]:
    """A file in which one column is another, or, for None, missing."""

    def write(path: Path) -> None:
        write_robot(path)
        with h5py.File(path, "r+") as f:
            del f[key]
            if value is not None:
                f[key] = value

    return write


def entry(key: str, value: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_robot(path)
        with h5py.File(path, "r+") as f:
            f[key][7] = value

    return write


BAD = {
    "missing file": (lambda p: None, ["data.hdf5", "No such file"]),
    "a text file": (lambda p: p.write_text("obs,action\n1,2\n"), ["data.hdf5", "HDF5"]),
    "an empty file": (lambda p: p.write_bytes(b""), ["data.hdf5", "HDF5"]),
    "a folder": (lambda p: p.mkdir(), ["data.hdf5", "not a file"]),
    "truncated": (truncated, ["data.hdf5", "cut short"]),
    "missing key": (put("rewards", None), ["data.hdf5", "'rewards' is missing"]),
    "wrong dimensions": (put("rewards", np.zeros((600, 2))), ["'rewards' has shape (600, 2)"]),
    "unequal lengths": (put("actions", np.zeros((599, 3))), ["'actions' has 599 rows", "600"]),
    "no rows": (put("observations", np.zeros((0, 11))), ["'observations' is empty"]),
    "NaN": (entry("observations", np.nan), ["'observations' row 7 is NaN or infinite"]),
    "infinity": (entry("rewards", np.inf), ["'rewards' row 7 is NaN or infinite"]),
    "an action beyond": (entry("actions", 1.5), ["'actions' row 7", "bounds [-1, 1]"]),
    "another robot's observations": (
        lambda p: write_robot(p, "HalfCheetah-v4"),
        ["has observations of 17 dimensions, but Hopper-v4 has observations of 11", "env=..."],
    ),
    "another robot's actions": (
        lambda p: write_robot(p, "Reacher-v4"),
        ["has actions of 2 dimensions, but Hopper-v4 has actions of 3"],
    ),
}


@pytest.mark.parametrize(("write", "words"), BAD.values(), ids=BAD)
def test_bad_data(write: Callable[[Path], object], words: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data.hdf5"
    write(data)
    c = tiny(data, tmp_path / "o")
    outcome = run(c)
    assert outcome.status == status(c) == "failed"
    assert "Traceback" not in outcome.message
    assert "\n" not in outcome.message
    for word in words:
        assert word in outcome.message
    assert manifest(outcome.run_dir)["error"] == outcome.message
    assert [p.name for p in outcome.run_dir.iterdir()] == ["manifest.json"]

    if data.is_dir():
        data.rmdir()
    write_robot(data)
    complete(c)  # with good data it runs
    assert manifest(outcome.run_dir)["error"] is None


def test_bad_data_on_the_command_line(train: Train) -> None:
    done = train(*TINY, "dataset=file", "dataset.path=missing.hdf5")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "missing.hdf5" in done.err
    assert done.run_dir.is_dir()  # where the status stands


def test_out_is_in_the_way(hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run(tiny(hopper, tmp_path / "file"))
    assert outcome.status == "failed"
    assert f"out={tmp_path / 'file'}: cannot be written" in outcome.message
    outcome = run(tiny(hopper, tmp_path / "file" / "below"))
    assert outcome.status == "failed"
    assert f"out={tmp_path / 'file' / 'below'}: cannot be written" in outcome.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_is_read_only(hopper: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    outcome = run(tiny(hopper, tmp_path / "o"))
    tmp_path.chmod(0o700)
    assert outcome.status == "failed"
    assert "Permission denied" in outcome.message


# files of this run: checkpoint 7 kB, manifest 2 kB, eval.csv and claim 200 bytes
LIMITS = [(5000, "checkpoint-"), (1000, "manifest.json"), (10, "o/")]


@pytest.mark.parametrize(("limit", "file"), LIMITS)
def test_no_space_left(hopper: Path, tmp_path: Path, limit: int, file: str) -> None:
    """For files beyond a size, which the system refuses in the midst of writing, as a full disk."""
    c = tiny(hopper, tmp_path / "o")
    run_dir = run_dir_of(c)
    expected = results(complete(tiny(hopper, tmp_path / "whole")))

    outcome = in_child(lambda: run(c), limit)
    assert outcome[0] == "failed"
    assert file in outcome[1]
    assert "cannot be written: File too large" in outcome[1]
    assert "\n" not in outcome[1]
    left = {p.name for p in run_dir.iterdir()}
    assert not [n for n in left if n.endswith(".tmp")]
    assert not [n for n in left if n.startswith((file, "claim."))]
    if limit > 1000:  # there is room for the status
        assert status(c) == "failed"
        assert manifest(run_dir)["error"] == outcome[1]

    complete(c)  # when there is room again
    assert results(run_dir) == expected
    assert litter(run_dir) == []


def in_child(work: Callable[[], Outcome], largest_file: int) -> tuple[str, str]:
    """(status, message) of `work` in a process that can write no larger files."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        outcome = work()
        os.write(write, f"{outcome.status}:{outcome.message}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as f:
        status, _, message = f.read().partition(":")
    return status, message
