"""Kill -9 at any moment and the same command again: the uninterrupted result, bit for bit.

Most kills happen in forked children of the test, at each of a run's writes in turn; the real
command is killed too.
"""

import random
import signal
import time
from pathlib import Path

import pytest
from harness import (
    SMALL_NET,
    TINY,
    cell,
    complete,
    complete_in_child,
    interrupted,
    killed_at_write,
    litter,
    manifest,
    results,
    spawn,
    tiny,
    wait_until,
    write_robot,
)

from offrl.checkpoint import load_tensors, save_tensors
from offrl.loop import Loop
from offrl.manifest import done
from offrl.record import write_json
from offrl.run import run, run_dir_of, status

# evaluations that are not at the ends of blocks of 1,000 gradient steps, an odd last one, two seeds
UNEVEN = (
    *("algo=td3_bc", "seeds=[0,1]", "n_updates=1300", "eval_every=700", "eval_episodes=2"),
    *("batch_size=8", SMALL_NET, "dataset=file"),
)


@pytest.fixture(scope="module")
def uneven(hopper: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the run leaves when nothing interrupts it."""
    out = tmp_path_factory.mktemp("uninterrupted")
    return results(complete(cell(*UNEVEN, f"dataset.path={hopper}", f"out={out}")))


def test_the_real_command_killed(hopper: Path, tmp_path: Path, uneven: dict[str, bytes]) -> None:
    args = (*UNEVEN, f"dataset.path={hopper}", f"out={tmp_path}")
    run_dir = run_dir_of(cell(*args))
    first = spawn(*args, cwd=tmp_path)
    wait_until(lambda: list(run_dir.glob("checkpoint-*.safetensors")), first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert manifest(run_dir)["status"] == "running"
    assert (run_dir / "claim.json").exists()  # of a dead process: taken over at once

    start = time.monotonic()
    second = spawn(*args, cwd=tmp_path)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, out, err) == (0, f"{run_dir}\n", "")
    assert time.monotonic() - start < 60  # not the two minutes of a claim on another machine
    assert results(run_dir) == uneven
    assert litter(run_dir) == []
    content = manifest(run_dir)
    assert content["status"] == "complete"
    assert len(content["resumed"]) == 1
    assert content["resumed"][0]["step"] in range(700, 1300)


@pytest.mark.full
def test_killed_at_every_write(hopper: Path, tmp_path: Path, uneven: dict[str, bytes]) -> None:
    """Each start goes on from where the one before was killed."""
    c = cell(*UNEVEN, f"dataset.path={hopper}", f"out={tmp_path}")
    kills = 0
    while killed_at_write(lambda: complete(c), 3 + kills % 5):
        kills += 1
        assert kills < 50
    assert kills >= 4
    assert results(run_dir_of(c)) == uneven
    assert litter(run_dir_of(c)) == []
    assert manifest(run_dir_of(c))["step"] == 1300


def test_killed_once_at_any_write(hopper: Path, tmp_path: Path) -> None:
    """At the manifest, within one of two evaluations' writes, at the last manifest."""
    expected = results(complete(tiny(hopper, tmp_path / "whole")))
    for n in range(1, 13):
        c = tiny(hopper, tmp_path / f"killed at {n}")
        run_dir = interrupted(c, n)
        complete(c)
        assert results(run_dir) == expected
        assert litter(run_dir) == []
    assert not killed_at_write(lambda: complete(tiny(hopper, tmp_path / "13")), 13)


def test_evaluations_do_not_change_what_is_learnt(
    hopper: Path, tmp_path: Path, uneven: dict[str, bytes]
) -> None:
    args = (*UNEVEN, f"dataset.path={hopper}", f"out={tmp_path}", "eval_every=1300")
    assert results(complete(cell(*args)))["policy.safetensors"] == uneven["policy.safetensors"]


@pytest.mark.full
def test_kill_loop(hopper: Path, tmp_path: Path, uneven: dict[str, bytes]) -> None:
    """The real command, killed at random moments: start-up, training, evaluation, writing."""
    g = random.Random(0)
    args = (*UNEVEN, f"dataset.path={hopper}", f"out={tmp_path}")
    run_dir = run_dir_of(cell(*args))
    for i in range(10):
        process = spawn(*args, cwd=tmp_path)
        if i % 2:  # while it works; otherwise mostly while it starts
            wait_until((run_dir / "claim.json").exists, process)
            resumed = len(list(run_dir.glob("checkpoint-*"))) > 0
            time.sleep(g.uniform(0, 0.3 if resumed else 1))
        else:
            time.sleep(g.uniform(0, 4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = spawn(*args, cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert results(run_dir) == uneven
    assert litter(run_dir) == []


def test_other_numerics_stop_the_run(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path / "o")
    run_dir = interrupted(c, 6)  # after the first checkpoint
    kept = results(run_dir)
    outcome = run(tiny(hopper, tmp_path / "o", "runtime.threads=2"))
    assert outcome.status == "failed"
    assert "threads: 1 -> 2" in outcome.message
    assert "on_mismatch=restart" in outcome.message
    assert status(c) == "failed"
    assert manifest(run_dir)["error"] == outcome.message
    assert results(run_dir) == kept

    complete(c)  # with the old numerics it goes on
    assert manifest(run_dir)["error"] is None
    assert results(run_dir) == results(complete(tiny(hopper, tmp_path / "whole")))


def test_other_numerics_may_start_the_run_over(hopper: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny(hopper, tmp_path), 6)
    complete_in_child(tiny(hopper, tmp_path, "runtime.threads=2", "on_mismatch=restart"))
    content = manifest(run_dir)
    assert content["numerics"]["threads"] == 2
    assert content["resumed"] == []
    assert litter(run_dir) == []


@pytest.mark.parametrize("n", [1, 2, 3])
def test_killed_while_starting_over(hopper: Path, tmp_path: Path, n: int) -> None:
    """A checkpoint of the old numerics is never continued with the new ones."""
    run_dir = interrupted(tiny(hopper, tmp_path), 6)
    over = tiny(hopper, tmp_path, "runtime.threads=2", "on_mismatch=restart")
    assert killed_at_write(lambda: complete(over), n)
    assert not list(run_dir.glob("checkpoint-*.safetensors"))
    complete_in_child(over)
    assert manifest(run_dir)["numerics"]["threads"] == 2


def test_a_checkpoint_without_its_manifest_is_not_trusted(hopper: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny(hopper, tmp_path / "o"), 6)
    (run_dir / "manifest.json").unlink()
    with (run_dir / "eval.csv").open("a") as f:
        f.write("damaged\n")
    complete(tiny(hopper, tmp_path / "o"))
    assert results(run_dir) == results(complete(tiny(hopper, tmp_path / "whole")))


def test_data_that_changed_under_a_run(tmp_path: Path) -> None:
    data = write_robot(tmp_path / "d.hdf5", seed=0)
    c = tiny(data, tmp_path / "o")
    run_dir = interrupted(c, 6)
    old = manifest(run_dir)["dataset"]["digest"]
    write_robot(data, seed=1)
    outcome = run(c)
    assert outcome.status == "failed"
    assert old in outcome.message
    new = outcome.message.partition(" -> ")[2].partition(".")[0]
    assert new != old
    assert "on_mismatch=restart" in outcome.message

    complete(tiny(data, tmp_path / "o", "on_mismatch=restart"))
    content = manifest(run_dir)
    assert content["dataset"]["digest"] == new
    assert content["resumed"] == []
    assert content["wall_s"] >= sum(content["split_s"].values()) - 0.01
    assert results(run_dir) == results(complete(tiny(data, tmp_path / "whole")))


def test_data_that_changed_under_a_complete_run(tmp_path: Path) -> None:
    data = write_robot(tmp_path / "d.hdf5", seed=0)
    run_dir = complete(tiny(data, tmp_path / "o"))
    old, kept = manifest(run_dir)["dataset"]["digest"], results(run_dir)
    (tmp_path / "copies").mkdir()
    elsewhere = write_robot(tmp_path / "copies" / "d.hdf5", seed=0)
    assert complete(tiny(elsewhere, tmp_path / "o")) == run_dir  # where it lies does not matter

    write_robot(elsewhere, seed=1)
    outcome = run(tiny(elsewhere, tmp_path / "o"))
    assert outcome.status == "failed"
    for word in (str(run_dir), old, "another name", "on_mismatch=restart"):
        assert word in outcome.message
    assert results(run_dir) == kept
    assert not done(run_dir, tiny(elsewhere, tmp_path / "o"))
    absent = run(tiny(tmp_path / "absent" / "d.hdf5", tmp_path / "o"))
    assert "No such file" in absent.message

    over = tiny(elsewhere, tmp_path / "o", "on_mismatch=restart")
    assert complete(over) == run_dir
    assert manifest(run_dir)["dataset"]["digest"] != old
    assert results(run_dir) == results(complete(tiny(elsewhere, tmp_path / "whole")))


def test_other_code_stops_the_run(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = tiny(hopper, tmp_path)
    interrupted(c, 6)
    monkeypatch.setattr("offrl.run.code", lambda: "edited")
    outcome = run(c)
    assert outcome.status == "failed"
    assert "-> edited" in outcome.message
    assert "on_mismatch=restart" in outcome.message


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("damaged", "resumed_at"), [(1, 20), (2, 0)])
def test_a_damaged_checkpoint(
    hopper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damaged: int,
    resumed_at: int,
) -> None:
    """The one before is used, or none."""
    args = ("n_updates=60",)
    expected = results(complete(tiny(hopper, tmp_path / "whole", *args)))
    c = tiny(hopper, tmp_path / "o", *args)
    run_dir = interrupted(c, 11)  # after the second checkpoint
    newest_first = sorted(run_dir.glob("checkpoint-*"), reverse=True)
    assert [p.name[11:20] for p in newest_first] == ["000000040", "000000020"]
    for path in newest_first[:damaged]:
        halve(path)
    trained, train = [], Loop.train
    monkeypatch.setattr(Loop, "train", lambda *a: trained.append(a[2]) or train(*a))
    with pytest.warns(UserWarning, match="damaged"):
        complete(c)
    assert trained[0] == resumed_at
    assert results(run_dir) == expected


def test_a_checkpoint_of_another_version(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path)
    run_dir = interrupted(c, 6)
    (path,) = run_dir.glob("checkpoint-*")
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, metadata | {"format": "99"})
    outcome = run(c)
    assert outcome.status == "failed"
    for word in (str(path), "format 99", "remove"):
        assert word in outcome.message
    assert path.exists()


def test_a_manifest_of_another_version(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path)
    run_dir = interrupted(c, 6)
    write_json(run_dir / "manifest.json", manifest(run_dir) | {"schema": 99})
    before = results(run_dir)
    outcome = run(c)
    assert outcome.status == "failed"
    for word in ("schema 99", "schema 1", "remove"):
        assert word in outcome.message
    assert results(run_dir) == before
    assert manifest(run_dir)["schema"] == 99


def test_a_damaged_manifest(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path)
    run_dir = interrupted(c, 6)
    halve(run_dir / "manifest.json")
    assert status(c) == "damaged"
    outcome = run(c)
    assert outcome.status == "failed"
    assert str(run_dir / "manifest.json") in outcome.message


def test_a_run_in_another_process_is_left_alone(hopper: Path, tmp_path: Path) -> None:
    args = (*TINY, "n_updates=200000", "eval_every=200000", SMALL_NET, "dataset=file")
    args = (*args, f"dataset.path={hopper}", f"out={tmp_path}", "runtime.compile=false")
    process = spawn(*args, cwd=tmp_path)
    c = cell(*args)
    try:
        wait_until(lambda: status(c) == "running", process)
        outcome = run(c)
        assert outcome.status == "claimed"
        assert str(process.pid) in outcome.message
    finally:
        process.kill()
        process.communicate()
