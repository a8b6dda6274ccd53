"""CQL: a plain loop from the papers, the contract, and a task whose optimum is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lqr
import pytest
import test_contract as contract
import test_contract_compile as contract_compile
import test_contract_seeds as contract_seeds
import torch
from engines import launches
from problem import algorithm, batch, distance, noise, same_bits
from reference.cql import CQL as Plain
from reference.networks import flat, load
from test_learning import FAST, assert_near_the_optimum, data, train
from test_reference import GAMMA, columns, dims, stacked
from torch import Tensor

from offrl import checkpoint
from offrl.algos.cql import Multiplier, Noise, NoMultiplier, State
from offrl.rng import generator
from offrl.types import Spec, Transition

VARIANTS = ["cql", "cal_ql", "cql_seed"]
N_UPDATES = 500  # of the learning tests
LIMIT = 1.5  # max_action of the small problem
KEYS = (
    *("min_q_weight", "lagrange_threshold", "calibrated", "n_actions", "backup_entropy"),
    *("bc_steps", "tau", "actor_lr", "critic_lr", "max_grad_norm", "hidden"),
)


def plain_loop(
    algo: Any, s: State
) -> tuple[Callable[[Transition, Noise], dict[str, float]], Callable[[], dict[str, Tensor]]]:
    """(a step, the parameters) of the plain CQL with the weights of state `s`."""
    plain = Plain(*dims(algo), gamma=GAMMA, **{key: getattr(algo, key) for key in KEYS})
    for module, theta in zip((plain.actor, *plain.critics), (s.actor, *s.critic), strict=True):
        load(module, theta)
    plain.copy_targets()
    return lambda b, z: plain.train_step(*columns(b), b.return_to_go, *z), lambda: {
        "actor": flat(plain.actor),
        "critic": stacked(*plain.critics),
        "target_critic": stacked(*plain.targets),
        "log_alpha": plain.log_alpha.detach().clone(),
        "multiplier": plain.log_multiplier.detach().clone(),
    }


@pytest.mark.parametrize("bc_steps", [0, 2])
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_parameters_equal_those_of_a_plain_loop(
    name: str, bc_steps: int, tolerance: float
) -> None:
    algo: Any = algorithm(name, Spec((5,), 3, LIMIT, 18), hidden=[32, 24], bc_steps=bc_steps)
    s = algo.init(generator(0, "init"))
    step, parameters = plain_loop(algo, s)
    for u in range(5):
        b, z = batch(algo, u), noise(algo, u)
        s, stats = algo.update(s, b, z)
        expected = step(b, z)
        assert set(stats._fields) == set(expected)
        for key, value in expected.items():
            assert float(getattr(stats, key)) == pytest.approx(
                value, rel=tolerance, abs=tolerance / 10
            ), (u, key)
        theta = parameters()
        assert set(theta) == {n for n in s._fields if not n.endswith("_opt")}
        if name == "cql_seed":
            theta["multiplier"] = Multiplier(theta["multiplier"], s.multiplier.opt)
        else:
            assert theta.pop("multiplier") == 0
        for key, value in theta.items():
            assert distance(getattr(s, key), value) < tolerance, (u, key)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_checkpoint_holds_everything_and_the_multiplier_moves(name: str, tmp_path: Path) -> None:
    algo = algorithm(name)
    s = algo.init(generator(0, "init"))
    after, _ = algo.update(s, batch(algo, 0), noise(algo, 0))
    checkpoint.save(tmp_path, 1, after)
    loaded = checkpoint.load(tmp_path, s)
    assert loaded is not None
    assert same_bits(loaded[1], after)
    assert isinstance(s.multiplier, Multiplier if name == "cql_seed" else NoMultiplier)
    if name == "cql_seed":
        assert loaded[1].multiplier.log_value != 0
        assert loaded[1].multiplier.opt.t == 1


@pytest.fixture(params=["cql_seed", "cal_ql"])
def variant(request: pytest.FixtureRequest) -> Any:
    return algorithm(request.param)


def test_variants_keep_the_contract(variant: Any) -> None:
    contract.test_update_is_pure(variant)
    contract.test_update_is_finite_and_without_a_graph(variant)
    contract.test_update_moves_every_part(variant)
    contract.test_an_update_keeps_the_shapes_and_types_of_the_state(variant)
    contract.test_no_two_tensors_of_a_fresh_state_share_memory(variant)
    contract_seeds.test_several_seeds_equal_a_loop_over_seeds(variant, launches)


@pytest.mark.full
def test_lagrange_and_calibration_compile() -> None:
    contract_compile.agrees_with_eager(algorithm("cql_seed"), backend="aot_eager")


def learner(**changes: Any) -> Any:
    """A weight that fits the small rewards of the task."""
    settings = FAST | {"min_q_weight": 1.0, "bc_steps": 20}
    return algorithm("cql", lqr.spec(64), **settings | changes)


def test_cql_comes_near_the_optimum() -> None:
    assert_near_the_optimum(train(learner(), data(), N_UPDATES))


BROKEN = {
    "actor_that_stands_still": {"actor_lr": 0.0},
    "critic_that_stands_still": {"critic_lr": 0.0},
    "targets_that_stand_still": {"tau": 0.0},
    "nothing_but_cloning": {"bc_steps": 1000},
    "gap_with_the_wrong_sign": {"min_q_weight": -1.0},
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_cql_fails_the_same_assertion(broken: dict[str, Any]) -> None:
    policy = train(learner(**broken), data(), N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.full
def test_cql_that_does_not_look_ahead_fails_the_same_assertion() -> None:
    no_future = data()._replace(discount=torch.zeros_like(data().discount))
    policy = train(learner(), no_future, N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)
