"""How long the rest of a suite takes: from measured speeds alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import cell

from offrl.cell import Cell
from offrl.estimate import Estimate, describe, time_left
from offrl.run import run_dir_of


def write(c: Cell, folder: Path, step: int, wall_s: float, status: str = "complete") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"config": c.config, "step": step, **seconds(wall_s)}
    (folder / "manifest.json").write_text(json.dumps(content | {"status": status, "error": None}))


def seconds(wall_s: float) -> dict[str, Any]:
    """That `wall_s` was for training and evaluations; making the data took longer."""
    return {"wall_s": wall_s + 100.0, "split_s": {"data": 100.0, "update": wall_s}}


def cells(tmp_path: Path, *algos: str) -> list[Cell]:
    args = ("dataset=offrl/medium", f"out={tmp_path / 'runs'}", "n_updates=10000", "seeds=[0,1]")
    return [cell(f"algo={a}", *args) for a in algos]


def test_what_is_left_at_the_speed_of_runs_of_the_same_algorithm(tmp_path: Path) -> None:
    bc, td3_bc, sac_like = cells(tmp_path, "bc", "td3_bc", "td3_bc_seed")
    write(bc, run_dir_of(bc), 10000, 4.0)  # 2 seeds: 5000 steps/s
    write(td3_bc, run_dir_of(td3_bc), 2000, 8.0, "running")  # 500 steps/s, 16000 steps to do
    left = time_left([bc, td3_bc, sac_like], tmp_path / "none")
    assert left == Estimate(2, 16000 / 500 / 3600, {"td3_bc_seed": 1})
    assert "1 of 3 cells complete" in describe(left, 3)
    assert "td3_bc_seed (1 cells)" in describe(left, 3)


def test_cells_run_on_no_more_cores_than_there_are_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert "2.5 h on the 4 cores" in describe(Estimate(9, 10.0, {"bc": 2}), 9)
    assert "5.0 h on the 4 cores" in describe(Estimate(3, 10.0, {"bc": 1}), 5)


def test_the_median_of_several_runs_and_the_published_ones_where_there_is_none(
    tmp_path: Path,
) -> None:
    bc, td3_bc = cells(tmp_path, "bc", "td3_bc")
    for i, wall_s in enumerate((1.0, 2.0, 50.0)):
        write(bc, tmp_path / "runs" / f"other{i}", 1000, wall_s)
    suite = tmp_path / "results" / "suite"
    suite.mkdir(parents=True)
    lines = [json.dumps({"config": c.config, "step": 1000, **seconds(20.0)}) for c in (bc, td3_bc)]
    (suite / "runs.jsonl").write_text("\n".join(lines))
    left = time_left([bc, td3_bc], tmp_path / "results")
    assert left.hours == pytest.approx((20000 / 1000 + 20000 / 100) / 3600)
    assert not left.unmeasured


def test_runs_that_have_just_begun_say_nothing(tmp_path: Path) -> None:
    """Compiling is most of their time: they may not stand for the published runs."""
    (bc,) = cells(tmp_path, "bc")
    write(bc, tmp_path / "runs" / "tried", 20, 60.0)
    suite = tmp_path / "results" / "suite"
    suite.mkdir(parents=True)
    line = json.dumps({"config": bc.config, "step": 1000, **seconds(20.0)})
    (suite / "runs.jsonl").write_text(line)
    left = time_left([bc], tmp_path / "results")
    assert left.hours == pytest.approx(20000 / 100 / 3600)


def test_a_finished_suite_and_damaged_records(tmp_path: Path) -> None:
    (bc,) = cells(tmp_path, "bc")
    (tmp_path / "runs" / "damaged").mkdir(parents=True)
    (tmp_path / "runs" / "damaged" / "manifest.json").write_text("{")
    write(bc, run_dir_of(bc), 10000, 4.0)
    left = time_left([bc], tmp_path / "none")
    assert left == Estimate(0, 0.0, {})
    assert describe(left, 1) == "1 of 1 cells complete"
