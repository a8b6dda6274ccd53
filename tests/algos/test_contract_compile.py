"""torch.compile: one full graph, traced once, that computes what the eager update does."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from engines import ENGINES
from engines import step as one_update
from problem import algorithm, batch, distance, noise, same_bits
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves

from offrl.engine import Engine
from offrl.rng import generator
from offrl.types import AnyAlgorithm

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="Inductor needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def engine(algo: AnyAlgorithm, make: Any = Engine, **how: Any) -> Any:
    return make(algo, [algo.init(generator(seed, "init")) for seed in (0, 1)], **how)


def step(e: Any, algo: AnyAlgorithm, u: int) -> list[Any]:
    return one_update(e, [batch(algo, s, u) for s in (0, 1)], [noise(algo, s, u) for s in (0, 1)])


def agrees_with_eager(algo: AnyAlgorithm, make: Any = Engine, **how: Any) -> None:
    torch._dynamo.reset()  # other modules call this too, without the fixture
    counters.clear()
    compiled, eager = engine(algo, make, compile=True, **how), engine(algo, make)
    stats = step(compiled, algo, 0), step(eager, algo, 0)
    # absolute for what is smaller than 1: a loss may be a difference of larger terms
    torch.testing.assert_close(*map(tree_leaves, stats), rtol=1e-5, atol=1e-5)
    assert distance(compiled.states, eager.states) < 1e-5
    for u in range(1, 100):
        stats = step(compiled, algo, u), step(eager, algo, u)
        if u == 4:
            assert counters["stats"]["unique_graphs"] == 1
    assert distance(*stats) < 0.01
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.full
def test_the_update_is_one_graph_traced_once(algo: AnyAlgorithm) -> None:
    agrees_with_eager(algo, backend="aot_eager")


@needs_compiler
def test_inductor_agrees_with_eager() -> None:
    agrees_with_eager(algorithm("bc"))


@needs_compiler
@pytest.mark.full
@ENGINES
def test_inductor_agrees_with_eager_for_every_algorithm(algo: AnyAlgorithm, make: Any) -> None:
    agrees_with_eager(algo, make)


def test_a_repeated_compiled_run_has_the_same_bits() -> None:
    algo = algorithm("td3_bc")
    ends = []
    for _ in range(2):
        e = engine(algo, compile=True, backend="aot_eager")
        ends.append((step(e, algo, 0), step(e, algo, 1), e.states))
    assert same_bits(*ends)


@torch._dynamo.config.patch(recompile_limit=2)
def test_a_process_may_train_more_runs_than_torch_keeps_versions_of_a_function() -> None:
    for lr in (1e-3, 2e-3, 3e-3):  # a sweep in one process; each is another version
        algo = algorithm("bc", lr=lr)
        step(engine(algo, compile=True, backend="aot_eager"), algo, 0)
