"""conf/tuned: what a paper tuned per dataset is what a run gets."""

import itertools
from statistics import median
from typing import Any

import pytest
from harness import cell
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from offrl.config import build
from offrl.errors import UserError
from offrl.plan import CONF, choices
from offrl.types import Spec

TABLE: Any = OmegaConf.to_container(OmegaConf.load(CONF / "tuned" / "rebrac.yaml"))
ROWS = {name: row for name, row in TABLE.items() if "/" in name}
ROBOTS = ("halfcheetah", "hopper", "walker2d")
KEYS = ("actor_bc_coef", "critic_bc_coef")


def rebrac(*overrides: str) -> dict[str, float]:
    algo = cell("algo=rebrac", *overrides).config["algo"]
    return {key: algo[key] for key in KEYS}


def test_the_table_has_a_row_for_each_of_d4rls_datasets_and_for_no_other() -> None:
    qualities = [d.removeprefix("d4rl/") for d in choices("dataset") if d.startswith("d4rl/")]
    assert set(ROWS) == {"/".join(x) for x in itertools.product(ROBOTS, qualities)}
    # the grid from which the paper chose
    assert {row["actor_bc_coef"] for row in ROWS.values()} <= {0.001, 0.01, 0.05, 0.1}
    assert {row["critic_bc_coef"] for row in ROWS.values()} <= {0.0, 0.001, 0.01, 0.1, 0.5}


@pytest.mark.parametrize(
    ("env", "quality", "expected"),
    [
        ("halfcheetah", "medium", (0.001, 0.01)),
        ("hopper", "medium-replay", (0.05, 0.5)),
        ("hopper", "expert", (0.1, 0.1)),
        ("walker2d", "random", (0.01, 0.0)),
        ("walker2d", "medium-expert", (0.01, 0.01)),
    ],
)
def test_a_run_gets_the_papers_values(
    env: str, quality: str, expected: tuple[float, float]
) -> None:
    assert tuple(rebrac(f"env={env}", f"dataset=d4rl/{quality}").values()) == expected


@pytest.mark.parametrize("quality", ["medium", "expert", "medium-expert", "random"])
def test_the_suites_own_data_take_d4rls_row_of_the_same_name(quality: str) -> None:
    for env in ("hopper", "halfcheetah"):
        assert rebrac(f"env={env}", f"dataset=offrl/{quality}") == ROWS[f"{env}/{quality}"]


def test_a_file_takes_the_medians_whatever_its_name_is() -> None:
    medians = {key: median(row[key] for row in ROWS.values()) for key in KEYS}
    for name in ("mine", "expert"):
        assert rebrac("dataset=file", f"dataset.path={name}.hdf5") == medians


def test_the_command_line_wins() -> None:
    assert rebrac("algo.actor_bc_coef=0.3")["actor_bc_coef"] == 0.3


def test_iqls_learning_rate_decays_over_the_whole_run() -> None:
    assert cell("algo=iql", "n_updates=250000").config["algo"]["actor_decay_steps"] == 250000


def weight(algo: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"algo={algo}", "dataset=atari/qrdqn", *overrides])
    built: Any = build(cfg.algo, Spec((4, 84, 84), 6, 0.0, 32))
    return built.min_q_weight


@pytest.mark.parametrize(
    ("env", "size", "expected"),
    [
        ("pong", "null", 10.0),
        ("pong", "1000000", 10.0),
        ("pong", "10000", 1.0),
        ("breakout", "1000000", 50.0),
        ("breakout", "100000", 20.0),
        ("breakout", "10000", 10.0),
    ],
)
def test_games_have_the_weight_of_their_size(env: str, size: str, expected: float) -> None:
    for algo in ("discrete_cql", "discrete_crr_cql"):
        assert weight(algo, f"env={env}", f"buffer_size={size}") == expected
    assert weight("discrete_crr", f"env={env}", f"buffer_size={size}") == 0


def test_a_game_that_nobody_tuned_for_wants_a_weight() -> None:
    game = "env=atari", "env.game=qbert"
    with pytest.raises(UserError, match=r"algo\.min_q_weight: .*qbert.*on the command line"):
        weight("discrete_cql", *game)
    assert weight("discrete_cql", *game, "algo.min_q_weight=4") == 4
