"""SIGTERM: the run stops at the end of a block with a checkpoint; the same command goes on."""

import os
import signal
from pathlib import Path

import pytest
from harness import (
    SMALL_NET,
    Train,
    cell,
    complete,
    litter,
    manifest,
    results,
    spawn,
    wait_until,
)

from offrl import preempt
from offrl.loop import Loop
from offrl.progress import standing
from offrl.run import run, run_dir_of, status
from offrl.search import FOLDER

# one evaluation only: what is saved at SIGTERM is saved because of it
LONG = (
    *("algo=td3_bc", "n_updates=3500", "eval_every=3500", "eval_episodes=1", "batch_size=8"),
    *(SMALL_NET, "dataset=file"),
)


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This process gets SIGTERM in its second block.  The steps at which blocks began."""
    train, begins = Loop.train, []

    def asked_in_the_second(self: Loop, engine: object, step: int, *rest: object) -> object:
        begins.append(step)
        if len(begins) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, engine, step, *rest)

    monkeypatch.setattr(Loop, "train", asked_in_the_second)
    return begins


def test_a_checkpoint_at_the_next_block_end(
    hopper: Path, tmp_path: Path, signalled: list[int]
) -> None:
    args = (*LONG, f"dataset.path={hopper}")
    c = cell(*args, f"out={tmp_path / 'o'}")
    with preempt.passing_on(), preempt.listening():
        outcome = run(c)
        assert preempt.asked()
    run_dir = run_dir_of(c)
    assert (outcome.status, status(c)) == ("interrupted", "interrupted")
    assert "2000" in outcome.message
    assert manifest(run_dir)["step"] == 2000
    assert [p.name for p in run_dir.glob("checkpoint-*")] == ["checkpoint-000002000.safetensors"]
    assert not (run_dir / "claim.json").exists()
    assert standing(c) == ("waiting", "interrupted; goes on at step 2000")

    complete(c)
    assert signalled == [0, 1000, 2000, 3000]
    assert litter(run_dir) == []
    assert results(run_dir) == results(complete(cell(*args, f"out={tmp_path / 'whole'}")))


def test_an_interrupted_configuration_is_not_yet_tried(
    train: Train,
    hopper: Path,
    tmp_path: Path,
    signalled: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    args = (*LONG, f"dataset.path={hopper}")
    assert train(*args).code == preempt.REQUEUE
    assert not list(folder.iterdir())
    assert train(*args).code == 0
    assert len(list(folder.iterdir())) == 1


@pytest.mark.full
def test_the_rest_of_a_sweep_is_left_alone(
    train: Train, hopper: Path, signalled: list[int]
) -> None:
    args = ("-m", *LONG, f"dataset.path={hopper}", "seeds=[0],[1],[2]")
    done = train(*args)
    assert done.code == preempt.REQUEUE
    assert "asked to end; the same command goes on" in done.err
    assert "once more" not in done.err
    assert "interrupted: asked to end" in done.err
    assert done.err.count("not begun: as above") == 2
    assert len(signalled) == 2, "no other cell was begun"
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL
    again = train(*args)
    assert again.code == 0
    assert "3 of 3 cells complete" in again.err


def test_a_signal_in_the_last_block_ends_nothing(
    hopper: Path, tmp_path: Path, signalled: list[int]
) -> None:
    args = (*LONG, f"dataset.path={hopper}", f"out={tmp_path}", "n_updates=1500", "eval_every=1500")
    with preempt.passing_on(), preempt.listening():
        complete(cell(*args))
    assert signalled == [0, 1000]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_in_a_job_of_submitit(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Its own handler is called after the run, and only for its own signal."""
    called: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2)}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    try:
        for s in before:
            signal.signal(s, lambda n, frame: called.append(n))
        with preempt.passing_on():
            with preempt.listening():
                os.kill(os.getpid(), number)
                assert preempt.asked()
            assert not called
            with pytest.raises(SystemExit) as e:
                preempt.leave()
        assert e.value.code == preempt.REQUEUE
        assert called == ([number] if number == signal.SIGUSR2 else [])
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def test_elsewhere_the_process_stays() -> None:
    with preempt.passing_on(), preempt.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        preempt.leave()
    assert not preempt.asked()


@pytest.mark.full
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_the_real_command(hopper: Path, tmp_path: Path, launcher: str) -> None:
    """The launcher's process is asked, and asks its workers."""
    long = ("n_updates=12000", "eval_every=12000")
    args = (*LONG, *long, f"dataset.path={hopper}", "algo=bc")
    sweep = ("-m", *args, "seeds=[0],[1]", f"launcher={launcher}", f"out={tmp_path / 'o'}")
    cells = [cell(*args, f"seeds=[{i}]", f"out={tmp_path / 'o'}") for i in (0, 1)]
    process = spawn(*sweep, cwd=tmp_path)
    at_work = cells if launcher == "joblib" else cells[:1]
    wait_until(lambda: all(status(c) == "running" for c in at_work), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == preempt.REQUEUE, err
    assert "Traceback" not in err
    for c in at_work:
        content = manifest(run_dir_of(c))
        assert content["status"] == "interrupted"
        assert 0 < content["step"] < 12000
        assert content["step"] % 1000 == 0
    process = spawn(*sweep, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for c in cells:
        whole = cell(*c.overrides, f"out={tmp_path / 'whole'}")
        assert results(complete(whole)) == results(run_dir_of(c))
