"""Each discrete algorithm against a plain loop from its paper: same weights, same batches."""

from dataclasses import fields
from typing import Any

import pytest
from problem import algorithm
from reference.discrete_bc import DiscreteBC
from reference.discrete_bcq import DiscreteBCQ
from reference.discrete_cql import DiscreteCQL
from reference.discrete_crr import DiscreteCRR
from reference.discrete_networks import flat_net, load_net
from reference.qrdqn import QRDQN
from test_reference import Parameters, Step, assert_equal_to_a_plain_loop

from offrl.types import Spec, Transition

VECTORS, IMAGES = Spec((5,), 3, 0.0, 16), Spec((2, 36, 44), 3, 0.0, 16)
SPECS = pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
SHORT: dict[str, Any] = {"hidden": [32, 24], "target_period": 2}
OF_ACTING = {"spec", "sample", "eps_start", "eps_end", "eps_steps", "eps_test"}


def plain(cls: Any, algo: Any) -> Any:
    given = {f.name: getattr(algo, f.name) for f in fields(algo) if f.name not in OF_ACTING}
    return cls(algo.spec.obs_shape, algo.spec.action_dim, **given)


def columns(b: Transition) -> tuple[Any, ...]:
    return b.obs, b.action, b.reward, b.next_obs, b.discount


def bc(algo: Any, s: Any) -> tuple[Step, Parameters]:
    loop = plain(DiscreteBC, algo)
    load_net(loop.actor, s.actor)
    return lambda b, z: loop.train_step(b.obs, b.action), lambda: {"actor": flat_net(loop.actor)}


def q_learner(cls: Any) -> Any:
    def start(algo: Any, s: Any) -> tuple[Step, Parameters]:
        loop = plain(cls, algo)
        load_net(loop.critic, s.critic)
        return lambda b, z: loop.train_step(*columns(b)), lambda: {
            "critic": flat_net(loop.critic),
            "target_critic": flat_net(loop.target),
        }

    return start


def crr(algo: Any, s: Any) -> tuple[Step, Parameters]:
    loop = plain(DiscreteCRR, algo)
    load_net(loop.net, s.actor_critic)
    return lambda b, z: loop.train_step(*columns(b)), lambda: {
        "actor_critic": flat_net(loop.net),
        "target_actor_critic": flat_net(loop.target),
    }


@SPECS
def test_discrete_bc(spec: Spec, tolerance: float) -> None:
    algo = algorithm("discrete_bc", spec, hidden=SHORT["hidden"])
    assert_equal_to_a_plain_loop(algo, bc, tolerance)


@SPECS
@pytest.mark.parametrize("double", [False, True], ids=["max", "double"])
@pytest.mark.parametrize("kappa", [1.0, 0.5])
def test_qrdqn(spec: Spec, double: bool, kappa: float, tolerance: float) -> None:
    algo = algorithm("qrdqn", spec, **SHORT, double=double, kappa=kappa, n_quantiles=7)
    assert_equal_to_a_plain_loop(algo, q_learner(QRDQN), tolerance)


@SPECS
@pytest.mark.parametrize(("double", "n_quantiles"), [(False, 7), (True, 1)])
def test_discrete_cql(spec: Spec, double: bool, n_quantiles: int, tolerance: float) -> None:
    changes = {"double": double, "n_quantiles": n_quantiles, "min_q_weight": 3.0}
    algo = algorithm("discrete_cql", spec, **SHORT, **changes)
    assert_equal_to_a_plain_loop(algo, q_learner(DiscreteCQL), tolerance)


@SPECS
@pytest.mark.parametrize("threshold", [0.3, 0.99])
def test_discrete_bcq(spec: Spec, threshold: float, tolerance: float) -> None:
    algo = algorithm("discrete_bcq", spec, **SHORT, threshold=threshold)
    assert_equal_to_a_plain_loop(algo, q_learner(DiscreteBCQ), tolerance)


@SPECS
@pytest.mark.parametrize(
    ("mode", "max_weight", "min_q_weight"),
    [("exp", 20.0, 0.0), ("exp", 1.05, 3.0), ("binary", 20.0, 0.0), ("all", 20.0, 0.5)],
)
def test_discrete_crr(
    spec: Spec, mode: str, max_weight: float, min_q_weight: float, tolerance: float
) -> None:
    changes = {"mode": mode, "max_weight": max_weight, "min_q_weight": min_q_weight, "beta": 0.5}
    algo = algorithm("discrete_crr", spec, **SHORT, **changes)
    assert_equal_to_a_plain_loop(algo, crr, tolerance)
