"""A search of hyperparameters: ordinary runs, and a record of how many were tried."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import SMALL_NET, Train, manifest, tiny

from offrl import preempt
from offrl.errors import UserError
from offrl.plan import Plan, plan
from offrl.run import run, run_dir_of
from offrl.search import FOLDER, Search, conclude, note, objective, tried
from offrl.sweep import main

TD3_BC = ("algo=td3_bc", "n_updates=40", "eval_every=20", "eval_episodes=1", "batch_size=8")
SEARCH = ("hydra/sweeper=optuna", "+search=td3_bc", *TD3_BC, SMALL_NET, "dataset=file")

absent = find_spec("optuna") is None
optuna = pytest.mark.skipif(
    absent, reason="the extra 'optuna' is not installed (make test-full installs it)"
)


def test_what_was_tried_is_counted(
    hopper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Failed ones count too, one that is tried again does not; the manifests say how many."""
    base = tiny(hopper, tmp_path)
    search = Search("lr", {"algo.lr": "interval(1e-4,1e-2)"})
    folder = search.folder(base)
    folder.mkdir(parents=True)
    cells = [tiny(hopper, tmp_path, f"algo.lr={lr}") for lr in (1e-3, 1e30, 3e-3, 1e-3)]
    assert note(cells[0]) is None
    assert not list(folder.iterdir()), "there is no search"
    monkeypatch.setenv(FOLDER, str(folder))
    scores = []
    for c in cells:
        run(c)
        scores.append(note(c))
    assert [s is None for s in scores] == [False, True, False, False]
    assert scores[0] == scores[3] == objective(cells[0])
    assert conclude(base, search) == 0
    found = tried(folder)
    assert len(found) == 3
    assert found[0]["score"] == max(s for s in scores if s is not None)
    assert found[2]["score"] is None
    for c in cells:
        assert manifest(run_dir_of(c))["searches"] == {folder.name: 3}
    err = capsys.readouterr().err
    assert "3 configurations tried, 1 of them failed" in err
    assert found[0]["command"] in err


def test_who_is_asked_to_end_goes_on_with_the_search_later(
    hopper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny(hopper, tmp_path)
    work = Plan([base], True, Search("lr", {"algo.lr": "interval(1e-4,1e-2)"}))
    monkeypatch.setattr("offrl.plan.plan", lambda *_: work)

    def launch() -> None:
        run(base)
        note(base)
        with preempt.listening():
            os.kill(os.getpid(), signal.SIGTERM)

    assert main(launch, ["-m"]) == preempt.REQUEUE


def test_each_space_around_each_base_has_its_own_count(hopper: Path, tmp_path: Path) -> None:
    a, b = tiny(hopper, tmp_path), tiny(hopper, tmp_path, "n_updates=60")
    one, two = Search("s", {"algo.lr": "interval(0,1)"}), Search("s", {"algo.lr": "interval(0,2)"})
    assert len({s.folder(c) for s in (one, two) for c in (a, b)}) == 4
    assert one.folder(a) == one.folder(tiny(hopper, tmp_path, "runtime.threads=2"))


@pytest.mark.skipif(not absent, reason="optuna is installed")
def test_without_optuna_the_extra_is_named() -> None:
    with pytest.raises(UserError, match=r"optuna: not installed; pip install .*\[optuna\]"):
        plan(SEARCH)


@optuna
def test_a_search_without_a_space() -> None:
    with pytest.raises(UserError, match="nothing to search"):
        plan(["hydra/sweeper=optuna", "algo=bc"], True)


@optuna
@pytest.mark.full
def test_optuna(train: Train, hopper: Path, tmp_path: Path) -> None:
    args = (*SEARCH, f"dataset.path={hopper}", "hydra.sweeper.n_trials=4")
    done = train(*args)
    assert done.code == 0, done.err
    assert "4 configurations tried, 0 of them failed" in done.err
    (folder,) = Path("runs/.searches").iterdir()
    runs = [Path("runs", one["run"]) for one in tried(folder)]
    assert len(runs) == 4
    for run_dir in runs:
        content = manifest(run_dir)
        assert content["status"] == "complete"
        assert content["searches"] == {folder.name: 4}
        assert 1 <= content["config"]["algo"]["alpha"] <= 5
    assert len({manifest(d)["config"]["algo"]["alpha"] for d in runs}) == 4
    before = {d: (d / "eval.csv").stat().st_mtime_ns for d in runs}

    again = train(*args)  # tries the same ones, which are complete
    assert again.code == 0, again.err
    assert "4 configurations tried" in again.err
    assert {d: (d / "eval.csv").stat().st_mtime_ns for d in runs} == before


@optuna
@pytest.mark.full
def test_a_configuration_that_diverges_is_one_more(train: Train, hopper: Path) -> None:
    done = train(
        *(*SEARCH, f"dataset.path={hopper}", "hydra.sweeper.n_trials=2"),
        "algo.critic_lr=1e30",
    )
    assert done.code == 1
    assert "2 configurations tried, 2 of them failed" in done.err
