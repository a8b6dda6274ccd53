"""What must not share a row, a column or a comparison; and records that are not whole."""

import copy
import csv
from pathlib import Path
from typing import Any

import pytest
from pipe_tables import rows
from synthetic_runs import REFERENCES, FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.comparison import block, comparisons
from offrl.report.eop import table as eop
from offrl.report.groups import summarise
from offrl.report.load import load_runs, no_runs
from offrl.report.members import group_of
from offrl.report.publish import publish
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables


def data(digest: str, n: int = 100_000) -> dict[str, Any]:
    returns = {"return_mean": 820.0, "return_std": 200.0, "return_best": 1620.0}
    return {"id": "x", "digest": digest * 64, "n_transitions": n, "n_episodes": 9} | returns


def test_methods_on_different_versions_of_the_data_are_not_compared(tmp_path: Path) -> None:
    for algo in ("bc", "td3_bc"):
        for env in ("hopper", "walker2d", "halfcheetah"):
            digest = "b" if (algo, env) == ("bc", "hopper") else "a"
            write_run(tmp_path, FakeCell(config(algo, env=env)), dataset=data(digest))
    text = tables(load_runs(tmp_path), None, "R")
    assert "hopper-offrl/medium are of 2 different versions of the data" in text
    assert text.count("different versions") == 1
    (found,) = comparisons(summarise(load_runs(tmp_path), None)).values()
    assert found.left_out == {"hopper-offrl/medium": "different versions of the data"}


def test_a_pair_on_different_versions_of_the_data_has_no_difference(tmp_path: Path) -> None:
    cells = [FakeCell(config(norm_obs=flag)) for flag in (True, False)]
    suite = Suite("x", cells, report_options(layout="norm_obs"))
    for c, digest in zip(cells, "ab", strict=True):
        write_run(tmp_path / "two", c, dataset=data(digest))
        write_run(tmp_path / "one", c, dataset=data("a"))
    assert rows(tables(load_runs(tmp_path / "two"), suite, "R"))[0]["difference ± 95%"] == "–"
    assert rows(tables(load_runs(tmp_path / "one"), suite, "R"))[0]["difference ± 95%"] != "–"


def test_a_seed_on_another_scale_is_an_error_also_within_a_row(tmp_path: Path) -> None:
    other = copy.deepcopy(REFERENCES["offrl"]) | {"ref_max": 520.0}
    write_run(tmp_path, FakeCell(config(seeds=[0])))
    odd = write_run(tmp_path, FakeCell(config(seeds=[1])), score=other)
    with pytest.raises(UserError, match="different returns") as e:
        tables(load_runs(tmp_path), None, "R")
    assert str(odd) in str(e.value)


LAST, MIDDLE = slice(-2, None), slice(-4, -2)  # evaluations, of two episodes each


@pytest.mark.parametrize("gone", [slice(-1, None), LAST, MIDDLE], ids=["half", "last", "middle"])
def test_a_complete_run_without_all_its_rows_is_an_error(tmp_path: Path, gone: slice) -> None:
    file = write_run(tmp_path, FakeCell(config(seeds=[0, 1]))) / "eval.csv"
    load_runs(tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    del lines[gone]
    file.write_text("".join(lines))
    with pytest.raises(UserError, match=r"eval\.csv: of run \w+, .* missing"):
        load_runs(tmp_path)


def test_a_complete_run_with_an_evaluation_too_many_is_an_error(tmp_path: Path) -> None:
    file = write_run(tmp_path, FakeCell(config())) / "eval.csv"
    lines = file.read_text().splitlines(keepends=True)
    more = [",".join(["0", "7", *line.split(",")[2:]]) for line in lines[LAST]]
    file.write_text("".join([*lines, *more]))
    with pytest.raises(UserError, match=r"eval\.csv: of run \w+, .* too many"):
        load_runs(tmp_path)


def test_a_published_suite_without_all_its_rows_is_an_error(tmp_path: Path) -> None:
    suite = Suite("x", [FakeCell(config())])
    write_run(tmp_path / "runs", suite.cells[0])  # type: ignore[arg-type]
    file = publish(suite, tmp_path / "runs", tmp_path).folder / "evaluations.csv"
    with file.open(newline="") as f:
        lines = list(csv.reader(f))
    with file.open("w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows(lines[:-1])
    with pytest.raises(UserError, match=r"evaluations\.csv: of run \w+, .* missing"):
        load_runs(tmp_path / "x")


def test_one_run_in_two_suites_counts_once(tmp_path: Path) -> None:
    cell = FakeCell(config())
    write_run(tmp_path / "runs", cell)
    for name in ("one", "two"):
        publish(Suite(name, [cell]), tmp_path / "runs", tmp_path / "results")
    loaded = load_runs(tmp_path / "results")
    assert (len(loaded.runs), len(loaded.evaluations), len(loaded.episodes)) == (1, 5, 10)


def test_a_diverged_run_does_not_replace_a_complete_one(tmp_path: Path) -> None:
    suite = Suite("x", [FakeCell(config())])
    (cell,) = suite.cells
    assert isinstance(cell, FakeCell)
    write_run(tmp_path / "runs", cell)
    folder = publish(suite, tmp_path / "runs", tmp_path).folder
    before = {p: p.read_bytes() for p in folder.iterdir()}
    write_run(tmp_path / "again", cell, status="diverged")
    done = publish(suite, tmp_path / "again", tmp_path)
    assert (done.added, done.kept) == ((), (cell.run_id,))
    assert "diverged; complete in" in done.left_out[0]
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_seed_that_diverged_elsewhere_is_named(tmp_path: Path) -> None:
    """Or those that come out well would be chosen by how they came out."""
    suite = Suite("x", [FakeCell(config())], report_options(layout="grid"))
    (cell,) = suite.cells
    assert isinstance(cell, FakeCell)
    write_run(tmp_path / "runs" / "a", cell, status="diverged")
    write_run(tmp_path / "runs" / "b", cell)
    (found,) = summarise(load_runs(tmp_path / "runs"), suite)
    assert found.seeds == "1/1 (1 diverged in another run)"
    assert found.seeds in tables(load_runs(tmp_path / "runs"), suite, "R")
    done = publish(suite, tmp_path / "runs", tmp_path)
    assert done.added == (cell.run_id,)
    assert "diverged; complete in" in done.left_out[0]


def test_one_diverged_seed_does_not_make_the_others_diverge(tmp_path: Path) -> None:
    cell = FakeCell(config(seeds=[0, 1, 2]))
    write_run(tmp_path, cell, status="diverged", diverged_seed=1)
    (g,) = summarise(load_runs(tmp_path), None)
    assert g.seeds == "0/3 (1 diverged, 2 stopped by divergence)"


def test_a_run_that_diverges_is_not_offered_again(tmp_path: Path) -> None:
    suite = Suite("x", [FakeCell(config(seeds=[0, 1, 2]))], report_options(layout="grid"))
    (cell,) = suite.cells
    assert isinstance(cell, FakeCell)
    write_run(tmp_path / "diverged", cell, status="diverged", diverged_seed=1)
    write_run(tmp_path / "killed", cell, status="interrupted")

    def missing(name: str) -> str:
        return rows(tables(load_runs(tmp_path / name), suite, "R"))[0]["what is missing"]

    assert missing("diverged") == "–"
    assert "python benchmarks/train.py experiment=demo" in missing("killed")


def test_a_seed_too_many_is_named(tmp_path: Path) -> None:
    for algo in ("bc", "td3_bc"):
        for env in ("hopper", "walker2d"):
            write_run(tmp_path, FakeCell(config(algo, env=env)))
    write_run(tmp_path, FakeCell(config("bc", [3])))
    (found,) = comparisons(summarise(load_runs(tmp_path), None)).values()
    with pytest.raises(UserError, match="hopper-offrl/medium: td3_bc without seed 3;"):
        block(found, 1)


def test_more_data_or_steps_are_no_tried_settings(tmp_path: Path) -> None:
    for changes in ({}, {"buffer_size": 1000}, {"n_updates": 3000}, {"eval_episodes": 4}):
        write_run(tmp_path, FakeCell(config(**changes)))
    with pytest.raises(UserError, match="same amount of data"):
        eop(summarise(load_runs(tmp_path), None))
    write_run(tmp_path, FakeCell(config(alpha=1.0, buffer_size=1000)))
    (row,) = rows(eop(summarise(load_runs(tmp_path), None)))
    assert row["settings"] == "2/2"
    assert "buffer_size=1000, n_updates=5000" in row["dataset (offrl-v5)"]


def test_a_buffer_larger_than_the_data_says_what_was_used(tmp_path: Path) -> None:
    for size in (100_000, 1_000_000):
        write_run(tmp_path, FakeCell(config(buffer_size=size)))
    buffers = [r["buffer"] for r in rows(tables(load_runs(tmp_path), None, "R"))]
    assert buffers == ["100,000", "1,000,000 (has 100,000)"]


def cells(steps: int) -> list[FakeCell]:
    return [
        FakeCell(config(a, [s], n_updates=steps), swept=("algo", "seeds"))
        for a in ("bc", "td3_bc")
        for s in range(3)
    ]


def test_a_row_is_filled_at_its_own_length_but_a_short_one_at_the_suite_s(tmp_path: Path) -> None:
    suite = Suite("x", cells(5000), report_options(layout="grid", floor=3000), cells)

    def missing(name: str) -> str:
        return rows(tables(load_runs(tmp_path / name), suite, "R"))[0]["what is missing"]

    for c in cells(9000)[:2]:  # of bc
        write_run(tmp_path / "long", c)
    longer, others = missing("long").split(", then ")
    assert ("algo=bc" in longer, "td3_bc" in longer, "n_updates=9000" in longer) == (
        True,
        False,
        True,
    )
    assert ("algo=td3_bc" in others, "n_updates" in others) == (True, False)
    for c in cells(3000):
        write_run(tmp_path / "short", c)
    assert "n_updates" not in missing("short")
    assert missing("short") != "–"
    for c in cells(5000):
        write_run(tmp_path / "whole", c)
    assert missing("whole") == "–"


def test_lengths_of_a_suite_with_several_are_no_bar_and_impossible_ones_no_error() -> None:
    def at(steps: int) -> list[FakeCell]:
        if steps % 2:
            raise UserError("must be a multiple of algo.period=2")
        return [FakeCell(config(env=e, n_updates=steps)) for e in ("hopper", "walker2d")]

    own = [at(4000)[0], at(8000)[1]]
    group = group_of(Suite("x", own, report_options(floor=3000), at))

    def of(cell: FakeCell) -> str | None:
        c = cell.config
        names = {"algo": "td3_bc", "env": c["env"]["name"], "dataset": "offrl/medium"}
        return group({"run_id": cell.run_id, "n_updates": c["n_updates"], **names})

    hopper, walker2d = of(own[0]), of(own[1])
    assert hopper != walker2d
    assert (of(at(8000)[0]), of(at(4000)[1])) == (hopper, walker2d)
    assert of(FakeCell(config(n_updates=4001))) is None


def test_games_have_one_column_for_a_learner(tmp_path: Path) -> None:
    pong: dict[str, Any] = {"source": "atari", "quality": "qrdqn", "env": "pong"}
    two = [FakeCell(config("discrete_cql", alpha=x, **pong)) for x in (1.0, 2.0)]
    with pytest.raises(UserError, match="several settings"):
        tables(no_runs(), Suite("x", two, report_options(layout="games")), "R")
    everything = [FakeCell(config("discrete_cql", buffer_size=None, **pong))]
    text = tables(no_runs(), Suite("x", everything, report_options(layout="games")), "R")
    assert rows(text)[0]["transitions"] == "all"
