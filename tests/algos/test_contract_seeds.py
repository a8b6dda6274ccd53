"""Several seeds in one engine."""

from typing import Any

import torch
from engines import ENGINES, step
from problem import batch, distance, noise, same_bits
from torch.utils._pytree import tree_map

from offrl.engine import Engine
from offrl.rng import generator
from offrl.types import AnyAlgorithm


def states(algo: AnyAlgorithm, seeds: list[int]) -> list[Any]:
    return [algo.init(generator(seed, "init")) for seed in seeds]


def train(algo: AnyAlgorithm, seeds: list[int], data: list[int], make: Any) -> Any:
    """(states, stats) of each seed after three updates; `data` is the address of its batches."""
    engine = make(algo, states(algo, seeds))
    for u in range(3):
        batches = [batch(algo, d, u) for d in data]
        stats = step(engine, batches, [noise(algo, seed, u) for seed in seeds])
    return list(zip(engine.states, stats, strict=True))


@ENGINES
def test_several_seeds_equal_a_loop_over_seeds(algo: AnyAlgorithm, make: Any) -> None:
    together = train(algo, [0, 1, 2], [0, 1, 2], make)
    alone = [train(algo, [seed], [seed], Engine)[0] for seed in (0, 1, 2)]
    assert distance(alone[0], alone[1]) > 1e-2
    if make is Engine:
        assert same_bits(together, alone)
    else:  # products of another shape round differently
        assert distance(together, alone) < 1e-4


@ENGINES
def test_a_seed_does_not_see_its_neighbours_data(algo: AnyAlgorithm, make: Any) -> None:
    first = train(algo, [0, 1], [0, 1], make)
    second = train(algo, [0, 1], [0, 5], make)
    assert same_bits(first[0], second[0])
    assert not same_bits(first[1], second[1])


@ENGINES
def test_the_states_of_an_engine_are_copies(algo: AnyAlgorithm, make: Any) -> None:
    """What is evaluated or written to a checkpoint does not move when training goes on."""
    engine = make(algo, states(algo, [0, 1]))
    before = engine.states
    kept = tree_map(torch.clone, before)
    data = [batch(algo, seed) for seed in (0, 1)], [noise(algo, seed) for seed in (0, 1)]
    step(engine, *data)
    assert same_bits(before, kept)
    assert not same_bits(engine.states, kept)
