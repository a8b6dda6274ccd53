"""What the end-to-end tests share: a cache of their own, a small data file, the real command."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import TRAIN, Finished, Train, write_robot


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache, and all of them compute in one thread."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("OFFRL_DATA", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of hopper in D4RL's layout."""
    return write_robot(tmp_path_factory.mktemp("data") / "hopper.hdf5")


@pytest.fixture
def train(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """benchmarks/train.py, run in this process (no start-up) as it is run on the command line.

    The working directory is an empty folder, where the default `out`, runs/, comes to lie.
    """
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def command(*args: str) -> Finished:
        monkeypatch.setattr(sys, "argv", [str(TRAIN), *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as e:
            runpy.run_path(str(TRAIN), run_name="__main__")
        return Finished(int(e.value.code or 0), *capfd.readouterr())

    return command
