import csv
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import FakeCell, config, write_run

from offrl.data.dataset import ScoreRef
from offrl.errors import UserError
from offrl.report.about import about
from offrl.report.load import load_runs, no_runs
from offrl.report.published import SEED, columns_of, in_column, published
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables


def test_a_number_is_the_one_that_was_printed() -> None:
    (corl,) = [
        p
        for p in published("d4rl/hopper-medium-v2", "td3_bc")
        if (p.source, p.protocol) == ("corl", "last")
    ]
    assert (corl.mean, corl.std, corl.n_seeds) == ("60.37", "3.49", 4)
    assert published("hopper-medium-v2", "td3_bc") == published("d4rl/hopper-medium-v2", "td3_bc")


def test_versions_never_meet() -> None:
    v0, v2 = (published(f"hopper-medium-{v}", "td3_bc") for v in ("v0", "v2"))
    assert v0
    assert v2
    assert not {p.source for p in v0} & {"corl", "rebrac_paper"}
    assert published("hopper-medium", "td3_bc") == []
    assert published("offrl/hopper/medium-v0", "td3_bc") == []


def test_averages_and_empty_numbers_are_no_datasets() -> None:
    file = resources.files("offrl") / "reference" / "published_scores.csv"
    with file.open(encoding="utf-8") as f:
        printed = list(csv.DictReader(f))
    averages = {r["dataset"] for r in printed if r["dataset"].startswith("average:")}
    assert averages
    for name in averages:
        assert published(name, "td3_bc") == []
    (empty,) = [r for r in printed if not r["mean"]]
    rest = published(empty["dataset"], empty["algo"], empty["metric"])
    assert rest
    assert all(p.mean for p in rest)


def test_a_variant_of_the_other_normalisation_is_left_out() -> None:
    def means(norm_obs: bool | None) -> set[str]:
        rows = published("walker2d-medium-v2", "td3_bc", norm_obs=norm_obs)
        return {p.mean for p in rows if p.source == "tianshou_seed_derived"}

    assert means(True) == {"88.23"}
    assert means(False) == {"86.78"}
    assert means(None) == {"88.23", "86.78"}


def test_the_seed_project_s_numbers_are_normalised_as_ours_are() -> None:
    file = resources.files("offrl") / "reference" / "published_scores.csv"
    with file.open(encoding="utf-8") as f:
        printed = list(csv.DictReader(f))
    raw = [r for r in printed if r["source"] == "tianshou_seed" and r["dataset"].endswith(("-v2",))]
    derived = [r for r in printed if r["source"] == SEED]
    assert len(derived) == 16
    references = {
        "halfcheetah": ScoreRef("d4rl", -280.178953, 12135.0),
        "walker2d": ScoreRef("d4rl", 1.629008, 4592.3),
    }
    for d in derived:
        (r,) = [
            r
            for r in raw
            if all(r[k] == d[k] for k in ("dataset", "algo", "table"))
            and r["variant"].startswith(d["variant"].partition("derived")[0].rstrip("; "))
        ]
        score = references[d["dataset"].partition("-")[0]].normalise(np.array([float(r["mean"])]))
        assert d["mean"] == f"{score[0]:.2f}"


def test_the_seed_project_s_settings_stand_beside_its_numbers_alone() -> None:
    whole = {"source": "d4rl", "buffer_size": None, "n_updates": 1_000_000, "env": "halfcheetah"}
    a = about(config("cql_seed", norm_obs=False, **whole), "x")
    assert [p.mean for p in in_column(a, f"{SEED}/unstated")] == ["54.66"]
    assert in_column(a, "corl/last") == []


def test_columns_are_those_with_a_number() -> None:
    whole = {"source": "d4rl", "buffer_size": None, "n_updates": 1_000_000}
    abouts = [
        about(config("bcq", quality=q, norm_obs=False, **whole), "x") for q in ("random", "medium")
    ]
    assert columns_of(abouts[:1]) == []
    assert columns_of(abouts) == ["robomimic/last10mean"]


def test_columns_beside_our_d4rl_scores(tmp_path: Path) -> None:
    whole = {"source": "d4rl", "buffer_size": None, "n_updates": 1_000_000, "eval_every": 500_000}
    cells = [FakeCell(config(**whole)), FakeCell(config("bc", **whole))]
    write_run(tmp_path, cells[0], evaluations=[500_000, 1_000_000], step=1_000_000)
    suite = Suite("d4rl", cells, report_options(published=("corl/last", "rebrac_paper/last")))
    text = tables(load_runs(tmp_path), suite, "R")
    td3_bc, bc = [line for line in text.splitlines() if "hopper-d4rl/medium" in line]
    assert " published: corl/last |" in text
    assert "60.37 (std 3.49, n=4)" in td3_bc
    assert "53.51 (std 1.76, n=4)" in bc  # beside a cell that never ran, too
    assert "not run" in bc
    assert "arXiv:2210.07105" in text
    assert "tuned per dataset by the ReBRAC authors" in text


@pytest.mark.parametrize("change", [{"buffer_size": 10_000}, {"n_updates": 500_000}])
def test_nothing_beside_a_part_of_the_data_or_of_the_training(
    tmp_path: Path, change: dict[str, int]
) -> None:
    whole = {"source": "d4rl", "buffer_size": None, "n_updates": 1_000_000, "eval_every": 500_000}
    cell = FakeCell(config(**(whole | change)))
    suite = Suite("d4rl", [cell], report_options(published=("corl/last",)))
    assert "60.37" not in tables(no_runs(), suite, "R")


def test_no_such_columns_beside_the_suite_s_own_data(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config()))
    assert "published" not in tables(load_runs(tmp_path), None, "R")


def test_an_unknown_column_names_those_that_there_are() -> None:
    suite = Suite(
        "x", [FakeCell(config(source="d4rl"))], report_options(published=("corl/median",))
    )
    with pytest.raises(UserError, match=r"'corl/median' is none of corl/best, corl/last"):
        tables(no_runs(), suite, "R")


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (
            {"lask_k": 3},
            "lask_k: unknown key; .*report has title, caption, last_k, best, baseline, floor",
        ),
        ({"last_k": 0}, "last_k=0: must be at least 1"),
        ({"last_k": None}, "last_k: .*'None' for field of type 'int'"),
        ({"last_k": True}, "last_k: .*'True' .* could not be converted to Integer"),
        ({"floor": -1}, "floor=-1: must be at least 0"),
        ({"floor": "1e5"}, "floor: .* write integers in full"),
        ({"title": ["a"]}, "title: "),
        ({"published": "corl/last"}, "published: must be a list"),
        ({"best": "maybe"}, "best: .*'maybe' is not a valid bool"),
        ({"baseline": "bc", "layout": "grid"}, "baseline: only report.layout=rows"),
        ({"layout": "pairs"}, "layout=pairs: choose rows, grid, norm_obs, games"),
    ],
)
def test_bad_report_options_name_the_key(node: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as e:
        report_options(**node)
    assert str(e.value).startswith("train.yaml: report.")
