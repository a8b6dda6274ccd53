"""Which runs count for a row: floors, other lengths, the commands that fill it."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pipe_tables import rows
from synthetic_runs import FakeCell, config, write_run

from offrl.report.commands import fill_command
from offrl.report.groups import summarise
from offrl.report.load import load_runs, no_runs
from offrl.report.publish import publish
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables

FLOOR = 3000


def cells(steps: int, seeds: int = 3, algos: Sequence[str] = ("td3_bc",)) -> list[FakeCell]:
    """As a suite at another length has them: a schedule of the algorithm follows the length."""
    return [
        FakeCell(config(a, [s], n_updates=steps, alpha=0.04 * steps))
        for a in algos
        for s in range(seeds)
    ]


def suite(floor: int = FLOOR) -> Suite:
    return Suite("demo", cells(5000), report_options(floor=floor), cells)


def length(root: Path, of: Suite) -> tuple[int, str]:
    (g,) = summarise(load_runs(root), of)
    return g.about.n_updates, g.seeds


def test_another_length_from_the_floor_on_counts_for_the_cell(tmp_path: Path) -> None:
    for c in cells(3000):
        write_run(tmp_path, c)
    assert length(tmp_path, suite()) == (3000, "3/3")
    assert length(tmp_path, suite(floor=0)) == (5000, "0/3 (3 not run)")
    assert length(tmp_path, suite(floor=3001)) == (5000, "0/3 (3 not run)")
    (row,) = rows(tables(load_runs(tmp_path), suite(), "R"))
    assert row["steps"] == "3,000"
    assert row["overrides"] == "`n_updates=3000`"  # what makes this row, not the suite's


def test_a_row_has_one_length_that_of_most_seeds_and_then_the_longest(tmp_path: Path) -> None:
    for c in [*cells(3000), *cells(9000)[:2]]:
        write_run(tmp_path, c)
    assert length(tmp_path, suite()) == (3000, "3/3")
    write_run(tmp_path, cells(9000)[2])
    assert length(tmp_path, suite()) == (9000, "3/3")


def test_another_algorithm_s_length_is_never_composed(tmp_path: Path) -> None:
    def never(_: int) -> list[FakeCell]:
        raise AssertionError("composed")

    for c in cells(9000, algos=["bc"]):
        write_run(tmp_path, c)
    assert length(tmp_path, replace(suite(), at=never)) == (5000, "0/3 (3 not run)")


def test_a_suite_that_sweeps_its_length_takes_no_other(tmp_path: Path) -> None:
    both = [*cells(3000), *cells(5000)]
    of = Suite("demo", both, report_options(floor=FLOOR), cells)
    for c in cells(9000):
        write_run(tmp_path, c)
    assert [g.seeds for g in summarise(load_runs(tmp_path), of)] == ["0/3 (3 not run)"] * 2


def test_what_counts_is_published_and_stays(tmp_path: Path) -> None:
    for c in cells(3000):
        write_run(tmp_path / "runs", c)
    for c in cells(2000):
        write_run(tmp_path / "runs", c)
    done = publish(suite(), tmp_path / "runs", tmp_path / "results")
    assert set(done.added) == {c.run_id for c in cells(3000)}
    for c in cells(9000):
        write_run(tmp_path / "more", c)
    again = publish(suite(), tmp_path / "more", tmp_path / "results")
    assert (set(again.kept), again.dropped) == (set(done.added), ())
    assert length(again.folder, suite()) == (9000, "3/3")


def test_a_command_names_only_what_the_suite_does_not_sweep_anyway() -> None:
    of = Suite("demo", cells(5000, 2, ["bc", "cql", "td3_bc"]))

    def words(*algos: str) -> list[str]:
        wanted = [c for c in of.cells if c.config["algo"]["name"] in algos]
        return shlex.split(fill_command(wanted, of))[2:]

    fixed = ["experiment=demo", "dataset=offrl/medium", "norm_obs=true"]
    assert words("bc", "cql", "td3_bc") == fixed
    assert words("cql") == [fixed[0], "algo=cql", *fixed[1:]]
    assert words("cql", "td3_bc") == [fixed[0], "algo=cql,td3_bc", *fixed[1:]]
    one = shlex.split(fill_command(of.cells[1:2], of))
    assert one[-1] == "seeds=[1]"


@pytest.mark.full
def test_the_command_of_a_row_runs_the_row() -> None:
    """Composed by Hydra itself, for rows of several seeds and several algorithms."""
    from offrl.plan import plan

    of = Suite("demo", plan(["experiment=demo"]).cells)
    groups = summarise(no_runs(), of)
    for wanted in (groups[:1], [g for g in groups if g.about.dataset == "offrl/expert"]):
        expected = {c.run_id for g in wanted for c in g.cells}
        words = shlex.split(fill_command([c for g in wanted for c in g.cells], of))
        assert {c.run_id for c in plan(words[2:]).cells} == expected
