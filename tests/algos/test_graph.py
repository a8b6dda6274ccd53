"""The engine of a GPU: what it computes, and, where there is one, that its graph does the same."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from engines import launches
from problem import CASES, algorithm, batch, distance, noise, same_bits
from test_contract_loop import states, transitions

from offrl.data.transitions import Transitions
from offrl.engine import Engine
from offrl.graph import GraphEngine
from offrl.loop import Loop, Timer
from offrl.record import TrainRow
from offrl.types import AnyAlgorithm

Make = Callable[[AnyAlgorithm, list[Any]], Any]
ALGORITHMS = pytest.mark.parametrize(
    "name", ["bc", "bcq", "td3_bc", "cql_seed", "cal_ql", "iql", "rebrac"]
)


def graph(algo: AnyAlgorithm, start: list[Any]) -> GraphEngine:
    return GraphEngine(algo, start)


def run(
    make: Make, name: str, seeds: list[int], steps: list[int], device: str = "cpu"
) -> tuple[list[Any], list[TrainRow]]:
    """Trains with a new engine for each leg from one of `steps` to the next."""
    algo = algorithm(name)
    data = transitions(algo)
    where = torch.device(device)
    if device != "cpu":
        data = moved(data, where)
    loop, rows = Loop(algo, seeds, data, where, Timer()), []
    start = [on(where, s) for s in states(algo, seeds)]
    for first, last in pairwise(steps):
        engine = make(algo, start)
        rows += loop.train(engine, first, last, lambda n: None)
        start = engine.states
    return [on(torch.device("cpu"), s) for s in start], rows


def on(device: torch.device, tree: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda x: x.to(device), tree)


def moved(data: Transitions, device: torch.device) -> Transitions:
    for name, value in vars(data).items():
        if isinstance(value, torch.Tensor):
            setattr(data, name, value.to(device))
    return data


def close(a: tuple[list[Any], list[TrainRow]], b: tuple[list[Any], list[TrainRow]]) -> None:
    assert distance(a[0], b[0]) < 1e-4
    assert [r[:2] for r in a[1]] == [r[:2] for r in b[1]]
    for x, y in zip(a[1], b[1], strict=True):
        assert x.stats == pytest.approx(y.stats, rel=1e-4, abs=1e-5)


@ALGORITHMS
@pytest.mark.parametrize("seeds", [[3], [0, 1, 2]])
def test_it_does_what_the_other_engine_does(name: str, seeds: list[int]) -> None:
    """Beyond a slice of noise, but before the rounding of other products has grown."""
    close(run(launches, name, seeds, [0, 60]), run(Engine, name, seeds, [0, 60]))


@ALGORITHMS
def test_it_resumes_in_every_bit(name: str) -> None:
    """Also within a slice of noise."""
    assert same_bits(
        run(launches, name, [0, 1], [0, 90, 160])[0], run(launches, name, [0, 1], [0, 160])[0]
    )


def test_its_states_are_copies() -> None:
    algo = algorithm("bc")
    engine = launches(algo, states(algo, [0]))
    before = engine.states
    kept = torch.utils._pytree.tree_map(torch.clone, before)
    Loop(algo, [0], transitions(algo), torch.device("cpu"), Timer()).train(
        engine, 0, 10, lambda n: None
    )
    assert same_bits(before, kept)
    assert not same_bits(engine.states, kept)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@ALGORITHMS
@pytest.mark.parametrize("seeds", [[3], [0, 1, 2]])
def test_the_graph_does_the_same(name: str, seeds: list[int]) -> None:
    """Every bit of what its kernels do one by one."""
    captured = run(graph, name, seeds, [0, 160], "cuda")
    assert same_bits(captured[0], run(launches, name, seeds, [0, 160], "cuda")[0])
    assert same_bits(captured[0], run(graph, name, seeds, [0, 90, 160], "cuda")[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*CASES, "cql_seed", "cal_ql"])
def test_a_gpu_does_nearly_what_a_cpu_does(name: str) -> None:
    """With one state, data and noise; whole runs draw theirs on the device."""
    algo, cuda = algorithm(name), torch.device("cuda")
    here = states(algo, [0])[0]
    there = on(cuda, here)
    for k in range(3):
        drawn = batch(algo, k), noise(algo, k)
        here, _ = algo.update(here, *drawn)
        there, _ = algo.update(there, *on(cuda, drawn))
    assert distance(on(torch.device("cpu"), there), here) < 1e-4
    if name == "cql_seed":  # a multiplier that a device forgets to train
        assert there.multiplier.log_value != 0
