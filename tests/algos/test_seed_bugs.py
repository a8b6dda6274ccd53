"""CQL without three bugs of Tianshou's script, and the variants that have them.

Each variant of tests/variants fails the assertion that CQL passes, and still runs as an algorithm.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_contract as contract
import test_contract_compile as contract_compile
import test_contract_seeds as contract_seeds
import torch
from engines import launches
from harness import cell
from problem import algorithm
from variants import seed_bugs

from offrl.algos.cql import CQL
from offrl.rng import generator

CONF = Path(seed_bugs.__file__).parent / "conf"
LIMIT = 1.5  # max_action of the small problem
BUGS = ["cql_b3", "cql_b4", "cql_b10"]


@pytest.fixture
def algo() -> Any:
    return algorithm("cql")


def with_bug(name: str) -> Any:
    """The algorithm of tests/variants/conf/algo/<name>.yaml, for the small problem."""
    composed = cell(f"algo={name}", f"hydra.searchpath=['{CONF}']").algo
    return replace(composed, spec=algorithm("cql").spec, hidden=(32, 32))


def assert_uniform_in_the_box(algo: CQL) -> None:
    big = replace(algo, spec=algo.spec._replace(batch_size=1000))
    actions = big.random_actions(big.noise(1, generator(0, "noise")).random[0]).flatten(0, 1)
    quantiles = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
    for column in actions.T:  # each dimension: 10,000 of them
        expected = LIMIT * (2 * quantiles - 1)
        torch.testing.assert_close(column.quantile(quantiles), expected, rtol=0, atol=0.06)
    off_diagonal = torch.corrcoef(actions.T) - torch.eye(3)
    assert off_diagonal.abs().max() < 0.05
    assert actions.abs().max() <= LIMIT


def test_random_actions_are_uniform_in_the_box(algo: Any) -> None:
    assert_uniform_in_the_box(algo)


def test_bug_b3_draws_one_corner() -> None:
    broken = with_bug("cql_b3")
    with pytest.raises(AssertionError):
        assert_uniform_in_the_box(broken)
    assert (broken.random_actions(torch.rand(10, 4, 3)) == LIMIT).all()


def assert_one_log_sum_exp(algo: CQL) -> None:
    q, log_prob = torch.randn(2, 30, 16), torch.randn(30, 16)
    q_data = torch.randn(2, 16)
    gap = algo.gap(q, q_data, log_prob, torch.zeros(16))
    for i in range(2):
        for row in range(16):
            total = sum(math.exp(q[i, k, row] - log_prob[k, row]) for k in range(30))
            assert float(gap[i, row]) == pytest.approx(
                math.log(total) - float(q_data[i, row]), abs=1e-4
            )


def test_one_log_sum_exp_takes_in_all_proposals_of_a_state(algo: Any) -> None:
    assert_one_log_sum_exp(algo)
    gap = algo.gap(torch.zeros(2, 30, 16), torch.zeros(2, 16), torch.zeros(30, 16), None)
    torch.testing.assert_close(gap, torch.full((2, 16), math.log(30)))


def test_bug_b4_averages_over_triples() -> None:
    broken = with_bug("cql_b4")
    with pytest.raises(AssertionError):
        assert_one_log_sum_exp(broken)
    x = torch.randn(2, 30, 16)
    triples = torch.stack([x[:, [k, 10 + k, 20 + k]].logsumexp(1) for k in range(10)])
    none = torch.zeros(2, 16), torch.zeros(30, 16), torch.zeros(16)
    torch.testing.assert_close(broken.gap(x, *none), triples.mean(0))


def degrees_of_freedom(algo: CQL) -> int:
    """The rank of (mean, log deviation) over many states."""
    theta = algo.actor.init(generator(0, "init"))
    normal = algo.actor.normal(theta, torch.randn(500, 5, generator=generator("obs")))
    return int(torch.linalg.matrix_rank(torch.cov(torch.cat(normal, 1).T.double()), rtol=1e-6))


def test_mean_and_deviation_are_free_of_each_other(algo: Any) -> None:
    assert degrees_of_freedom(algo) == 2 * 3


def test_bug_b10_ties_mean_and_deviation_together() -> None:
    broken = with_bug("cql_b10")
    assert degrees_of_freedom(broken) == 3
    theta = broken.actor.init(generator(0, "init"))
    eye = torch.eye(3)  # the last layer, [3, 6] and its bias
    theta[-24:] = torch.cat((torch.cat((eye, -eye), 1).flatten(), torch.zeros(6)))
    mean, log_std = broken.actor.normal(theta, torch.randn(500, 5, generator=generator("obs")))
    assert torch.equal(mean, -log_std)
    assert mean.min() < 0 < mean.max()  # affine: no ReLU in between


@pytest.mark.parametrize("name", BUGS)
def test_variants_keep_the_contract(name: str) -> None:
    variant = with_bug(name)
    contract.test_update_is_pure(variant)
    contract.test_update_is_finite_and_without_a_graph(variant)
    contract.test_update_moves_every_part(variant)
    contract_seeds.test_several_seeds_equal_a_loop_over_seeds(variant, launches)


@pytest.mark.parametrize("name", BUGS)
def test_variants_compile(name: str) -> None:
    contract_compile.test_the_update_is_one_graph_traced_once(with_bug(name))
