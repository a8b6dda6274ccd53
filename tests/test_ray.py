"""A real Ray on this machine: a suite, and a worker that is killed."""

import os
import shlex
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import SMALL_NET, cell, complete, litter, manifest, results, spawn, wait_until

from offrl.claim import holder
from offrl.run import run_dir_of, status

pytestmark = [
    pytest.mark.full,
    pytest.mark.ray,
    pytest.mark.skipif(
        find_spec("ray") is None,
        reason="the extra 'ray' is not installed (make test-full installs it)",
    ),
]


@pytest.fixture(autouse=True)
def what_a_killed_ray_leaves() -> Iterator[None]:
    """The address of a cluster that is gone; without address=local the next Ray would join it."""
    left = Path("/tmp/ray/ray_current_cluster")
    if left.exists():
        yield  # somebody's, dead or alive
        return
    left.parent.mkdir(exist_ok=True)
    left.write_text("127.0.0.1:6399")
    yield
    left.unlink(missing_ok=True)


def test_a_suite_and_a_killed_worker(hopper: Path, tmp_path: Path) -> None:
    """The killed one's run is tried again by Ray, goes on, and ends equal."""
    common = (
        *("n_updates=12000", "eval_every=2000", "eval_episodes=1", "batch_size=8", SMALL_NET),
        *("dataset=file", f"dataset.path={hopper}", f"out={tmp_path / 'o'}"),
    )
    cells = [cell("algo=bc", f"seeds=[{s}]", *common) for s in range(3)]
    launcher = spawn(
        *("-m", "algo=bc", "seeds=[0],[1],[2]", *common),
        *("launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"),
        cwd=tmp_path,
        RAY_AUTH_MODE="disabled",
    )
    first = cells[0]
    wait_until(lambda: list(run_dir_of(first).glob("checkpoint-*")), launcher)
    worker = holder(run_dir_of(first))
    assert worker is not None
    assert worker["pid"] != launcher.pid
    os.kill(worker["pid"], signal.SIGKILL)
    _, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, err
    assert "3 of 3 cells complete" in err
    assert "once more" not in err, "Ray has tried it again, not the launcher"
    (resumed,) = manifest(run_dir_of(first))["resumed"]
    assert resumed["step"] > 0
    for c in cells:
        assert litter(run_dir_of(c)) == []
        whole = cell(*shlex.split(c.command)[2:], f"out={tmp_path / 'whole'}")
        assert results(complete(whole)) == results(run_dir_of(c))
        assert status(c) == "complete"
