"""Sweeps: no cell ends a sweep; what was killed is run once more; launchers share the work."""

import shlex
import signal
from pathlib import Path

import pytest
from harness import (
    SMALL_NET,
    TINY,
    Train,
    cell,
    interrupted,
    manifest,
    results,
    spawn,
    tiny,
    wait_until,
    write_robot,
)

from offrl import preempt, slurm, sweep
from offrl.run import run, run_dir_of, status

TESTS = str(Path(__file__).parent)


@pytest.fixture
def conf(tmp_path: Path) -> str:
    """Algorithms that die, as overrides of the command line."""
    folder = tmp_path / "conf" / "algo"
    folder.mkdir(parents=True)
    for name, target, key, value in (
        ("dies_once", "DiesOnce", "sign", tmp_path / "died"),
        ("dies", "Dies", "sign", tmp_path / "died"),
        ("logged", "Logged", "log", tmp_path / "log"),
    ):
        (folder / f"{name}.yaml").write_text(
            "# @package _global_\nalgo:\n"
            f"  name: {name}\n  _target_: toy_algos.{target}\n  {key}: '{value}'\n"
            "  lr: 1e-3\n  hidden: [16]\n"
        )
    return f"hydra.searchpath=['{tmp_path / 'conf'}']"


def again(err: str) -> list[list[str]]:
    """The arguments of the commands that the summary lists."""
    commands = [line.partition("again: ")[2] for line in err.splitlines() if "again: " in line]
    return [shlex.split(c)[2:] for c in commands]


def test_diverged_and_failed_cells_do_not_end_a_sweep(
    train: Train, hopper: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "missing.hdf5"
    args = (*TINY[1:], SMALL_NET, "dataset=file", f"dataset.path='{bad}','{hopper}'")
    done = train("-m", *args, "algo=td3_bc", "algo.critic_lr=1e30,1e-3", "out=o")
    assert done.code == 1
    summary = done.err.partition("1 of 4 cells complete")[2]
    listed = again(done.err)
    assert len(listed) == 3
    statuses = {}
    for a in listed:
        (c,) = [cell(*a)]
        key = c.algo.critic_lr, c.config["dataset"]["name"]
        statuses[key] = status(c), manifest(run_dir_of(c)).get("diverged_seed")
        assert manifest(run_dir_of(c))["error"]
        assert summary.count(manifest(run_dir_of(c))["error"]) == 1
    assert summary.count("failed: as above") == 1
    assert statuses == {
        (1e30, "hopper"): ("diverged", 0),
        (1e30, "missing"): ("failed", None),
        (1e-3, "missing"): ("failed", None),
    }
    assert "not finite" in done.err or "is nan" in done.err or "is inf" in done.err

    write_robot(bad)
    once_more = train(*next(a for a in listed if "algo.critic_lr=0.001" in a))
    assert once_more.code == 0, once_more.err
    assert manifest(once_more.run_dir)["status"] == "complete"
    assert manifest(once_more.run_dir)["error"] is None


@pytest.mark.parametrize(("override", "word"), [("out=file/x", "out=file/x")])
def test_what_no_cell_could_do_is_said_once(
    train: Train, hopper: Path, override: str, word: str
) -> None:
    Path("file").write_text("")
    done = train("-m", *TINY, "dataset=file", f"dataset.path={hopper}", "seeds=[0],[1]", override)
    assert done.code == 1
    first, second = done.err.splitlines()
    assert first == "2 cells, 0 complete already"
    assert word in second
    assert not Path("runs").exists()


@pytest.mark.full
def test_killed_workers(hopper: Path, tmp_path: Path, conf: str) -> None:
    """Joblib's workers take each other down; all cells complete but the one that always dies."""
    args = (conf, *TINY[1:], "dataset=file", f"dataset.path={hopper}", f"out={tmp_path / 'o'}")
    process = spawn(
        *("-m", *args, "launcher=joblib", "hydra.launcher.n_jobs=2"),
        "algo=dies,dies_once,logged",
        cwd=tmp_path,
        PYTHONPATH=TESTS,
    )
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "2 of 3 cells complete" in err
    (listed,) = again(err)
    assert "algo=dies" in listed
    assert err.count("once more") == 2  # the third was not started yet, and then ran as usual
    assert "its process was killed" in err
    assert "Traceback" not in err
    assert (tmp_path / "died").exists()
    once, logged = (run_dir_of(cell(*args, f"algo={a}")) for a in ("dies_once", "logged"))
    assert manifest(once)["status"] == manifest(logged)["status"] == "complete"


def test_two_launchers_share_a_suite(hopper: Path, tmp_path: Path, conf: str) -> None:
    args = (
        *("-m", conf, "algo=logged", "dataset=file", f"dataset.path={hopper}"),
        *("n_updates=400", "eval_every=400", "eval_episodes=1", "batch_size=8"),
        *("seeds=[0],[1],[2],[3]", f"out={tmp_path / 'o'}"),
    )
    launchers = [spawn(*args, cwd=tmp_path, PYTHONPATH=TESTS) for _ in range(2)]
    ends = [p.communicate(timeout=240) for p in launchers]
    assert [p.returncode for p in launchers] == [0, 0], ends
    manifests = [manifest(d) for d in (tmp_path / "o").iterdir() if d.name != ".hydra"]
    assert [m["status"] for m in manifests] == ["complete"] * 4
    starts = (tmp_path / "log").read_text().split()
    assert len(starts) == 4, "every cell is trained once"
    for _, err in ends:
        assert "4 of 4 cells complete" in err


@pytest.mark.full
def test_what_another_launcher_leaves_is_taken_over(hopper: Path, tmp_path: Path) -> None:
    """The other one, a single run here, is killed while this launcher waits for it."""
    args = (*TINY[:1], "n_updates=4000", "eval_every=4000", "eval_episodes=1", "batch_size=8")
    args = (*args, SMALL_NET, "dataset=file", f"dataset.path={hopper}", f"out={tmp_path / 'o'}")
    other = spawn(*args, cwd=tmp_path)
    c = cell(*args)
    wait_until(lambda: status(c) == "running", other)
    other.send_signal(signal.SIGSTOP)  # at work, as far as anybody can see
    launcher = spawn("-m", *args, cwd=tmp_path)
    assert launcher.stderr is not None
    seen = ""
    while "waiting for 1 cells" not in seen:
        line = launcher.stderr.readline()
        assert line, seen
        seen += line
    other.send_signal(signal.SIGKILL)
    other.communicate()
    _, rest = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, seen + rest
    assert "once more" in rest
    assert status(c) == "complete"


def test_what_another_launcher_was_asked_to_leave_is_taken_over(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = tiny(hopper, tmp_path)
    with monkeypatch.context() as m:
        m.setattr(preempt, "_asked", [signal.SIGTERM])
        assert run(c).status == "interrupted"
    launches: list[str] = []
    sweep._finish_left(lambda: launches.append(run(c).status), [c])
    assert launches == ["complete"]


def test_what_slurm_cancelled_is_left_alone(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = tiny(hopper, tmp_path)
    with monkeypatch.context() as m:
        m.setattr(preempt, "_asked", [signal.SIGTERM])
        run(c)
    monkeypatch.setattr(slurm, "used", lambda: True)
    sweep._finish_left(lambda: pytest.fail("launched"), [c])


def test_who_is_asked_to_end_begins_nothing_more(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preempt, "_asked", [signal.SIGTERM])
    sweep._finish_left(lambda: pytest.fail("launched"), [tiny(hopper, tmp_path)])


@pytest.mark.parametrize(
    ("script", "found"),
    [("echo 12; echo 13", {"12"}), ("echo 13", set()), ("exit 1", {"12", "14"}), (None, set())],
)
def test_a_queue_that_does_not_answer_is_asked_again(
    script: str | None, found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("12", "14"):
        (tmp_path / ".submitit" / job).mkdir(parents=True)
    if script is not None:
        squeue = tmp_path / "squeue"
        squeue.write_text(f"#!/bin/sh\n{script}\n")
        squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.queued(tmp_path) == found


def test_a_sweep_continues_what_was_interrupted(train: Train, hopper: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny(hopper, tmp_path / "o"), 6)
    sweep = ("-m", *TINY, SMALL_NET, "dataset=file", f"dataset.path={hopper}", "seeds=[0],[1]")
    done = train(*sweep, f"out={tmp_path / 'o'}")
    assert done.code == 0
    assert "once more" not in done.err
    assert [r["step"] for r in manifest(run_dir)["resumed"]] == [20]
    whole = train(*sweep, "out=whole")
    assert results(Path.cwd() / "whole" / run_dir.name) == results(run_dir)
    assert whole.code == 0


def test_a_key_that_only_the_swept_choices_have(train: Train, hopper: Path) -> None:
    """The default algorithm has no `lr`; Hydra composes it before its jobs."""
    args = (*TINY[1:], SMALL_NET, "dataset=file", f"dataset.path={hopper}", "algo.lr=2e-3")
    done = train("-m", "algo=bc,bc_seed", *args, "runtime.threads=1")
    assert (done.code, "2 of 2 cells complete" in done.err) == (0, True)
    for line in done.out.splitlines():
        content = manifest(Path(line))
        assert content["config"]["algo"]["lr"] == 2e-3
        assert "algo.lr=0.002" in content["overrides"]


def test_a_file_that_changed_stops_a_sweep(train: Train, tmp_path: Path) -> None:
    data = write_robot(tmp_path / "d.hdf5", seed=0)
    sweep = ("-m", *TINY, SMALL_NET, "dataset=file", f"dataset.path={data}", "seeds=[0],[1]")
    assert train(*sweep).code == 0
    write_robot(data, seed=1)
    done = train(*sweep)
    assert (done.code, done.out) == (1, "")
    assert "on_mismatch=restart" in done.err
    status = train(*sweep, "status=true")
    assert (status.code, status.err) == (1, "2 failed\n")
    assert "is complete, on other data of the name file/d:" in status.out
    dry = train(*sweep, "dry_run=true")
    assert [line.split()[0] for line in dry.out.splitlines()] == ["failed"] * 2
    assert dry.err.startswith("0 of 2 cells complete")
    status = train(*sweep, "on_mismatch=restart", "status=true")
    assert (status.code, status.err) == (1, "2 waiting\n")
    over = train(*sweep, "on_mismatch=restart")
    assert (over.code, "2 of 2 cells complete" in over.err) == (0, True)


def test_a_damaged_manifest_does_not_end_a_sweep(
    train: Train, hopper: Path, tmp_path: Path
) -> None:
    run_dir = interrupted(tiny(hopper, tmp_path / "o"), 6)
    (run_dir / "manifest.json").write_text("{")
    done = train(
        *("-m", *TINY, SMALL_NET, "dataset=file", f"dataset.path={hopper}", "seeds=[0],[1]"),
        f"out={tmp_path / 'o'}",
    )
    assert done.code == 1
    assert "1 of 2 cells complete" in done.err
    assert str(run_dir / "manifest.json") in done.err


def test_the_summary_gives_a_long_error_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Unsupported: a call\n  with pages of explanation"
    monkeypatch.setattr("offrl.manifest.state", lambda run_dir: ("failed", said))
    assert sweep._summary([cell(*TINY)]) == 1
    err = capsys.readouterr().err
    assert "failed: Unsupported: a call\n    again: " in err
    assert "pages" not in err
