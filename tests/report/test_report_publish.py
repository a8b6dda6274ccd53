import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from synthetic_runs import FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report import publish as module
from offrl.report.figures import curves
from offrl.report.load import load_runs
from offrl.report.publish import publish, scrub
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables

FILES = ["curves.svg", "episodes.csv", "evaluations.csv", "runs.jsonl"]


def cells(n: int) -> list[FakeCell]:
    return [FakeCell(config(seeds=[s], n_updates=12000)) for s in range(n)]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_what_is_published_gives_the_same_table_and_figure(tmp_path: Path) -> None:
    suite = Suite("demo", cells(3), report_options(last_k=5, title="T"))
    for c in suite.cells:
        write_run(tmp_path / "runs", c)
    done = publish(suite, tmp_path / "runs", tmp_path / "results")
    assert sorted(contents(done.folder)) == FILES
    assert done.added == tuple(sorted(c.run_id for c in suite.cells))
    here, there = load_runs(tmp_path / "runs"), load_runs(done.folder)
    pd.testing.assert_frame_equal(here.evaluations, there.evaluations, check_exact=True)
    assert tables(here, suite, "R") == tables(there, suite, "R")
    svg = (done.folder / "curves.svg").read_text()
    assert svg == curves(here, suite) == curves(there, suite)


def test_every_evaluation_but_the_episodes_of_the_last_ten(tmp_path: Path) -> None:
    suite = Suite("demo", cells(1))
    write_run(tmp_path / "runs", suite.cells[0])
    folder = publish(suite, tmp_path / "runs", tmp_path / "results").folder
    published = load_runs(folder)
    assert published.evaluations["step"].tolist() == list(range(1000, 12001, 1000))
    assert set(published.episodes["step"]) == set(range(3000, 12001, 1000))
    here = load_runs(tmp_path / "runs").episodes
    pd.testing.assert_frame_equal(
        published.episodes, here[here["step"] >= 3000].reset_index(drop=True), check_exact=True
    )


def test_runs_are_sorted_lines_with_sorted_keys(tmp_path: Path) -> None:
    suite = Suite("demo", cells(4))
    for c in suite.cells:
        write_run(tmp_path / "runs", c)
    folder = publish(suite, tmp_path / "runs", tmp_path / "results").folder
    manifests = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    ids = [m["run_id"] for m in manifests]
    assert ids == sorted(c.run_id for c in suite.cells)
    assert all(list(m) == sorted(m) for m in manifests)


def test_unfinished_and_foreign_runs_are_left_out_but_a_diverged_one_is_a_result(
    tmp_path: Path,
) -> None:
    suite = Suite("demo", cells(4))
    states = ["complete", "diverged", "running", "failed"]
    for c, status in zip(suite.cells, states, strict=True):
        assert isinstance(c, FakeCell)
        write_run(tmp_path / "runs", c, status=status)
    write_run(tmp_path / "runs", FakeCell(config("bc")))
    done = publish(suite, tmp_path / "runs", tmp_path / "results")
    ids = [c.run_id for c in suite.cells]
    assert done.added == tuple(sorted(ids[:2]))
    assert len(done.left_out) == 2
    for run_id, status in zip(ids[2:], states[2:], strict=True):
        assert any(run_id in line and f"({status})" in line for line in done.left_out)
    published = load_runs(done.folder)
    assert set(published.evaluations["run_id"]) == {ids[0]}
    assert "1/4 (1 diverged, 2 not run)" in tables(published, suite, "R")


def test_publishing_again_merges_by_run_id(tmp_path: Path) -> None:
    three = cells(3)
    suite = Suite("demo", three)
    write_run(tmp_path / "a", three[0])
    write_run(tmp_path / "a", three[1], value=lambda s, t, e: 1.0)
    publish(suite, tmp_path / "a", tmp_path / "results")
    write_run(tmp_path / "b", three[1])
    write_run(tmp_path / "b", three[2])
    done = publish(suite, tmp_path / "b", tmp_path / "results")
    assert done.kept == (three[0].run_id,)
    assert done.added == tuple(sorted(c.run_id for c in three[1:]))
    for c in three:
        write_run(tmp_path / "all", c)
    publish(suite, tmp_path / "all", tmp_path / "at_once")
    assert contents(tmp_path / "results/demo") == contents(tmp_path / "at_once/demo")


def test_publishing_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    suite = Suite("demo", cells(2))
    for c in suite.cells:
        write_run(tmp_path / "runs", c)
    folder = publish(suite, tmp_path / "runs", tmp_path / "results").folder
    before = contents(folder)
    publish(suite, tmp_path / "runs", tmp_path / "results")
    publish(suite, folder, tmp_path / "results")  # from its own records
    assert contents(folder) == before


def test_what_is_no_cell_any_more_goes(tmp_path: Path) -> None:
    two = cells(2)
    for c in two:
        write_run(tmp_path / "runs", c)
    publish(Suite("demo", two), tmp_path / "runs", tmp_path / "results")
    done = publish(Suite("demo", two[:1]), tmp_path / "runs", tmp_path / "results")
    assert done.dropped == (two[1].run_id,)
    assert load_runs(done.folder).runs["run_id"].tolist() == [two[0].run_id]


def test_no_place_of_this_machine_is_published(tmp_path: Path) -> None:
    c = FakeCell(config(source="file", quality="mine"), fixed=["dataset.path=/home/ann/mine.hdf5"])
    c.config["dataset"]["path"] = "/home/ann/mine.hdf5"
    git = {"commit": "c" * 40, "dirty": False, "cwd": str(tmp_path)}
    host = socket.gethostname()
    write_run(tmp_path / "runs", c, git=git, hostname=host, numerics={"host": host})
    folder = publish(Suite("own", [c]), tmp_path / "runs", tmp_path / "results").folder
    (text,) = (folder / "runs.jsonl").read_text().splitlines()
    assert "/home/ann" not in text
    assert str(tmp_path) not in text
    assert "host" not in text
    manifest = json.loads(text)
    assert manifest["config"]["dataset"]["path"] == "mine.hdf5"
    assert "dataset.path=mine.hdf5" in manifest["overrides"]
    assert manifest["dataset"]["id"] == "file/mine"  # an id is no path


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/a/b/c.hdf5", "c.hdf5"),
        ("~/d4rl/", "d4rl"),
        ("C:\\Users\\ann\\x.hdf5", "x.hdf5"),
        ("cannot open '/a/b c'", "cannot open 'b c'"),
        ("mirrors=[/mnt/x,https://example.org/a/b]", "mirrors=[x,https://example.org/a/b]"),
        ("offrl/hopper/medium-v0", "offrl/hopper/medium-v0"),
        ("https://example.org/a", "https://example.org/a"),
        ("1/2", "1/2"),
    ],
)
def test_paths_shrink_to_their_last_part(text: str, kept: str) -> None:
    assert scrub([text]) == [kept]


def test_over_the_limit_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = cells(2)
    suite = Suite("demo", two)
    write_run(tmp_path / "a", two[0])
    folder = publish(suite, tmp_path / "a", tmp_path / "results").folder
    before = contents(folder)
    assert (module.LIMIT, module.PER_RUN) == (2_000_000, 30_000)
    monkeypatch.setattr(module, "PER_RUN", 0)
    monkeypatch.setattr(module, "LIMIT", sum(map(len, before.values())))
    publish(suite, tmp_path / "a", tmp_path / "results")  # just at the limit
    write_run(tmp_path / "b", two[1])
    with pytest.raises(UserError, match=r"episodes\.csv .*more than"):
        publish(suite, tmp_path / "b", tmp_path / "results")
    assert contents(folder) == before


def test_a_large_suite_may_take_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Suite("demo", cells(3))
    for c in suite.cells:
        write_run(tmp_path / "a", c)
    monkeypatch.setattr(module, "LIMIT", 1000)
    assert publish(suite, tmp_path / "a", tmp_path / "results").folder.is_dir()
    size = sum(map(len, contents(tmp_path / "results/demo").values()))
    monkeypatch.setattr(module, "PER_RUN", size // 3 + 1)
    publish(suite, tmp_path / "a", tmp_path / "results")
    monkeypatch.setattr(module, "PER_RUN", size // 3 - 1)
    with pytest.raises(UserError, match=f"more than {3 * (size // 3 - 1):,}"):
        publish(suite, tmp_path / "a", tmp_path / "results")


def test_an_evaluation_every_5000_of_a_million_steps_fits() -> None:
    """540 runs, each of 200 evaluations of 10 episodes, as experiment=d4rl_mujoco."""
    runs, evaluations, episodes, manifest = 540, 200, 10, 2_300
    evaluation = len(
        "0bfc39a31f40,2,1000000,10,4820.5233647604339,1082.7924934769967,127.51818002241467\n"
    )
    episode = len("0bfc39a31f40,2,1000000,10,4785.5315161825225,1000,126.327571367760306\n")
    figure = 1_500_000
    each = manifest + evaluations * evaluation + module.KEPT_EVALUATIONS * episodes * episode
    assert runs * each + figure < module.PER_RUN * runs


def test_nothing_to_publish(tmp_path: Path) -> None:
    suite = Suite("demo", cells(1))
    write_run(tmp_path / "runs", suite.cells[0], status="running")
    with pytest.raises(UserError, match="no complete run of suite demo"):
        publish(suite, tmp_path / "runs", tmp_path / "results")
    assert not (tmp_path / "results").exists()
