"""Several seeds in one engine."""

from typing import Any

import pytest
import torch
from problem import batch, distance, noise, same_bits
from torch.utils._pytree import tree_map

from offrl.engine import Engine
from offrl.rng import generator
from offrl.types import AnyAlgorithm

BATCHED = pytest.mark.parametrize("batched", [False, True], ids=["in_turns", "vmap"])


def states(algo: AnyAlgorithm, seeds: list[int]) -> list[Any]:
    return [algo.init(generator(seed, "init")) for seed in seeds]


def train(algo: AnyAlgorithm, seeds: list[int], data: list[int], batched: bool) -> Any:
    """(states, stats) of each seed after three updates; `data` is the address of its batches."""
    engine = Engine(algo, states(algo, seeds), batched=batched)
    for u in range(3):
        batches = [batch(algo, d, u) for d in data]
        stats = engine.step(batches, [noise(algo, seed, u) for seed in seeds])
    return list(zip(engine.states, stats, strict=True))


@BATCHED
def test_several_seeds_equal_a_loop_over_seeds(algo: AnyAlgorithm, batched: bool) -> None:
    together = train(algo, [0, 1, 2], [0, 1, 2], batched)
    alone = [train(algo, [seed], [seed], False)[0] for seed in (0, 1, 2)]
    assert distance(alone[0], alone[1]) > 1e-2
    if batched:  # products of another shape round differently
        assert distance(together, alone) < 1e-4
    else:
        assert same_bits(together, alone)


@BATCHED
def test_a_seed_does_not_see_its_neighbours_data(algo: AnyAlgorithm, batched: bool) -> None:
    first = train(algo, [0, 1], [0, 1], batched)
    second = train(algo, [0, 1], [0, 5], batched)
    assert same_bits(first[0], second[0])
    assert not same_bits(first[1], second[1])


@BATCHED
def test_the_states_of_an_engine_are_copies(algo: AnyAlgorithm, batched: bool) -> None:
    """What is evaluated or written to a checkpoint does not move when training goes on."""
    engine = Engine(algo, states(algo, [0, 1]), batched=batched)
    before = engine.states
    kept = tree_map(torch.clone, before)
    data = [batch(algo, seed) for seed in (0, 1)], [noise(algo, seed) for seed in (0, 1)]
    engine.step(*data)
    assert same_bits(before, kept)
    assert not same_bits(engine.states, kept)
