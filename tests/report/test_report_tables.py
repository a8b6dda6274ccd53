import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from pipe_tables import rows
from synthetic_runs import REFERENCES, FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.figures import curves
from offrl.report.load import load_runs, no_runs
from offrl.report.markdown import markdown
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables

CAPTION = "demo budget: too short for conclusions"


def seeds(n: int, **changes: object) -> list[FakeCell]:
    return [FakeCell(config(seeds=[s], **changes)) for s in range(n)]


def test_a_complete_cell(tmp_path: Path) -> None:
    cells = seeds(3)
    for c in cells:
        # scores 10 + 10 seed + step / 1000
        write_run(tmp_path, c, value=lambda s, t, e: 20 + 20 * (10 + 10 * s + t / 1000))
    suite = Suite("demo", cells, report_options(last_k=3, caption=CAPTION))
    text = tables(load_runs(tmp_path), suite, "REGENERATE")
    (row,) = rows(text)
    assert row == {
        "algorithm": "td3_bc",
        "dataset": "hopper-offrl/medium",
        "buffer": "100,000",
        "norm_obs": "true",
        "score (offrl-v5) ± 95%": "25.0 ± 24.8",  # t(2) = 4.303, s = 10
        "mean of last 3": "24.0 ± 24.8",
        "data mean": "40.0",
        "data best": "80.0",
        "seeds": "3/3",
        "steps": "5,000",
        "episodes": "2",
        "overrides": "–",  # the suite's command alone reproduces it
    }
    for said in (
        f"**{CAPTION}.**",
        "score of the last evaluation",
        "last 3 evaluations",
        "95% Student-t interval over seeds",
        "3 seeds, 5,000 gradient steps, an evaluation every 1,000 steps on 2 episodes",
        "Simulator: mujoco 3.3.7, gymnasium 1.4.0.",  # what else was installed is not said
        "Hopper-v5: 20.0 and 2020.0",
        "`python benchmarks/train.py experiment=demo`",
        "`python benchmarks/report.py publish demo --runs runs`",
        "`REGENERATE`",
    ):
        assert said in text, said


def test_missing_and_diverged_seeds_are_said(tmp_path: Path) -> None:
    cells = seeds(5)
    for c, status in zip(
        cells, ["complete", "complete", "diverged", "running", "interrupted"], strict=False
    ):
        write_run(tmp_path, c, status=status)
    (row,) = rows(tables(load_runs(tmp_path), Suite("demo", cells), "R"))
    assert row["seeds"] == "2/5 (1 diverged, 1 interrupted, 1 running)"
    both = 100 * (400 + 500 + 1 / 6 - 20) / 2000
    assert row["score (offrl-v5) ± 95%"].startswith(f"{(both + both + 5) / 2:.1f} ±")


def test_a_cell_whose_seeds_all_diverged_is_no_row_of_numbers(tmp_path: Path) -> None:
    cells = seeds(2)
    for c in cells:
        write_run(tmp_path, c, status="diverged", dataset=None, score=None)
    (row,) = rows(tables(load_runs(tmp_path), Suite("demo", cells), "R"))
    assert (row["seeds"], row["score ± 95%"]) == ("0/2 (2 diverged)", "–")


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config()))
    text = tables(load_runs(tmp_path), None, "R")
    (row,) = rows(text)
    assert "(n=1) without one" in text
    assert "1 seed," in text
    assert re.fullmatch(r"\d+\.\d \(n=1\)", row["score (offrl-v5) ± 95%"])


def test_a_cell_that_never_ran_prints_the_command_that_fills_it(tmp_path: Path) -> None:
    cells = [*seeds(2, algo="bc"), *seeds(2)]
    for c in cells[:2]:
        write_run(tmp_path, c)
    done, idle = rows(tables(load_runs(tmp_path), Suite("demo", cells), "R"))
    assert (done["algorithm"], done["overrides"]) == ("bc", "`algo=bc`")
    assert (idle["score (offrl-v5) ± 95%"], idle["seeds"]) == ("not run", "0/2 (2 not run)")
    words = shlex.split(idle["overrides"].strip("`"))
    # one value of algo, all seeds of the suite: those the suite sweeps by itself
    assert words == ["python", "benchmarks/train.py", *cells[2].overrides[:-1]]


def test_below_the_floor_is_not_run(tmp_path: Path) -> None:
    cells = seeds(2)
    for c in cells:
        write_run(tmp_path, c)
    runs = load_runs(tmp_path)
    at_floor = Suite("demo", cells, report_options(floor=5000))
    assert rows(tables(runs, at_floor, "R"))[0]["seeds"] == "2/2"
    text = tables(runs, Suite("demo", cells, report_options(floor=5001)), "R")
    (row,) = rows(text)
    assert row["score ± 95%"] == "not run"
    assert "less than 5,001 steps do not count" in text
    assert row["seeds"] == "0/2 (2 below the floor)"
    assert "python benchmarks/train.py experiment=demo" in row["overrides"]


def test_a_suite_without_any_record() -> None:
    text = tables(no_runs(), Suite("demo", seeds(3), report_options(caption=CAPTION)), "R")
    assert rows(text)[0]["score ± 95%"] == "not run"
    assert CAPTION in text


def test_runs_of_other_suites_are_no_rows(tmp_path: Path) -> None:
    cells = seeds(1)
    write_run(tmp_path, cells[0])
    write_run(tmp_path, FakeCell(config(seeds=[9])))
    write_run(tmp_path, FakeCell(config(algo="bc")))
    (row,) = rows(tables(load_runs(tmp_path), Suite("demo", cells), "R"))
    assert row["seeds"] == "1/1"


def test_different_references_never_share_a_column(tmp_path: Path) -> None:
    for source in ("offrl", "d4rl"):
        write_run(tmp_path, FakeCell(config(source=source)))
    for env in ("hopper", "walker2d"):
        write_run(tmp_path, FakeCell(config(source="file", quality="x", env=env)))
    text = tables(load_runs(tmp_path), None, "R")
    headers = [line for line in text.splitlines() if "algorithm" in line]
    scales = [re.findall(r"score \((.*?)\)", h) for h in headers]
    assert sorted(scales) == [
        ["d4rl"],
        ["offrl-v5"],
        ["return, Hopper-v4"],
        ["return, Walker2d-v4"],
    ]
    assert all(
        len(rows(part)) == 1
        for part in text.split("| algorithm")[1:]
        for part in ["| algorithm" + part]
    )


def test_one_reference_with_two_meanings_is_an_error(tmp_path: Path) -> None:
    one = write_run(tmp_path, FakeCell(config()))
    two = write_run(
        tmp_path, FakeCell(config("bc")), score={**REFERENCES["offrl"], "ref_max": 3000.0}
    )
    with pytest.raises(UserError, match="different returns") as e:
        tables(load_runs(tmp_path), None, "R")
    assert str(one) in str(e.value)
    assert str(two) in str(e.value)


def test_two_versions_of_the_data_are_noted(tmp_path: Path) -> None:
    for c, digest in zip(seeds(2), "ab", strict=True):
        dataset = {"id": "x", "digest": digest * 64, "n_transitions": 1, "n_episodes": 1}
        returns = {"return_mean": 1.0, "return_std": 1.0, "return_best": 1.0}
        write_run(tmp_path, c, dataset=dataset | returns)
    assert "2 different versions of the data" in tables(load_runs(tmp_path), None, "R")


def test_a_search_is_noted_once_with_what_it_tried(tmp_path: Path) -> None:
    for alpha in (1.0, 2.5):
        write_run(tmp_path, FakeCell(config(alpha=alpha)), searches={"td3_bc-ab12": 20})
    write_run(tmp_path, FakeCell(config("bc")))
    text = tables(load_runs(tmp_path), None, "R")
    assert text.count("Note: td3_bc on hopper-offrl/medium was searched, 20 configurations") == 1
    assert "Note: bc" not in text


def test_without_a_suite_a_row_carries_all_its_overrides(tmp_path: Path) -> None:
    for c in seeds(2):
        write_run(tmp_path, c)
    (row,) = rows(tables(load_runs(tmp_path), None, "R"))
    words = shlex.split(row["overrides"].strip("`"))
    assert words == [
        *("experiment=demo", "algo=td3_bc", "dataset=offrl/medium", "norm_obs=true"),
        "seeds=[0],[1]",
    ]


def test_the_order_of_overrides_is_no_difference(tmp_path: Path) -> None:
    for c, swept in zip(
        seeds(2), [("algo", "dataset", "seeds"), ("dataset", "seeds", "algo")], strict=True
    ):
        c.swept = swept
        write_run(tmp_path, c)
    (row,) = rows(tables(load_runs(tmp_path), None, "R"))
    words = shlex.split(row["overrides"].strip("`"))
    assert words == ["experiment=demo", "algo=td3_bc", "dataset=offrl/medium", "seeds=[0],[1]"]


def test_a_buffer_without_a_whole_episode_has_no_data_mean(tmp_path: Path) -> None:
    returns = {"return_mean": None, "return_std": None, "return_best": None}
    data = {"id": "x", "digest": "d", "n_transitions": 50, "n_episodes": 0} | returns
    write_run(tmp_path, FakeCell(config(buffer_size=50)), dataset=data)
    runs = load_runs(tmp_path)
    (row,) = rows(tables(runs, None, "R"))
    assert (row["data mean"], row["data best"], row["buffer"]) == ("–", "–", "50")
    assert curves(runs, None) is not None


def test_the_best_evaluation_is_a_column_of_its_own_that_says_what_it_is(tmp_path: Path) -> None:
    cell = FakeCell(config())
    write_run(tmp_path, cell, value=lambda s, t, e: 20 + 20 * (90 if t == 2000 else 30))
    text = tables(load_runs(tmp_path), Suite("demo", [cell], report_options(best=True)), "R")
    (row,) = rows(text)
    assert (row["score (offrl-v5) ± 95%"], row["best*"]) == ("30.0 (n=1)", "90.0 (n=1)")
    assert "`best*`: each seed's best evaluation, optimistic" in text


def test_a_baseline_gives_every_other_row_its_difference_per_seed(tmp_path: Path) -> None:
    def score(gain: float) -> Callable[[int, int, int], float]:
        # bc ends at 10, 40, 70
        return lambda seed, t, e: 20 + 20 * (10 + 30 * seed + gain * (1 + seed) + (t - 5000) / 1000)

    cells = [FakeCell(config(a, [s])) for a in ("cql", "bc") for s in range(3)]
    for c in cells:
        write_run(tmp_path, c, value=score(2.0 if c.config["algo"]["name"] == "cql" else 0.0))
    suite = Suite("demo", cells, report_options(last_k=3, baseline="bc"))
    text = tables(load_runs(tmp_path), suite, "R")
    cql, bc = rows(text)
    assert cql["difference to bc ± 95%"] == "+4.0 ± 5.0"  # of 2, 4, 6: t(2) = 4.303, s = 2
    assert cql["difference to bc, mean of last 3"] == "+4.0 ± 5.0"
    assert bc["difference to bc ± 95%"] == bc["difference to bc, mean of last 3"] == "–"
    assert "`difference to bc`: a seed's score minus that of the same seed" in text
    only_last = tables(
        load_runs(tmp_path), Suite("demo", cells, report_options(baseline="bc")), "R"
    )
    assert "mean of last" not in only_last
    assert rows(only_last)[0]["difference to bc ± 95%"] == "+4.0 ± 5.0"


@pytest.mark.parametrize(
    "changes", [{"quality": "expert"}, {"buffer_size": 5}, {"norm_obs": False}]
)
def test_a_baseline_is_of_the_same_data(changes: dict[str, object]) -> None:
    cells = [FakeCell(config("cql")), FakeCell(config("bc", **changes))]
    with pytest.raises(UserError, match=r"report.baseline=bc: 0 rows of it, .* of cql on hopper"):
        tables(no_runs(), Suite("demo", cells, report_options(baseline="bc")), "R")


def test_two_baselines_are_none() -> None:
    cells = [FakeCell(config("cql")), *(FakeCell(config("bc", alpha=a)) for a in (1.0, 2.0))]
    with pytest.raises(UserError, match=r"report.baseline=bc: 2 rows"):
        tables(no_runs(), Suite("demo", cells, report_options(baseline="bc")), "R")


def test_too_few_evaluations_for_the_mean_are_a_dash(tmp_path: Path) -> None:
    cells = seeds(2, eval_every=2500)
    for c in cells:
        write_run(tmp_path, c)
    text = tables(load_runs(tmp_path), Suite("demo", cells, report_options(last_k=3)), "R")
    assert rows(text)[0]["mean of last 3"] == "–"
    assert "fewer evaluations" in text


def test_rows_of_one_dataset_stand_together(tmp_path: Path) -> None:
    cells = [FakeCell(config(a, quality=q)) for a in ("td3_bc", "bc") for q in ("medium", "expert")]
    for c in cells:
        write_run(tmp_path, c)
    runs = load_runs(tmp_path)
    of_suite = [
        (r["algorithm"], r["dataset"][13:]) for r in rows(tables(runs, Suite("s", cells), "R"))
    ]
    assert of_suite == [
        *(("td3_bc", "medium"), ("bc", "medium")),
        *(("td3_bc", "expert"), ("bc", "expert")),
    ]
    of_all = [(r["algorithm"], r["dataset"][13:]) for r in rows(tables(runs, None, "R"))]
    assert of_all == [
        *(("bc", "expert"), ("td3_bc", "expert")),
        *(("bc", "medium"), ("td3_bc", "medium")),
    ]


def test_all_data_has_no_number(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config(buffer_size=None)))
    assert rows(tables(load_runs(tmp_path), None, "R"))[0]["buffer"] == "all"


def test_no_runs_at_all() -> None:
    assert tables(no_runs(), None, "R").startswith("No runs.")


def test_columns_line_up_and_pipes_are_escaped() -> None:
    text = markdown([("a", False), ("number", True), ("last", False)], [["xyz", "1", "p|q"]])
    assert text.splitlines() == [
        "| a   | number | last |",
        "| --- | -----: | --- |",
        "| xyz |      1 | p\\|q |",
    ]
