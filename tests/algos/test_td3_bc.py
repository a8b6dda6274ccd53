"""TD3's target and TD3+BC's actor step, each part by itself."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from problem import algorithm, batch, noise, same_bits
from torch import Tensor

from offrl.algos.td3_bc import TD3BC
from offrl.rng import generator
from offrl.types import Spec

SPEC = Spec((5,), 1, 1.5, 64)


@pytest.fixture
def algo() -> Any:
    return algorithm("td3_bc")


def target_action(actor_scale: float, eps: Tensor, **hyperparameters: Any) -> Tensor:
    """The smoothed target action [B, 1], which critics that return their action make visible."""
    algo: Any = algorithm("td3_bc", SPEC, hidden=[], period=1, **hyperparameters)
    s = algo.init(generator(0, "init"))
    q_is_the_action = torch.tensor([0.0] * 5 + [1.0, 0.0]).expand(2, 7)
    s = s._replace(target_actor=actor_scale * s.target_actor, target_critic=q_is_the_action)
    b = batch(algo, 0)
    ones = torch.ones_like(b.reward)
    target: Tensor = algo.td_target(s, b._replace(reward=0 * ones, discount=ones), eps)
    return target[:, None]


@pytest.mark.parametrize("actor_scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("noise_scale", [0.0, 1.0, 1e4])
def test_the_target_action_stays_in_the_box(actor_scale: float, noise_scale: float) -> None:
    eps = noise_scale * torch.randn(64, 1, generator=generator(1))
    action = target_action(actor_scale, eps)
    assert action.abs().max() <= SPEC.max_action
    if actor_scale > 1:  # else the test could not fail
        assert action.abs().max() == SPEC.max_action


def test_the_target_noise_is_scaled_and_clipped_in_units_of_max_action() -> None:
    eps = torch.linspace(-10, 10, 64)[:, None]
    action = target_action(0.0, eps, policy_noise=0.2, noise_clip=0.5)
    torch.testing.assert_close(action, (0.3 * eps).clamp(-0.75, 0.75))


def test_the_target_takes_the_lower_critic_and_nothing_after_a_terminal(algo: Any) -> None:
    s, b = algo.init(generator(0, "init")), batch(algo, 0)
    eps = torch.zeros(len(b.reward), 3)
    action = algo.actor(s.target_actor, b.next_obs)
    q = algo.critic(s.target_critic, b.next_obs, action)
    assert (q[0] < q[1]).any()
    assert (q[0] > q[1]).any()
    y = algo.td_target(s, b, eps)
    torch.testing.assert_close(y, b.reward + b.discount * torch.minimum(q[0], q[1]))
    ended = b.discount == 0
    assert ended.any()
    assert torch.equal(y[ended], b.reward[ended])


def test_the_actor_step_does_not_reach_the_critic(algo: Any) -> None:
    s, b, z = algo.init(generator(0, "init")), batch(algo, 0), noise(algo, 0)
    after, _ = algo.update(s, b, z)
    for other in (replace(algo, alpha=1e3), replace(algo, actor_lr=1.0)):
        changed, _ = other.update(s, b, z)
        assert not torch.equal(changed.actor, after.actor)
        parts = [(x.critic, x.target_critic, x.critic_opt) for x in (changed, after)]
        assert same_bits(*parts)


def test_the_actors_loss_does_not_depend_on_the_scale_of_q(algo: TD3BC) -> None:
    """lambda = alpha / mean |Q|: with a last layer ten times as large the loss is the same."""
    s, b = algo.init(generator(0, "init")), batch(replace(algo, period=1), 0)
    larger = s.critic.clone()
    n_last = algo.hidden[-1] + 1
    larger[:, -n_last:] *= 10
    losses = [algo.actor_loss(s.actor, critic, b)[0] for critic in (s.critic, larger)]
    torch.testing.assert_close(*losses)


def test_lambda_has_no_gradient(algo: TD3BC) -> None:
    """With lambda inside the derivative, -alpha mean Q / mean |Q| is flat where Q has one sign."""
    s, b = algo.init(generator(0, "init")), batch(replace(algo, period=1), 0)
    negative = s.critic.clone()
    negative[:, -1] = -100.0
    strong = replace(algo, alpha=1e6)
    grads = [
        torch.func.grad(lambda theta, a=a: a.actor_loss(theta, negative, b)[0])(s.actor)
        for a in (strong, replace(algo, alpha=0.0))
    ]
    assert (grads[0] - grads[1]).norm() > 10 * grads[1].norm()


def test_targets_move_once_per_update(algo: TD3BC) -> None:
    algo = replace(algo, tau=0.25)
    s = algo.init(generator(0, "init"))
    after, _ = algo.update(s, batch(algo, 0), noise(algo, 0))
    for name in ("actor", "critic"):
        old, new = getattr(s, f"target_{name}"), getattr(after, f"target_{name}")
        moved = getattr(after, name) - old
        assert moved.abs().max() > 1e-4
        torch.testing.assert_close(new - old, 0.25 * moved, rtol=1e-3, atol=1e-7)
    assert after.critic_opt.t == algo.period
    assert after.actor_opt.t == 1
