"""IQL: a plain loop from the paper, each part by itself, and tasks with known answers."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import roads
import torch
from problem import algorithm, batch, noise, same_bits
from reference.iql import IQL as Plain
from reference.networks import flat, load
from test_learning import FAST, SPEC, assert_near_the_optimum, data, train
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
from torch.distributions import Independent, Normal

from offrl.algos.iql import IQL, State
from offrl.rng import generator
from offrl.types import Transition

KEYS = (
    *("expectile", "beta", "tau", "actor_lr", "actor_decay_steps", "critic_lr", "value_lr"),
    "hidden",
)


@pytest.fixture
def algo() -> Any:
    return algorithm("iql")


def start(algo: Any) -> State:
    """A state whose targets are networks of their own, as later in training."""
    s: State = algo.init(generator(0, "init"))
    other: State = algo.init(generator(6, "init"))  # whose critics cross each other
    return s._replace(target_critic=other.critic)


def plain_loop(algo: Any, s: Any) -> tuple[Step, Parameters]:
    plain = Plain(*dims(algo), gamma=GAMMA, **{key: getattr(algo, key) for key in KEYS})
    n_actions = algo.spec.action_dim
    load(plain.policy.net, s.actor[:-n_actions])
    assert not s.actor[-n_actions:].any()  # the plain policy starts there
    load(plain.value, s.value)
    for module, theta in zip(plain.critics, s.critic, strict=True):
        load(module, theta)
    plain.copy_targets()
    return lambda b, z: plain.train_step(*columns(b)), lambda: {
        "actor": torch.cat((flat(plain.policy.net), plain.policy.log_std.detach())),
        "critic": stacked(*plain.critics),
        "target_critic": stacked(*plain.targets),
        "value": flat(plain.value),
    }


@pytest.mark.parametrize("beta", [3.0, 100.0])  # the second reaches the bound of the weights
def test_losses_and_parameters_equal_those_of_a_plain_loop(beta: float, tolerance: float) -> None:
    rates = {"actor_lr": 5e-4, "critic_lr": 1e-3, "value_lr": 2e-3}  # none can stand for another
    algo = algorithm("iql", hidden=[32, 24], beta=beta, actor_decay_steps=7, **rates)
    assert_equal_to_a_plain_loop(algo, plain_loop, tolerance)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_value_loss_is_least_at_the_expectile(algo: IQL, expectile: float) -> None:
    """Of a coin's 0 and 1 the tau-expectile is tau."""
    algo = replace(algo, expectile=expectile)
    b = batch(algo, 0)
    q = (torch.arange(len(b.reward)) % 2).float()

    def loss(v: float) -> float:
        theta = torch.zeros_like(algo.init(generator(0)).value)
        theta[-1] = v  # the last bias: V is the same everywhere
        value, v_mean = algo.value_loss(theta, b, q)
        assert float(v_mean) == pytest.approx(v)
        return float(value)

    best = loss(expectile)
    assert best == pytest.approx(expectile * (1 - expectile) / 2)
    assert min(loss(expectile - 0.01), loss(expectile + 0.01)) > best


def test_v_follows_the_lower_target_critic(algo: IQL) -> None:
    s, b = start(algo), batch(algo, 0)
    q = algo.critic(s.target_critic, b.obs, b.action)
    assert (q[0] < q[1]).any()
    assert (q[0] > q[1]).any()
    expected, _ = algo.value_loss(s.value, b, torch.minimum(q[0], q[1]))
    _, stats = algo.update(s, b, noise(algo, 0))
    torch.testing.assert_close(stats.value_loss, expected)
    after, _ = algo.update(s._replace(critic=2 * s.critic), b, noise(algo, 0))
    assert same_bits(after.value, algo.update(s, b, noise(algo, 0))[0].value)


def test_the_critics_target_is_the_new_v_and_nothing_after_a_terminal(algo: IQL) -> None:
    s, b = start(algo), batch(algo, 0)
    after, stats = algo.update(s, b, noise(algo, 0))
    ended = b.discount == 0
    assert ended.any()
    y = b.reward + 0.99 * algo.v(after.value, b.next_obs).where(~ended, torch.tensor(0.0))
    torch.testing.assert_close(stats.critic_loss, algo.critic_loss(s.critic, b, y)[0])


def test_weights_are_exponential_bounded_and_of_the_new_v(algo: IQL) -> None:
    s, b = start(algo), batch(algo, 0)
    after, stats = algo.update(s, b, noise(algo, 0))
    q = algo.critic(s.target_critic, b.obs, b.action).amin(0)
    weight = (3 * (q - algo.v(after.value, b.obs))).exp()
    assert weight.max() < 100
    torch.testing.assert_close(stats.weight_mean, weight.mean())
    torch.testing.assert_close(stats.actor_loss, algo.actor_loss(s.actor, b, weight)[0])
    _, stats = replace(algo, beta=1e6).update(s, b, noise(algo, 0))
    share_above = (weight > 1).float().mean()
    assert 0 < share_above < 1
    torch.testing.assert_close(stats.weight_mean, 100 * share_above)


def test_the_policy_is_no_part_of_the_losses_of_v_and_q(algo: IQL) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    after, _ = algo.update(s, b, z)
    for other in (replace(algo, actor_lr=1.0), replace(algo, beta=0.0)):
        changed, _ = other.update(s, b, z)
        assert not torch.equal(changed.actor, after.actor)
        parts = [(x.value, x.critic, x.target_critic) for x in (changed, after)]
        assert same_bits(*parts)


@pytest.mark.parametrize(("log_std", "clamped"), [(-9.0, -5.0), (-1.0, -1.0), (3.0, 2.0)])
def test_the_policy_is_a_normal_distribution_in_units_of_max_action(
    algo: IQL, log_std: float, clamped: float
) -> None:
    s, b = start(algo), batch(algo, 0)
    theta = s.actor.clone()
    theta[-3:] = log_std
    mean = algo.act(s._replace(actor=theta), b.obs, torch.zeros(len(b.obs), 0)) / 1.5
    assert mean.abs().max() < 1
    normal = Independent(Normal(mean, math.exp(clamped)), 1)
    expected = normal.log_prob(b.action / 1.5)
    torch.testing.assert_close(algo.log_prob(theta, b.obs, b.action), expected)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (5, 0.5), (10, 0.0), (25, 0.0)])
def test_the_actors_learning_rate_follows_a_cosine(algo: IQL, step: int, share: float) -> None:
    algo = replace(algo, actor_decay_steps=10)
    s = algo.init(generator(0, "init"))
    opt = s.actor_opt._replace(t=torch.tensor(float(step)))
    torch.testing.assert_close(algo.decayed_lr(opt), torch.tensor(3e-4 * share))
    after, _ = algo.update(s._replace(actor_opt=opt), batch(algo, 0), noise(algo, 0))
    assert torch.equal(after.actor, s.actor) == (share == 0)
    assert not torch.equal(after.value, s.value)


N_UPDATES = 800


def iql(**hyperparameters: Any) -> Any:
    given = {**FAST, "value_lr": 1e-3, "actor_decay_steps": N_UPDATES, **hyperparameters}
    return algorithm("iql", SPEC, **given)


def test_iql_comes_near_the_optimum() -> None:
    assert_near_the_optimum(train(iql(), data(), N_UPDATES))


BROKEN: dict[str, dict[str, float]] = {
    "no_weights_which_is_cloning": {"beta": 0.0, "expectile": 0.5},
    "weights_with_the_wrong_sign": {"beta": -3.0},
    "actor_that_stands_still": {"actor_lr": 0.0},
    "value_that_stands_still": {"value_lr": 0.0},
    "critic_that_stands_still": {"critic_lr": 0.0},
    "targets_that_stand_still": {"tau": 0.0},
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_iql_fails_the_same_assertion(broken: dict[str, float]) -> None:
    policy = train(iql(**broken), data(), N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.full
def test_iql_that_does_not_look_ahead_fails_the_same_assertion() -> None:
    myopic = data()._replace(discount=torch.zeros_like(data().discount))
    policy = train(iql(), myopic, N_UPDATES)
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.parametrize(
    ("expectile", "right"), [(0.95, torch.gt), (0.5, torch.lt)], ids=["high", "mean"]
)
def test_the_expectile_decides_between_the_best_and_the_mean(
    expectile: float, right: Callable[[Tensor, float], Tensor]
) -> None:
    """Right, the reward is the action: 0 in the mean and 1 at best; left it is always 0.3."""

    def second(x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return uniform, x * uniform + (1 - x) * 0.3

    batches: Transition = roads.collect(second, 2000, generator("roads"))
    algo = iql(expectile=expectile, beta=10.0)
    policy = train(replace(algo, spec=roads.SPEC), batches, N_UPDATES)
    assert right(policy(roads.START[None], torch.zeros(1, 0)), 0.0).all()
