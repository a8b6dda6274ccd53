"""Statistics of an algorithm around another: nested, typed, and plain to compare and to store.

The composite also goes through every contract test; here stands what nesting adds.
"""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from composite import Curious, Stats
from engines import ENGINES, step
from problem import algorithm, batch, noise, same_bits
from torch.utils._pytree import tree_leaves, tree_map

from offrl.algos import td3_bc
from offrl.engine import Engine
from offrl.record import Records, TrainRow, scalars
from offrl.rng import generator

COLUMNS = [
    "td3_bc/critic_loss",
    "td3_bc/actor_loss",
    "td3_bc/bc_loss",
    "td3_bc/q_mean",
    "model_loss",
    "bonus",
]


@pytest.fixture
def algo() -> Any:
    return algorithm("composite")


def stats_of(algo: Any, make: Any = Engine) -> Stats:
    """The Stats of the first of two seeds, through the engine."""
    engine = make(algo, [algo.init(generator(s, "init")) for s in (0, 1)])
    first: Stats = step(engine, [batch(algo, 0), batch(algo, 1)], [noise(algo, 0), noise(algo, 1)])[
        0
    ]
    return first


@ENGINES
def test_the_engine_returns_nested_stats(algo: Any, make: Any) -> None:
    stats = stats_of(algo, make)
    assert type(stats) is Stats
    assert type(stats.td3_bc) is td3_bc.Stats
    assert list(scalars(stats)) == COLUMNS
    assert list(scalars(stats).values()) == tree_leaves(stats)


def test_nested_columns_come_back_from_the_record(algo: Any, tmp_path: Path) -> None:
    values = {name: float(v) for name, v in scalars(stats_of(algo)).items()}
    records = Records(tmp_path)
    records.append_train([TrainRow(0, 2, values)])
    records.flush()
    table = Records(tmp_path).train_rows
    assert table == {"seed": [0], "step": [2]} | {name: [v] for name, v in values.items()}


def test_nested_stats_compare_by_every_field_and_pickle(algo: Any) -> None:
    stats = stats_of(algo)
    again = pickle.loads(pickle.dumps(stats))  # noqa: S301
    assert type(again.td3_bc) is td3_bc.Stats
    assert again == stats
    for name in td3_bc.Stats._fields:
        other = stats.td3_bc._replace(**{name: getattr(stats.td3_bc, name) + 1})
        assert stats._replace(td3_bc=other) != stats, name
    assert stats._replace(bonus=stats.bonus + 1) != stats
    with pytest.raises(AttributeError):
        setattr(stats.td3_bc, "q_mean", torch.zeros(()))  # noqa: B010


def test_without_its_bonus_the_composite_trains_the_inner_algorithm_as_it_is(algo: Any) -> None:
    plain = Curious(algo.td3_bc, algo.model_lr, weight=0.0)
    s, b, z = plain.init(generator(0, "init")), batch(plain, 0), noise(plain, 0)
    after, stats = plain.update(s, b, z)
    assert same_bits((after.td3_bc, stats.td3_bc), algo.td3_bc.update(s.td3_bc, b, z.td3_bc))
    curious, _ = algo.update(s, b, z)
    assert not same_bits(curious.td3_bc.critic, after.td3_bc.critic)


def test_sums_over_a_block_keep_the_nesting(algo: Any) -> None:
    stats = stats_of(algo)
    total: Stats = tree_map(torch.add, stats, stats)
    assert type(total.td3_bc) is td3_bc.Stats
    assert torch.equal(total.td3_bc.q_mean, 2 * stats.td3_bc.q_mean)
