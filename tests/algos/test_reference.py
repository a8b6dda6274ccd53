"""Each algorithm against a plain loop from its paper: same weights, same batches, same noise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from problem import algorithm, batch, distance, noise
from reference.bc import BC
from reference.networks import flat, load
from reference.sac import SAC
from reference.td3_bc import TD3BC, Batch
from torch import Tensor, nn

from offrl.rng import generator
from offrl.types import AnyAlgorithm, Transition

GAMMA = 0.99  # of problem.batch
# all different, so that none can stand for another
RATES: dict[str, dict[str, float]] = {
    "bc": {},
    "td3_bc": {"actor_lr": 5e-4, "critic_lr": 1e-3},
    "sac": {"actor_lr": 5e-4, "critic_lr": 1e-3, "alpha_lr": 2e-3},
}
Step = Callable[[Transition, Any], dict[str, float]]
Parameters = Callable[[], dict[str, Tensor]]


def columns(b: Transition) -> tuple[Tensor, ...]:
    """What the plain loops train on: they know terminals, and the discount themselves."""
    return b.obs, b.action, b.reward, b.next_obs, (b.discount == 0).to(b.reward.dtype)


def dims(algo: AnyAlgorithm) -> tuple[int, int, float]:
    return algo.spec.obs_shape[0], algo.spec.action_dim, algo.spec.max_action


def bc(algo: Any, s: Any) -> tuple[Step, Parameters]:
    plain = BC(*dims(algo), algo.lr, algo.hidden)
    load(plain.actor, s.actor)
    return (
        lambda b, z: {"actor_loss": plain.train_step(b.obs, b.action)},
        lambda: {"actor": flat(plain.actor)},
    )


def td3_bc(algo: Any, s: Any) -> tuple[Step, Parameters]:
    names = ("alpha", "tau", "actor_lr", "critic_lr", "policy_noise", "noise_clip", "hidden")
    given = {name: getattr(algo, name) for name in names}
    plain = TD3BC(*dims(algo), gamma=GAMMA, policy_freq=algo.period, **given)
    for module, theta in zip(
        (plain.actor, plain.critic_1, plain.critic_2), (s.actor, *s.critic), strict=True
    ):
        load(module, theta)
    plain.copy_targets()

    def step(b: Transition, z: Any) -> dict[str, float]:
        rows = zip(*(x.chunk(algo.period) for x in (*columns(b), z.target)), strict=True)
        return [plain.train_step(Batch(*xs), normal) for *xs, normal in rows][-1]

    return step, lambda: {
        "actor": flat(plain.actor),
        "critic": stacked(plain.critic_1, plain.critic_2),
        "target_actor": flat(plain.target_actor),
        "target_critic": stacked(plain.target_critic_1, plain.target_critic_2),
    }


def sac(algo: Any, s: Any) -> tuple[Step, Parameters]:
    lrs = algo.actor_lr, algo.critic_lr, algo.alpha_lr
    plain = SAC(*dims(algo), GAMMA, algo.tau, *lrs, algo.hidden)
    assert algo.initial_alpha == 1.0  # the plain loop starts there
    for module, theta in zip((plain.actor, *plain.critics), (s.actor, *s.critic), strict=True):
        load(module, theta)
    plain.copy_targets()
    return lambda b, z: plain.train_step(*columns(b), z.next_action, z.action), lambda: {
        "actor": flat(plain.actor),
        "critic": stacked(*plain.critics),
        "target_critic": stacked(*plain.targets),
        "log_alpha": plain.log_alpha.detach().clone(),
    }


def stacked(*modules: nn.Module) -> Tensor:
    return torch.stack([flat(m) for m in modules])


def assert_equal_to_a_plain_loop(
    algo: Any, plain_loop: Callable[[Any, Any], tuple[Step, Parameters]], tolerance: float
) -> None:
    """Five updates from the same weights: every statistic and every parameter but Adam's."""
    s = algo.init(generator(0, "init"))
    step, parameters = plain_loop(algo, s)
    for u in range(5):
        b, z = batch(algo, u), noise(algo, u)
        s, stats = algo.update(s, b, z)
        expected = step(b, z)
        assert set(stats._fields) == set(expected)
        for name, value in expected.items():
            assert float(getattr(stats, name)) == pytest.approx(
                value, rel=tolerance, abs=tolerance / 10
            ), name
        expected_theta = parameters()
        assert set(expected_theta) == {n for n in s._fields if not n.endswith("_opt")}
        for name, theta in expected_theta.items():
            assert distance(getattr(s, name), theta) < tolerance, (u, name)


@pytest.mark.parametrize("plain_loop", [bc, td3_bc, sac], ids=["bc", "td3_bc", "sac"])
def test_losses_and_parameters_equal_those_of_a_plain_loop(
    plain_loop: Callable[[Any, Any], tuple[Step, Parameters]], tolerance: float
) -> None:
    algo = algorithm(plain_loop.__name__, hidden=[32, 24], **RATES[plain_loop.__name__])
    assert_equal_to_a_plain_loop(algo, plain_loop, tolerance)
