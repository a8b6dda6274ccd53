"""The table of games: raw returns, human-normalised scores, and the seed project's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from pipe_tables import rows
from synthetic_runs import FakeCell, config, write_run

from offrl.report import games
from offrl.report.load import load_runs, no_runs
from offrl.report.suite import Suite, report_options
from offrl.report.tables import tables

OPTIONS = report_options(layout="games", floor=20_000)


def cell(algo: str, size: int | None, seed: int, env: str = "pong", **changes: Any) -> FakeCell:
    values = {"source": "atari", "quality": "qrdqn", "norm_obs": False, "n_updates": 20_000}
    values |= {"eval_every": 10_000, "buffer_size": size, "env": env}
    swept = ("algo", "env", "dataset", "seeds")
    return FakeCell(config(algo, [seed], **(values | changes)), swept=swept)


CELLS = [
    *(cell("discrete_bc", 100_000, s) for s in range(2)),
    *(cell("discrete_cql", 100_000, s, min_q_weight=10.0) for s in range(2)),
    *(cell("discrete_cql", 10_000, s, min_q_weight=1.0) for s in range(2)),
    *(cell("discrete_bc", 1_000_000, s, env="breakout") for s in range(2)),
]
SUITE = Suite("x", CELLS, OPTIONS)
PLAYED_ON = {"mujoco": "3.3.7", "ale-py": "0.12.1", "gymnasium": "1.4.0"}


def test_what_never_ran_stands_beside_what_was_published() -> None:
    first, published, small, theirs, breakout, _ = rows(tables(no_runs(), SUITE, "R"))
    assert (first["game"], first["transitions"]) == ("pong-atari/qrdqn", "100,000")
    assert (first["discrete_bc"], first["discrete_cql"]) == ("not run", "not run")
    assert first["parameters"] == "20,000 steps; min_q_weight 10 (discrete_cql)"
    assert first["what is missing"].startswith("`python benchmarks/train.py ")
    assert published["game"] == "published"
    assert (published["online expert"], published["behaviour"]) == ("20.5", "5.8")
    assert (published["discrete_bc"], published["discrete_cql"]) == ("–", "21")
    assert (small["discrete_bc"], small["discrete_cql"]) == ("–", "not run")
    assert (theirs["behaviour"], theirs["discrete_cql"]) == ("–", "1.8")
    assert (breakout["game"], breakout["discrete_bc"]) == ("breakout-atari/qrdqn", "not run")
    policy, run = breakout["what is missing"].split(", then ")  # the suite has none of Breakout
    assert policy == "`python benchmarks/collect.py env=breakout algo=qrdqn out=DIR publish=true`"
    assert "env=breakout" in run


def test_all_of_the_data_stands_beside_numbers_of_as_much(tmp_path: Path) -> None:
    suite = Suite("x", [c := cell("discrete_cql", None, 0)], OPTIONS)
    (first,) = rows(tables(no_runs(), suite, "R"))
    assert (first["transitions"], first["discrete_cql"]) == ("all", "not run")
    write_run(tmp_path, c, numerics=PLAYED_ON)  # on 100,000
    _, published = rows(tables(load_runs(tmp_path), suite, "R"))
    assert (published["transitions"], published["discrete_cql"]) == ("100,000", "21")


def test_the_suites_agent_has_not_made_other_data() -> None:
    suite = Suite("x", [cell("discrete_bc", 7, 0, quality="mine")], OPTIONS)
    (first,) = rows(tables(no_runs(), suite, "R"))
    assert (first["game"], first["online expert"]) == ("pong-atari/mine", "–")


def test_cells_are_returns_with_their_scores(tmp_path: Path) -> None:
    for c in CELLS[:3]:
        seed = c.config["seeds"][0]
        write_run(
            tmp_path,
            c,
            value=lambda s, step, k, seed=seed: 10.0 + seed + step / 10_000,
            numerics=PLAYED_ON,
        )
    text = tables(load_runs(tmp_path), SUITE, "R")
    assert "Simulator: ale-py 0.12.1, gymnasium 1.4.0." in text
    first = rows(text)[0]
    # returns 12 and 13 at step 20,000; t(1 degree of freedom) x deviation / sqrt 2 = 6.353
    score = 100 * (12.5 + 20.7) / (14.6 + 20.7)
    assert first["discrete_bc"] == f"12.5 ± 6.4 ({score:.0f})"
    score = 100 * (12.0 + 20.7) / (14.6 + 20.7)
    assert first["discrete_cql"] == f"12.0 (n=1) ({score:.0f}), 1/2 (1 not run)"
    assert first["behaviour"] == "820.0"


def test_the_expert_is_what_its_record_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pong.json").write_text(json.dumps({"policy": {"return_mean": 18.25}}))
    monkeypatch.setattr("offrl.data.atari.POLICIES", tmp_path)
    assert games.expert("pong") == "18.2"
    assert games.expert("breakout") == "–"
