"""Evaluations in other processes, while training goes on: the same files, killed or not."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from harness import (
    complete,
    complete_in_child,
    interrupted,
    litter,
    manifest,
    results,
    spawn,
    tiny,
    wait_until,
)

from offrl import evaluations, preempt
from offrl.evaluate import Episode
from offrl.run import run, run_dir_of, status

AGAIN = ("n_updates=80", "norm_obs=true", "seeds=[0,1]")
WORKERS = "runtime.eval_workers=2"


@pytest.fixture(scope="module")
def expected(hopper: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return results(complete(tiny(hopper, tmp_path_factory.mktemp("here"), *AGAIN)))


@pytest.mark.full
def test_where_an_evaluation_runs_does_not_matter(
    hopper: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    run_dir = complete_in_child(tiny(hopper, tmp_path, *AGAIN, WORKERS))
    assert results(run_dir) == expected
    assert litter(run_dir) == []
    assert manifest(run_dir)["step"] == 80


@pytest.mark.full
@pytest.mark.parametrize("write", [3, 6, 8, 11, 15])
def test_an_interrupted_run_goes_on_from_its_last_whole_point(
    write: int, hopper: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """Killed at one of its writes while the next evaluation is under way."""
    run_dir = interrupted(tiny(hopper, tmp_path, *AGAIN, WORKERS), write)
    assert manifest(run_dir)["status"] == "running"
    complete_in_child(tiny(hopper, tmp_path, *AGAIN, WORKERS))
    assert results(run_dir) == expected


@pytest.mark.full
def test_an_action_that_is_not_finite_is_divergence(hopper: Path, tmp_path: Path) -> None:
    """It is found one point later than it is met."""
    outcome = run(tiny(hopper, tmp_path, "algo.lr=1e38", WORKERS))
    assert outcome.status == "diverged"


@pytest.mark.parametrize("workers", ["runtime.eval_workers=0", WORKERS])
def test_whose_action_was_not_finite_is_said(
    workers: str, hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other seeds of the run end with it, and have not diverged."""
    monkeypatch.setattr(evaluations, "_play", not_finite_for_seed_1)
    monkeypatch.setattr(evaluations, "evaluate", not_finite_for_seed_1)
    outcome = run(tiny(hopper, tmp_path, "seeds=[0,1,2]", workers))
    assert outcome.status == "diverged"
    assert manifest(outcome.run_dir)["diverged_seed"] == 1
    assert "seed 1: an action" in manifest(outcome.run_dir)["error"]


def not_finite_for_seed_1(*args: object) -> list[Episode]:
    (address,) = (a for a in args if isinstance(a, tuple))
    if address[0] == 1:
        raise FloatingPointError("an action is not finite")
    return [Episode(0, 1.0, 1), Episode(1, 1.0, 1)]


def dies(*_: object) -> None:
    """In an evaluation's process."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("asked", "ends"), [([signal.SIGTERM], "interrupted"), ([], "failed")])
def test_a_signal_to_the_whole_job_interrupts_the_run(
    asked: list[int], ends: str, hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are gone before the run can stop by itself."""
    monkeypatch.setattr(evaluations, "_play", dies)
    monkeypatch.setattr(preempt, "_asked", asked)
    c = tiny(hopper, tmp_path, WORKERS)
    outcome = run(c)
    assert (outcome.status, status(c)) == (ends, ends)
    assert ("BrokenProcessPool" in outcome.message) == (ends == "failed")
    monkeypatch.undo()
    complete(tiny(hopper, tmp_path))


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_outlive_a_killed_run(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path, WORKERS, "n_updates=100000")
    launcher = spawn(*c.given, cwd=tmp_path)
    policy = run_dir_of(c) / "policy.safetensors"
    wait_until(policy.exists, launcher)  # after an evaluation
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) >= 2
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in children))


def test_no_device(hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = run(tiny(hopper, tmp_path, "runtime=cuda"))
    assert outcome.status == "failed"
    assert "runtime.device=cuda: torch sees no CUDA device" in outcome.message
    assert not outcome.run_dir.exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu(hopper: Path, tmp_path: Path) -> None:
    """Repeated, and interrupted, it has the same bits."""
    runs = [
        complete_in_child(tiny(hopper, tmp_path / name, *AGAIN, "runtime=cuda"))
        for name in ("a", "b")
    ]
    assert results(runs[0]) == results(runs[1])
    killed = interrupted(tiny(hopper, tmp_path / "c", *AGAIN, "runtime=cuda"), 6)
    complete_in_child(tiny(hopper, tmp_path / "c", *AGAIN, "runtime=cuda"))
    assert results(killed) == results(runs[0])
    assert manifest(killed)["numerics"]["device"] == "cuda"
