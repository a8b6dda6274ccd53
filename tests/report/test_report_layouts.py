"""The short tables: a grid of algorithms, and the pairs of an ablation."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pipe_tables import rows
from synthetic_runs import REFERENCES, FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.load import load_runs, no_runs
from offrl.report.readme import build as build_readme
from offrl.report.readme import closing, opening
from offrl.report.stats import estimate
from offrl.report.suite import Suite, report_options
from offrl.report.tables import long_tables, tables

WHOLE = {"source": "d4rl", "buffer_size": None, "n_updates": 1_000_000, "eval_every": 500_000}
SWEPT = ("algo", "env", "dataset", "norm_obs", "seeds")
GRID = report_options(
    layout="grid",
    floor=1_000_000,
    published=("corl/last", "rebrac_paper/last", "robomimic/last10mean"),
)
PAIR_SOURCES = ("tianshou_seed_derived/unstated", "corl/last")
PAIRS = report_options(layout="norm_obs", last_k=2, published=PAIR_SOURCES)


def cell(algo: str, seed: int, **changes: object) -> FakeCell:
    norm = {"norm_obs": algo == "td3_bc"}
    return FakeCell(config(algo, [seed], **(WHOLE | norm | changes)), swept=SWEPT)


def grid() -> Suite:
    cells = [
        cell(a, s, env=e, quality=q)
        for a in ("bc", "bcq", "td3_bc")
        for e in ("hopper", "walker2d")
        for q in ("medium", "expert")
        for s in range(2)
    ]
    return Suite("x", cells, GRID)


def write(root: Path, cells: Sequence[FakeCell], status: str = "complete") -> None:
    for c in cells:
        n = c.config["n_updates"]
        write_run(root, c, status, step=n)


def test_a_grid_that_never_ran_shows_what_others_found_and_how_to_fill_it() -> None:
    text = tables(no_runs(), grid(), "R")
    table = rows(text)
    assert [r["dataset (score)"] for r in table] == [
        *("hopper-d4rl/medium", "hopper-d4rl/expert"),
        *("walker2d-d4rl/medium", "walker2d-d4rl/expert"),
    ]
    medium, expert, *_ = table
    assert (medium["bc"], medium["td3_bc"]) == ("not run (a 53.51)", "not run (a 60.37)")
    assert medium["bcq"] == "not run (c 63.9)"
    assert (expert["bc"], expert["td3_bc"]) == ("not run", "not run (b 109.6)")
    assert medium["what is missing"] == (
        "`python benchmarks/train.py experiment=demo env=hopper dataset=d4rl/medium`"
    )
    for said in (
        "a: `corl/last` (corl-team",
        "b: `rebrac_paper/last`",
        "c: `robomimic/last10mean`",
    ):
        assert said in text
    assert "tuned per dataset by the ReBRAC authors" in text


def test_a_grid_that_ran_in_part(tmp_path: Path) -> None:
    suite = grid()
    hopper = [c for c in suite.cells if c.config["env"]["name"] == "hopper"]
    medium = [c for c in hopper if c.config["dataset"]["quality"] == "medium"]
    assert all(isinstance(c, FakeCell) for c in suite.cells)
    write(tmp_path, medium[:3])  # bc 2/2, bcq 1/2
    write(tmp_path, medium[4:5], "diverged")
    write(tmp_path, medium[5:], "diverged")
    first, *_ = rows(tables(load_runs(tmp_path), suite, "R"))
    assert first["dataset (score, d4rl)"] == "hopper-d4rl/medium"
    assert first["bc"].endswith("(a 53.51)")
    assert "±" in first["bc"]
    assert "(n=1), 1/2 (1 not run) (c 63.9)" in first["bcq"]
    assert first["td3_bc"] == "0/2 (2 diverged) (a 60.37)"
    assert (first["data mean"], first["data best"]) == ("25.8", "50.4")
    assert list(first).index("data best") == list(first).index("data mean") + 1
    # td3_bc ended: only bcq is missing
    assert "algo=bcq env=hopper dataset=d4rl/medium" in first["what is missing"]


def test_a_grid_s_mean_is_of_algorithms_that_have_every_row(tmp_path: Path) -> None:
    cells = [
        cell(a, s, quality=q)
        for a in ("bc", "bcq", "td3_bc")
        for q in ("medium", "expert")
        for s in range(2)
    ]
    low, high = REFERENCES["d4rl"]["ref_min"], REFERENCES["d4rl"]["ref_max"]

    def text(*lost: int, became: str = "not run") -> str:
        """Cell i has a score of 10 i in all evaluations."""
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for i, c in enumerate(cells):
            status = became if i in lost else "complete"
            if status != "not run":
                value = low + (high - low) * i / 10
                write_run(root, c, status, value=lambda *_, v=value: v)
        return tables(load_runs(root), Suite("x", cells, GRID), "R")

    medium, expert, mean = rows(text())
    assert (medium["bc"], expert["bc"]) == ("5.0 ± 63.5 (a 53.51)", "25.0 ± 63.5")
    assert list(mean.values()) == ["mean", "25.8", "–", "15.0", "55.0", "95.0", "–"]
    assert "`mean`: over the rows" in text()

    assert rows(text(0))[-1]["bc"] == "17.5 (n=1)"  # of 10 and 25
    assert rows(text(0, 1))[-1]["bc"] == "–"
    assert rows(text(0, became="diverged"))[-1]["bc"] == "–"
    without_a_row = text(0, 1, 4, 5, 8, 9)
    assert len(rows(without_a_row)) == 2
    assert "`mean`" not in without_a_row


def test_means_of_unlike_budgets_are_none(tmp_path: Path) -> None:
    cells = [cell("bc", 0, quality="medium"), cell("bc", 0, quality="expert", n_updates=2_000_000)]
    write(tmp_path, cells)
    suite = Suite("x", cells, report_options(layout="grid"))
    assert [r["dataset (score, d4rl)"] for r in rows(tables(load_runs(tmp_path), suite, "R"))] == [
        *("hopper-d4rl/medium", "hopper-d4rl/expert")
    ]


def test_a_grid_s_cell_below_the_floor_is_not_run(tmp_path: Path) -> None:
    cells = [cell("bc", s, n_updates=500_000) for s in range(2)]
    write(tmp_path, cells)
    (row,) = rows(tables(load_runs(tmp_path), Suite("x", cells, GRID), "R"))
    assert row["bc"] == "not run"
    (row,) = rows(
        tables(load_runs(tmp_path), Suite("x", cells, report_options(layout="grid")), "R")
    )
    assert "±" in row["bc"]


def test_a_grid_of_several_lengths_says_which(tmp_path: Path) -> None:
    cells = [
        *(cell("bc", s) for s in range(2)),
        *(cell("bcq", s, n_updates=2000000) for s in (0, 1)),
    ]
    write(tmp_path, cells)
    (row,) = rows(
        tables(load_runs(tmp_path), Suite("x", cells, report_options(layout="grid")), "R")
    )
    assert "1,000,000 steps" in row["bc"]
    assert "2,000,000 steps" in row["bcq"]


def test_the_long_page_has_every_row_and_every_source() -> None:
    text = long_tables(no_runs(), grid(), "R")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        *("# x", "## bc", "## bcq", "## td3_bc", "## How to read it"),
    ]
    bcq = rows(text.partition("## bcq")[2].partition("## td3_bc")[0])
    assert len(bcq) == 4
    sources = [k for k in bcq[0] if k.startswith("published")]
    assert sources == ["published: robomimic/last10mean"]
    assert bcq[0]["overrides"] == (
        "`python benchmarks/train.py experiment=demo algo=bcq env=hopper dataset=d4rl/medium "
        "norm_obs=false`"
    )


def test_the_readme_links_the_page(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{opening('x')}\n{closing('x')}\n")
    files = build_readme(readme, tmp_path / "results", lambda name: grid())
    assert set(files) == {readme, tmp_path / "results" / "x" / "table.md"}
    assert "[results/x/table.md](results/x/table.md)" in files[readme]
    assert "## td3_bc" in files[tmp_path / "results" / "x" / "table.md"]


def pairs(quality: str = "medium") -> list[FakeCell]:
    return [
        cell("td3_bc", s, env="walker2d", quality=quality, norm_obs=n)
        for n in (True, False)
        for s in range(3)
    ]


def score_of(cell: FakeCell) -> float:
    """Seeds lie far apart; normalised or not, they differ by 1, 2 and 6."""
    seed = cell.config["seeds"][0]
    return 100.0 * seed + (0 if not cell.config["norm_obs"] else [1, 2, 6][seed])


def write_pairs(root: Path, cells: Sequence[FakeCell]) -> None:
    low, high = -20.272305, 3234.3
    for c in cells:
        value = low + (high - low) / 100 * score_of(c)
        write_run(root, c, step=c.config["n_updates"], value=lambda *_, v=value: v)


def test_a_difference_is_paired_by_seed(tmp_path: Path) -> None:
    cells = pairs()
    write_pairs(tmp_path, cells)
    text = tables(load_runs(tmp_path), Suite("x", cells, PAIRS), "R")
    (row,) = rows(text)
    assert (row["data mean"], row["data best"]) == ("25.8", "50.4")
    assert list(row).index("data best") == list(row).index("data mean") + 1
    assert row["published: corl/last"] == "–"  # it does not say which of the two it is
    expected = estimate([1.0, 2.0, 6.0])
    assert expected.half_width is not None
    assert row["difference ± 95%"] == f"+{expected.mean:.1f} ± {expected.half_width:.1f}"
    assert row["difference, mean of last 2"] == row["difference ± 95%"]
    assert row["norm_obs=true (d4rl) ± 95%"].startswith("103.0 ± 25")  # seeds are far apart
    assert row["published: tianshou_seed_derived/unstated"] == "88.23 (n=?) / 86.78 (n=?)"
    assert "minus norm_obs=false of a seed" in text
    assert "best of 201 evaluations" in text


def test_a_pair_lacks_seeds(tmp_path: Path) -> None:
    cells = pairs()
    write_pairs(tmp_path, [*cells[:2], *cells[4:]])  # true: 0, 1; false: 1, 2
    (row,) = rows(tables(load_runs(tmp_path), Suite("x", cells, PAIRS), "R"))
    assert row["difference ± 95%"] == "+2.0 (n=1)"  # seed 1
    assert row["seeds"] == "2/3 (1 not run)"


def test_half_a_pair_is_not_run(tmp_path: Path) -> None:
    cells = pairs()
    write_pairs(tmp_path, cells[:3])
    (row,) = rows(tables(load_runs(tmp_path), Suite("x", cells, PAIRS), "R"))
    assert row["norm_obs=false (d4rl) ± 95%"] == "not run"
    assert row["difference ± 95%"] == "–"
    assert row["seeds"] == "3/3 / 0/3 (3 not run)"
    assert row["overrides"].startswith("`python benchmarks/train.py experiment=demo")


def test_pairs_of_other_lengths_have_no_difference(tmp_path: Path) -> None:
    cells = [cell("td3_bc", 0), cell("td3_bc", 0, norm_obs=False, n_updates=2_000_000)]
    write(tmp_path, cells)
    (row,) = rows(tables(load_runs(tmp_path), Suite("x", cells, PAIRS), "R"))
    assert row["difference ± 95%"] == "–"
    assert row["steps"] == "1,000,000 / 2,000,000"


@pytest.mark.parametrize(
    "wrong", [pairs()[:3], [*pairs(), cell("td3_bc", 0, env="walker2d", alpha=9.0)]]
)
def test_a_suite_without_pairs_is_an_error(wrong: list[FakeCell]) -> None:
    with pytest.raises(UserError, match="wants a suite that sweeps norm_obs: true,false"):
        tables(no_runs(), Suite("x", wrong, PAIRS), "R")
