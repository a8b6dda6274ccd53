"""CQL against a plain loop, and each of its parts by itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from problem import algorithm, batch, distance, noise
from reference.cql import CQL as PlainCQL
from reference.networks import flat, load
from torch import Tensor

from offrl.rng import generator
from offrl.types import Transition

GAMMA = 0.99  # of problem.batch
Step = Callable[[Transition, Any], dict[str, float]]
KEYS = (
    *("min_q_weight", "lagrange_threshold", "calibrated", "n_actions", "backup_entropy"),
    *("bc_steps", "tau", "actor_lr", "critic_lr", "max_grad_norm", "hidden"),
)


def plain_loop(algo: Any, s: Any) -> tuple[Step, Callable[[], dict[str, Tensor]]]:
    """(a step, the parameters) of the plain CQL with the weights of state `s`."""
    spec = algo.spec
    plain = PlainCQL(
        *(spec.obs_shape[0], spec.action_dim, spec.max_action),
        gamma=GAMMA,
        **{key: getattr(algo, key) for key in KEYS},
    )
    for module, theta in zip((plain.actor, *plain.critics), (s.actor, *s.critic), strict=True):
        load(module, theta)
    plain.copy_targets()

    def step(b: Transition, z: Any) -> dict[str, float]:
        terminated = (b.discount == 0).to(b.reward.dtype)
        data = b.obs, b.action, b.reward, b.next_obs, terminated, b.return_to_go
        return plain.train_step(*data, *z)

    return (
        step,
        lambda: (
            {
                "actor": flat(plain.actor),
                "critic": torch.stack([flat(c) for c in plain.critics]),
                "target_critic": torch.stack([flat(c) for c in plain.targets]),
                "log_alpha": plain.log_alpha.detach().clone(),
            }
            | (
                {}
                if algo.lagrange_threshold is None
                else {"multiplier": plain.log_multiplier.detach()}
            )
        ),
    )


@pytest.mark.parametrize("bc_steps", [0, 2])
@pytest.mark.parametrize("name", ["cql", "cal_ql", "cql_seed"])
def test_losses_and_parameters_equal_those_of_a_plain_loop(
    name: str, bc_steps: int, tolerance: float
) -> None:
    algo = algorithm(name, hidden=[32, 24], bc_steps=bc_steps)
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
        if "multiplier" in theta:
            assert distance(s.multiplier.log_value, theta.pop("multiplier")) < tolerance
        assert set(theta) == {n for n in s._fields if not n.endswith("_opt")} - {"multiplier"}
        for key, value in theta.items():
            assert distance(getattr(s, key), value) < tolerance, (u, key)
