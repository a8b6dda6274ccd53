"""Runs of the loop: repeated, resumed, and in the company of other seeds."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from problem import CASES, algorithm, same_bits
from torch import Tensor
from torch.utils._pytree import tree_map

from offrl.data.dataset import Dataset
from offrl.data.transitions import Transitions
from offrl.engine import Engine
from offrl.loop import Loop, Timer
from offrl.record import TrainRow
from offrl.rng import generator
from offrl.types import AnyAlgorithm, Spec, Transition


@pytest.fixture(params=CASES)
def algo(request: pytest.FixtureRequest) -> AnyAlgorithm:
    """Each algorithm in turn; here all of them see vectors."""
    spec = algorithm(request.param).spec._replace(obs_shape=(5,))
    return algorithm(request.param, spec)


def states(algo: AnyAlgorithm, seeds: list[int]) -> list[Any]:
    return [algo.init(generator(seed, "init")) for seed in seeds]


def transitions(algo: AnyAlgorithm) -> Transitions:
    """Ten episodes of random numbers."""
    g, n = np.random.default_rng(0), 200
    index, rewards = np.arange(n) + np.arange(n) // 20, g.normal(size=n)
    action: Any = g.uniform(-1, 1, (n, algo.spec.action_dim)).astype(np.float32)
    if not getattr(algo, "continuous", True):
        action = g.integers(algo.spec.action_dim, size=n)
    data = Dataset(
        id="random",
        digest="0" * 64,
        states=g.normal(size=(n + 10, *algo.spec.obs_shape)).astype(np.float32),
        index=index,
        next_index=index + 1,
        action=action,
        reward=rewards.astype(np.float32),
        terminated=np.arange(n) % 40 == 39,
        episode_start=np.arange(0, n + 1, 20),
        complete=np.ones(10, np.bool_),
        episode_return=rewards.reshape(10, 20).sum(1),
    )
    return Transitions(data, 0.99, 1, None, "cpu")


def run(
    algo: AnyAlgorithm, seeds: list[int], start: list[Any], steps: list[int]
) -> tuple[list[Any], list[TrainRow]]:
    """Trains through the loop with a new engine for each leg from one of `steps` to the next."""
    loop, rows = Loop(algo, seeds, transitions(algo), torch.device("cpu"), Timer()), []
    for first, last in pairwise(steps):
        engine = Engine(algo, start)
        rows += loop.train(engine, first, last, lambda n: None)
        start = tree_map(torch.clone, engine.states)
    return start, rows


def test_a_resumed_run_equals_an_uninterrupted_one_in_every_bit(algo: AnyAlgorithm) -> None:
    """Stops within a slice of noise, at its end and behind it; of updates, so times the period."""
    p, start = algo.period, states(algo, [3])
    whole, rows = run(algo, [3], start, [0, 56 * p])
    resumed, parts = run(algo, [3], start, [0, 12 * p, 50 * p, 52 * p, 56 * p])
    assert same_bits(whole, resumed)
    assert [r.step for r in rows] == [56 * p]
    assert [r.step for r in parts] == [12 * p, 50 * p, 52 * p, 56 * p]
    weights = [12, 38, 2, 4]
    for name, mean in rows[0].stats.items():
        values = [r.stats[name] for r in parts]
        assert float(np.average(values, weights=weights)) == pytest.approx(mean, rel=1e-5), name


def test_stopping_between_two_blocks_changes_neither_weights_nor_rows(algo: AnyAlgorithm) -> None:
    p, start = algo.period, states(algo, [3])
    block = 1000 - 1000 % p
    whole = run(algo, [3], start, [block - 2 * p, block + 2 * p])
    resumed = run(algo, [3], start, [block - 2 * p, block, block + 2 * p])
    assert same_bits(whole[0], resumed[0])
    assert whole[1] == resumed[1]
    assert whole[1][0].stats != whole[1][1].stats


def test_a_seed_draws_the_same_data_in_any_company(algo: AnyAlgorithm) -> None:
    steps = [0, 10 * algo.period]
    alone, rows = run(algo, [4], states(algo, [4]), steps)
    together, all_rows = run(algo, [3, 4, 5], states(algo, [3, 4, 5]), steps)
    assert same_bits(alone[0], together[1])
    assert rows[0] == all_rows[1]
    assert all_rows[0].stats != all_rows[1].stats


class Probe(NamedTuple):
    """What one update was given: its Stats are its noise and the sum of its rewards."""

    noise: Tensor
    data: Tensor


@dataclass(frozen=True)
class Recorder:
    """Learns nothing and writes down what it is given."""

    spec: Spec
    period: int
    seen: list[tuple[float, float]] = field(default_factory=list)

    def noise(self, n: int, g: torch.Generator) -> Tensor:
        return torch.randn(n, generator=g)

    def update(self, s: Tensor, b: Transition, noise: Tensor) -> tuple[Tensor, Probe]:
        assert len(b.reward) == self.period * self.spec.batch_size
        self.seen.append((float(noise), float(b.reward.sum())))
        return s, Probe(noise, b.reward.sum())


def seen(period: int, seeds: list[int], steps: list[int]) -> list[tuple[float, float]]:
    algo = Recorder(Spec((5,), 3, 1.5, 16), period)
    any_algo: Any = algo
    run(any_algo, seeds, [torch.zeros(())] * len(seeds), steps)
    return algo.seen


@pytest.mark.parametrize("period", [1, 3])
def test_no_two_updates_get_the_same_data_or_noise(period: int) -> None:
    """Across slices, blocks (the second begins here) and seeds."""
    updates = seen(period, [0, 1], [0, 1050 * 3])
    assert len(updates) == 2 * 1050 * 3 // period
    for drawn in zip(*updates, strict=True):
        assert len(set(drawn)) > 0.999 * len(drawn)


@pytest.mark.parametrize("period", [1, 3])
def test_a_resumed_run_is_given_the_same_data_and_noise(period: int) -> None:
    assert seen(period, [0], [0, 2400]) == seen(period, [0], [0, 300, 999, 1500, 1998, 2400])
