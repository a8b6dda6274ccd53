"""Each discrete algorithm against a plain loop from its paper: same weights, same batches."""

from collections.abc import Callable
from typing import Any

import pytest
from problem import algorithm
from reference.discrete_networks import flat_net, load_net
from reference.qrdqn import QRDQN
from test_reference import Parameters, Step, assert_equal_to_a_plain_loop

from offrl.types import Spec, Transition

VECTORS, IMAGES = Spec((5,), 3, 0.0, 16), Spec((2, 36, 44), 3, 0.0, 16)
SPECS = pytest.mark.parametrize("spec", [VECTORS, IMAGES], ids=["vectors", "images"])
PlainLoop = Callable[[Any, Any], tuple[Step, Parameters]]


def columns(b: Transition) -> tuple[Any, ...]:
    return b.obs, b.action, b.reward, b.next_obs, b.discount


def critic_and_target(plain: Any) -> Parameters:
    return lambda: {"critic": flat_net(plain.critic), "target_critic": flat_net(plain.target)}


def qrdqn(algo: Any, s: Any) -> tuple[Step, Parameters]:
    names = ("n_quantiles", "kappa", "double", "target_period", "lr", "adam_eps", "hidden")
    given = {name: getattr(algo, name) for name in names}
    plain = QRDQN(
        algo.spec.obs_shape,
        algo.spec.action_dim,
        min_q_weight=getattr(algo, "min_q_weight", 0.0),
        **given,
    )
    load_net(plain.critic, s.critic)
    return lambda b, z: plain.train_step(*columns(b)), critic_and_target(plain)


@SPECS
@pytest.mark.parametrize("double", [False, True], ids=["max", "double"])
@pytest.mark.parametrize("kappa", [1.0, 0.5])
def test_qrdqn(spec: Spec, double: bool, kappa: float, tolerance: float) -> None:
    changes = {"double": double, "kappa": kappa, "n_quantiles": 7, "target_period": 2}
    algo = algorithm("qrdqn", spec, hidden=[32, 24], **changes)
    assert_equal_to_a_plain_loop(algo, qrdqn, tolerance)
