"""ReBRAC: a plain loop from the paper, each part by itself, and tasks with known answers."""

import math
from dataclasses import replace
from typing import Any

import lqr
import pytest
import roads
import torch
from problem import algorithm, batch, noise, same_bits
from reference.networks import flat, load
from reference.rebrac import ReBRAC as Plain
from test_learning import FAST, SPEC, assert_near_the_optimum, train
from test_reference import (
    GAMMA,
    Parameters,
    Step,
    assert_equal_to_a_plain_loop,
    columns,
    dims,
    stacked,
)
from torch import Tensor

from offrl.algos.rebrac import ReBRAC, State
from offrl.rng import generator
from offrl.types import Transition

KEYS = (
    *("actor_bc_coef", "critic_bc_coef", "tau", "actor_lr", "critic_lr", "policy_noise"),
    *("noise_clip", "hidden"),
)
PENALTIES = {"actor_bc_coef": 0.4, "critic_bc_coef": 0.3}  # which no test could overlook


@pytest.fixture
def algo() -> Any:
    return algorithm("rebrac", **PENALTIES)


def start(algo: Any) -> State:
    """A state whose targets are networks of their own, as later in training."""
    s: State = algo.init(generator(0, "init"))
    other: State = algo.init(generator(1, "init"))
    return s._replace(target_actor=30 * other.actor, target_critic=other.critic)


def plain_loop(algo: Any, s: Any) -> tuple[Step, Parameters]:
    given = {key: getattr(algo, key) for key in KEYS}
    plain = Plain(*dims(algo), gamma=GAMMA, policy_freq=algo.period, **given)
    for module, theta in zip((plain.actor, *plain.critics), (s.actor, *s.critic), strict=True):
        load(module, theta)
    plain.copy_targets()

    def step(b: Transition, z: Any) -> dict[str, float]:
        rows = zip(
            *(x.chunk(algo.period) for x in (*columns(b), b.next_action, z.target)), strict=True
        )
        return [plain.train_step(*xs) for xs in rows][-1]

    return step, lambda: {
        "actor": flat(plain.actor),
        "critic": stacked(*plain.critics),
        "target_actor": flat(plain.target_actor),
        "target_critic": stacked(*plain.target_critics),
    }


def test_losses_and_parameters_equal_those_of_a_plain_loop(tolerance: float) -> None:
    algo = algorithm("rebrac", hidden=[32, 24], **PENALTIES)
    assert_equal_to_a_plain_loop(algo, plain_loop, tolerance)


def one_step(algo: ReBRAC) -> tuple[State, Transition, Tensor]:
    b = batch(replace(algo, period=1), 0)
    return start(algo), b, torch.randn(len(b.reward), 3, generator=generator("eps"))


def test_the_target_is_the_lower_critic_less_the_penalty_and_nothing_after_a_terminal(
    algo: ReBRAC,
) -> None:
    s, b, eps = one_step(algo)
    y, mean_penalty = algo.td_target(s, b, eps)
    action = algo.actor(s.target_actor, b.next_obs) + (0.3 * eps).clamp(-0.75, 0.75)
    assert (action.abs() > 1.5).any()
    action = action.clamp(-1.5, 1.5)  # max_action
    penalty = ((action - b.next_action) ** 2).sum(1)
    q = algo.critic(s.target_critic, b.next_obs, action)
    assert (q[0] < q[1]).any()
    assert (q[0] > q[1]).any()
    torch.testing.assert_close(
        y, b.reward + b.discount * (torch.minimum(q[0], q[1]) - 0.3 * penalty)
    )
    torch.testing.assert_close(mean_penalty, penalty.mean())
    ended = b.discount == 0
    assert ended.any()
    assert torch.equal(y[ended], b.reward[ended])


def test_the_actor_maximises_the_lower_critic_over_its_mean_absolute_value(algo: ReBRAC) -> None:
    s, b, _ = one_step(algo)
    critic = started_elsewhere(algo)
    action = algo.actor(s.actor, b.obs)
    q = algo.critic(critic, b.obs, action)
    lower = torch.minimum(q[0], q[1])
    assert not torch.equal(lower, q[0])
    assert not torch.equal(lower, q[1])
    penalty = ((action - b.action) ** 2).sum(1).mean()
    loss, measured = algo.actor_loss(s.actor, critic, b)
    torch.testing.assert_close(measured, penalty)
    torch.testing.assert_close(loss, 0.4 * penalty - lower.mean() / lower.abs().mean())


def started_elsewhere(algo: ReBRAC) -> Tensor:
    """Critics whose values have both signs and cross each other."""
    theta = algo.critic.init(generator(5, "init"), 2)
    theta[:, : algo.critic.net.size - 1] *= 2
    return theta


def test_lambda_has_no_gradient(algo: ReBRAC) -> None:
    """With lambda inside the derivative, mean Q / mean |Q| is flat where Q has one sign."""
    s, b, _ = one_step(algo)
    n_last = 2 * sum(algo.hidden) + 1  # behind the last bias stand gains and shifts
    negative = started_elsewhere(algo)
    negative[:, -n_last] = -100.0
    free = replace(algo, actor_bc_coef=0.0)
    assert algo.critic(negative, b.obs, b.action).max() < 0
    grad = torch.func.grad(lambda theta: free.actor_loss(theta, negative, b)[0])(s.actor)
    assert grad.norm() > 1e-5


def test_layer_normalisation_bounds_the_critics_far_from_the_data(algo: ReBRAC) -> None:
    """|Q| <= |w| sqrt(width) + |b|, however large an action is: critics cannot extrapolate."""
    theta = algo.critic.init(generator(0), 2)
    weight, bias = algo.critic.net.layers(theta)[-1]
    bound = weight.flatten(1).norm(dim=1) * math.sqrt(algo.hidden[-1]) + bias.flatten().abs()
    _, b, _ = one_step(algo)
    q = algo.critic(theta, b.obs, 1e6 * b.action)
    assert (q.abs() <= 1.0001 * bound[:, None]).all()
    far, farther = (algo.actor.net(algo.actor.init(generator(0)), x * b.obs) for x in (1e3, 1e6))
    assert farther.abs().max() > 100 * far.abs().max()  # the actor has none


def test_networks_start_as_the_authors_do(algo: ReBRAC) -> None:
    s: State = algorithm("rebrac", hidden=[64, 64, 64]).init(generator(0, "init"))
    wide = replace(algo, hidden=(64, 64, 64))
    for net, theta, bound in (
        (wide.actor.net, s.actor, 1e-3),
        (wide.critic.net, s.critic, 3e-3),
        (wide.actor.net, s.target_actor, 1e-3),
        (wide.critic.net, s.target_critic, 3e-3),
    ):
        *hidden, (weight, bias) = net.layers(theta)
        assert all((b == 0.1).all() for _, b in hidden)
        assert hidden[-1][0].abs().max() == pytest.approx(1 / 8, rel=0.02)
        assert weight.abs().max() == pytest.approx(bound, rel=0.1)
        assert bias.abs().max() <= bound
    assert not torch.equal(s.critic[0], s.critic[1])


def test_the_actor_step_does_not_reach_the_critic(algo: ReBRAC) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    after, _ = algo.update(s, b, z)
    for other in (replace(algo, actor_bc_coef=1e3), replace(algo, actor_lr=1.0)):
        changed, _ = other.update(s, b, z)
        assert not torch.equal(changed.actor, after.actor)
        parts = [(x.critic, x.target_critic, x.critic_opt) for x in (changed, after)]
        assert same_bits(*parts)


def test_targets_move_once_per_update(algo: ReBRAC) -> None:
    algo = replace(algo, tau=0.25)
    s = start(algo)
    after, _ = algo.update(s, batch(algo, 0), noise(algo, 0))
    for name in ("actor", "critic"):
        old, new = getattr(s, f"target_{name}"), getattr(after, f"target_{name}")
        torch.testing.assert_close(new, 0.75 * old + 0.25 * getattr(after, name))
    assert after.critic_opt.t == algo.period == 2
    assert after.actor_opt.t == 1


N_UPDATES = 400  # of two steps of the critics each


def rebrac(**hyperparameters: float) -> Any:
    return algorithm(
        "rebrac", SPEC, **{**FAST, "actor_bc_coef": 0.01, "critic_bc_coef": 0.01, **hyperparameters}
    )


def episodes(policy: lqr.Policy, n: int) -> Transition:
    """n episodes of 20 steps with the actions that follow; the last is followed by itself."""
    made = lqr.collect(policy, n, 20, generator("data"))
    return made._replace(next_action=torch.cat((made.action[n:], made.action[-n:])))


def test_rebrac_comes_near_the_optimum() -> None:
    assert_near_the_optimum(train(rebrac(), episodes(lqr.behaviour, 250), N_UPDATES))


BROKEN: dict[str, dict[str, float]] = {
    "nothing_but_cloning": {"actor_bc_coef": 1e3},
    "penalty_with_the_wrong_sign": {"actor_bc_coef": -1.0},
    "actor_that_stands_still": {"actor_lr": 0.0},
    "critic_that_stands_still": {"critic_lr": 0.0},
    "targets_that_stand_still": {"tau": 0.0},
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_rebrac_fails_the_same_assertion(broken: dict[str, float]) -> None:
    policy = train(rebrac(**broken), episodes(lqr.behaviour, 250), N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.full
def test_rebrac_that_does_not_look_ahead_fails_the_same_assertion() -> None:
    made = episodes(lqr.behaviour, 250)
    myopic = made._replace(discount=torch.zeros_like(made.discount))
    policy = train(rebrac(), myopic, N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.parametrize(("actor_bc_coef", "stays"), [(10.0, True), (0.0, False), (-10.0, False)])
def test_the_actors_penalty_keeps_it_at_narrow_data(actor_bc_coef: float, stays: bool) -> None:
    """Of 25 episodes of a good policy: elsewhere the critics know nothing, and costs explode."""

    def good(state: Tensor, normal: Tensor) -> Tensor:
        return (lqr.optimum(state, normal) + 0.1 * normal).clamp(-1, 1)

    policy = train(rebrac(actor_bc_coef=actor_bc_coef), episodes(good, 25), N_UPDATES)
    costs = lqr.mean_return(policy) / lqr.mean_return(lqr.optimum)
    assert (costs < 1.3) == stays


@pytest.mark.parametrize(("critic_bc_coef", "right"), [(0.0, True), (-3.0, True), (3.0, False)])
def test_the_critics_penalty_prefers_the_road_that_the_data_are_sure_of(
    critic_bc_coef: float, right: bool
) -> None:
    """Right, rewards are higher, but the data did now this and now that; left always the same."""

    def second(x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return x * uniform, 0.5 + 0.5 * x

    algo = rebrac(actor_bc_coef=0.1, critic_bc_coef=critic_bc_coef)
    batches = roads.collect(second, 2000, generator("roads"))
    policy = train(replace(algo, spec=roads.SPEC), batches, N_UPDATES)
    (action,) = policy(roads.START[None], torch.zeros(1, 0))
    assert float(action) > 0.5 if right else float(action) < 0.0
