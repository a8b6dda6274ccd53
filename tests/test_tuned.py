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


# configs/rebrac/<env>/<env>_<quality>.yaml in the authors' repository
AUTHORS = {
    "halfcheetah/random": (0.001, 0.1),
    "halfcheetah/medium": (0.001, 0.01),
    "halfcheetah/expert": (0.01, 0.01),
    "halfcheetah/medium-expert": (0.01, 0.1),
    "halfcheetah/medium-replay": (0.01, 0.001),
    "halfcheetah/full-replay": (0.001, 0.1),
    "hopper/random": (0.001, 0.01),
    "hopper/medium": (0.01, 0.01),
    "hopper/expert": (0.1, 0.1),
    "hopper/medium-expert": (0.1, 0.01),
    "hopper/medium-replay": (0.05, 0.5),
    "hopper/full-replay": (0.01, 0.01),
    "walker2d/random": (0.01, 0.0),
    "walker2d/medium": (0.05, 0.1),
    "walker2d/expert": (0.01, 0.5),
    "walker2d/medium-expert": (0.01, 0.01),
    "walker2d/medium-replay": (0.05, 0.01),
    "walker2d/full-replay": (0.01, 0.01),
}


def test_the_table_is_the_authors_with_a_row_for_each_of_d4rls_datasets() -> None:
    assert {name: tuple(row[key] for key in KEYS) for name, row in ROWS.items()} == AUTHORS
    qualities = [d.removeprefix("d4rl/") for d in choices("dataset") if d.startswith("d4rl/")]
    assert set(ROWS) == {"/".join(x) for x in itertools.product(ROBOTS, qualities)}


@pytest.mark.parametrize("name", ["halfcheetah/medium", "walker2d/random"])
def test_a_run_gets_the_row_of_its_data(name: str) -> None:
    env, quality = name.split("/")
    assert tuple(rebrac(f"env={env}", f"dataset=d4rl/{quality}").values()) == AUTHORS[name]


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
    ("env", "transitions", "size", "expected"),
    [
        ("pong", 1_000_000, "null", 10.0),
        ("pong", 1_000_000, "10000", 1.0),
        ("pong", 10_000, "null", 1.0),  # what there is, whether or not it is a part of more
        ("breakout", 1_000_000, "1000000", 50.0),
        ("breakout", 100_000, "null", 20.0),
        ("breakout", 100_000, "1000000", 20.0),
        ("breakout", 100_000, "10000", 10.0),
    ],
)
def test_games_have_the_weight_of_their_size(
    env: str, transitions: int, size: str, expected: float
) -> None:
    data = f"env={env}", f"dataset.n_transitions={transitions}", f"buffer_size={size}"
    for algo in ("discrete_cql", "discrete_crr_cql"):
        assert weight(algo, *data) == expected
    assert weight("discrete_crr", *data) == 0


def test_a_game_that_nobody_tuned_for_wants_a_weight() -> None:
    game = "env=atari", "env.game=qbert"
    with pytest.raises(UserError, match=r"algo\.min_q_weight: .*qbert.*on the command line"):
        weight("discrete_cql", *game)
    assert weight("discrete_cql", *game, "algo.min_q_weight=4") == 4
