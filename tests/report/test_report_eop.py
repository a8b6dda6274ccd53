import csv
from pathlib import Path

import pytest
from pipe_tables import rows
from synthetic_runs import FakeCell, config, write_run

from offrl.errors import UserError
from offrl.report.eop import expected_maximum, table
from offrl.report.groups import summarise
from offrl.report.load import load_runs

GOLDEN = Path(__file__).parent / "golden"


def read(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(newline="") as f:
        return list(csv.DictReader(f))


def test_the_golden_table_comes_out() -> None:
    inputs = read("eop_inputs.csv")
    expected = read("eop_expected.csv")
    assert len(expected) == 53
    for e in expected:
        values = [
            float(r["score"])
            for r in inputs
            if (r["domain"], r["algo"]) == (e["domain"], e["algo"])
        ]
        assert len(values) == int(e["n_policies_total"])
        mean, std = expected_maximum(values, int(e["n_policies_evaluated"]))
        assert f"{mean:.6f}" == e["recomputed_mean"]
        assert f"{std:.6f}" == e["recomputed_std"]
        assert mean == pytest.approx(float(e["published_mean"]), abs=0.051)


def test_by_hand() -> None:
    # two draws of {1, 3}: the maximum is 1 with probability 1/4
    assert expected_maximum([3.0, 1.0], 1) == (2.0, 1.0)
    mean, std = expected_maximum([3.0, 1.0], 2)
    assert (mean, std**2) == (2.5, pytest.approx(0.75))
    assert expected_maximum([5.0], 7) == (5.0, 0.0)


def sweep(root: Path, env: str, level: float, alphas: dict[float, float], seeds: int = 2) -> None:
    """A setting's score is its value, plus the level of the task; seeds lie 10 on either side."""
    for alpha, value in alphas.items():
        for s in range(seeds):
            cell = FakeCell(config(alpha=alpha, env=env, seeds=[s]))
            score = value + level + (20 * s - 10)
            write_run(root, cell, value=lambda *_, score=score: 20 + 20 * score)


def test_a_sweep_of_settings_on_two_tasks(tmp_path: Path) -> None:
    sweep(tmp_path, "hopper", 0.0, {1.0: 30.0, 2.5: 50.0, 5.0: 10.0})
    sweep(tmp_path, "walker2d", 20.0, {1.0: 30.0, 2.5: 10.0, 5.0: 50.0})
    write_run(tmp_path, FakeCell(config("bc")))  # one setting: no row
    text = table(summarise(load_runs(tmp_path), None))
    both, hopper, walker2d = rows(text)
    assert [both["algorithm"], both["settings"]] == ["td3_bc", "3/3"]
    assert both["dataset (offrl-v5)"] == "mean over the tasks"
    # means over the tasks: 40, 40, 40; on hopper 30, 50, 10
    assert (both["n = 1"], both["n = 3"]) == ("40.0 (0.0)", "40.0 (0.0)")
    assert hopper["n = 1"] == "30.0 (16.3)"
    assert hopper["n = 3"] == f"{(10 + 7 * 30 + 19 * 50) / 27:.1f} (10.9)"
    assert walker2d["n = 1"] == "50.0 (16.3)"
    assert "n = 5" not in hopper
    assert "standard deviation" in text


def test_a_setting_without_all_its_seeds_is_said_to_be_left_out(tmp_path: Path) -> None:
    sweep(tmp_path, "hopper", 0.0, {1.0: 30.0, 2.5: 50.0})
    write_run(tmp_path, FakeCell(config(alpha=9.0, seeds=[0])))
    write_run(tmp_path, FakeCell(config(alpha=9.0, seeds=[1])), status="diverged")
    text = table(summarise(load_runs(tmp_path), None))
    (row,) = rows(text)
    assert (row["settings"], row["n = 1"]) == ("2/3", "40.0 (10.0)")
    assert "flatters" in text


def test_without_a_sweep_the_error_shows_one(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(config()))
    with pytest.raises(UserError, match=r"algo\.alpha=1,2\.5,5"):
        table(summarise(load_runs(tmp_path), None))
