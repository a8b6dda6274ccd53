"""A real SLURM of one node: a suite as an array job, cancelled or out of time, and continued."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import SMALL_NET, cell, complete, litter, manifest, results, spawn

from offrl.cell import Cell
from offrl.run import run_dir_of, status

SCRIPT = Path(__file__).with_name("slurm_node.sh")
pytestmark = [pytest.mark.full, pytest.mark.slurm]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SLURM_CONF names one of our own."""
    if find_spec("submitit") is None:
        pytest.skip("the extra 'slurm' is not installed (make test-full installs it)")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # munge's user goes through
    started = subprocess.run(
        [str(SCRIPT), "start", str(folder)], stdout=subprocess.PIPE, text=True, check=False
    )
    if started.returncode == 3:
        pytest.skip(started.stdout.strip())
    assert started.returncode == 0
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SLURM_CONF", started.stdout.strip())
        m.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        yield
        subprocess.run([str(SCRIPT), "stop", str(folder)], check=True)


def suite(data: Path, out: Path, n_updates: int = 3000) -> list[str]:
    """Six cells, each with one evaluation, at its end."""
    return [
        *("algo=bc,td3_bc", f"n_updates={n_updates}", f"eval_every={n_updates}", SMALL_NET),
        *("eval_episodes=1", "batch_size=8", "dataset=file", f"dataset.path={data}"),
        *("seeds=[0],[1],[2]", f"out={out}", "launcher=slurm", "hydra.launcher.mem_gb=1"),
    ]


def cells_of(args: list[str]) -> list[Cell]:
    rest = [a for a in args if not a.startswith(("algo=", "seeds=", "launcher", "hydra"))]
    return [cell(f"algo={a}", f"seeds=[{s}]", *rest) for a in ("bc", "td3_bc") for s in range(3)]


def wait_for(what: Callable[[], object], process: "subprocess.Popen[str]", limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, os.popen("squeue").read()
        time.sleep(0.1)


def array_jobs(out: Path) -> list[str]:
    return [p.name for p in (out / ".hydra" / ".submitit").glob("*") if p.name.isdigit()]


def reason(job: str) -> str:
    """Why SLURM keeps the job waiting; BeginTime: two minutes that it keeps what was requeued."""
    squeue = ["squeue", "--noheader", "--format=%r", f"--jobs={job}"]
    return subprocess.run(squeue, stdout=subprocess.PIPE, text=True, check=True).stdout


def same_as_uninterrupted(cells: list[Cell], out: Path) -> None:
    for c in cells:
        assert litter(run_dir_of(c)) == []
        assert results(run_dir_of(c)) == results(complete(cell(*c.overrides, f"out={out}")))


def test_cancelled_in_the_middle_and_the_same_command_again(
    slurm: None, hopper: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    args = suite(hopper, out, 12000)
    cells = cells_of(args)
    launcher = spawn("-m", *args, cwd=tmp_path)
    wait_for(lambda: status(cells[3]) == "running", launcher, 300)  # two at a time, in order
    (job,) = array_jobs(out)
    subprocess.run(["scancel", job], check=True)
    _, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 1
    assert "once more" not in err, "what was cancelled is not started behind one's back"
    assert array_jobs(out) == [job]
    states = [status(c) for c in cells]
    assert "interrupted" in states
    assert "none" in states, "cancelled while it waited"
    assert f"{states.count('complete')} of 6 cells complete" in err
    done = {c.run_id: manifest(run_dir_of(c)) for c in cells if status(c) == "complete"}
    steps = [manifest(run_dir_of(c))["step"] for c in cells if status(c) == "interrupted"]
    assert all(0 < step < 12000 and step % 1000 == 0 for step in steps)

    launcher = spawn("-m", *args, cwd=tmp_path)
    _, err = launcher.communicate(timeout=400)
    assert launcher.returncode == 0, err
    assert f"6 cells, {len(done)} complete already" in err
    assert {i: manifest(run_dir_of(c)) for c in cells for i in [c.run_id] if i in done} == done
    resumed = [r["step"] for c in cells for r in manifest(run_dir_of(c))["resumed"]]
    assert sorted(resumed) == sorted(steps)
    assert [litter(run_dir_of(c)) for c in cells] == [[]] * 6
    interrupted = [c for c, state in zip(cells, states, strict=True) if state == "interrupted"]
    same_as_uninterrupted(interrupted, tmp_path / "whole")


def test_what_is_preempted_is_requeued_and_goes_on(
    slurm: None, hopper: Path, tmp_path: Path
) -> None:
    """SLURM sends submitit's signal before a time limit or a preemption; here we do."""
    args = suite(hopper, tmp_path / "o", 12000)
    args = ["algo=bc", "seeds=[0]", *(a for a in args if not a.startswith(("algo=", "seeds=")))]
    (c,) = [cell(*(a for a in args if not a.startswith(("launcher", "hydra"))))]
    launcher = spawn("-m", *args, cwd=tmp_path)
    wait_for(lambda: status(c) == "running", launcher, 120)
    (job,) = array_jobs(tmp_path / "o")
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_for(
        lambda: "BeginTime" in reason(job) or manifest(run_dir_of(c))["resumed"], launcher, 120
    )  # a SLURM that knows requeue_delay has started it at once
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False)
    _, err = launcher.communicate(timeout=400)
    assert launcher.returncode == 0, err
    assert "1 of 1 cells complete" in err
    assert "once more" not in err, "SLURM has started it again, not the launcher"
    (resumed,) = manifest(run_dir_of(c))["resumed"]
    assert 0 < resumed["step"] < 12000
    assert resumed["step"] % 1000 == 0
    same_as_uninterrupted([c], tmp_path / "whole")
