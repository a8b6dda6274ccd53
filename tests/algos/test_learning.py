"""Each algorithm learns a task whose optimum is known; broken ones do not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import lqr
import pytest
import torch
from problem import algorithm
from reference import td3_bc as plain

from offrl.engine import Engine
from offrl.rng import generator
from offrl.types import AnyAlgorithm, OnlineAlgorithm, Transition

SPEC = lqr.spec(64)
FAST: dict[str, Any] = {
    "hidden": [64, 64],
    "tau": 0.05,
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
}  # short trainings
N_UPDATES = 800
Break = Callable[[Any], AnyAlgorithm]


@cache
def data() -> Transition:
    return lqr.collect(lqr.behaviour, 250, 20, generator("data"))


@cache
def data_return() -> float:
    return lqr.mean_return(lqr.behaviour, generator("returns"))


def td3_bc() -> Any:
    return algorithm("td3_bc", SPEC, **FAST)


def train(algo: AnyAlgorithm, batches: Transition, n_updates: int = N_UPDATES) -> lqr.Policy:
    """The evaluation policy after training offline."""
    engine, g = Engine(algo, [algo.init(generator("init"))]), generator("batch")
    noises = algo.noise(n_updates, generator("noise"))
    for u in range(n_updates):
        rows = torch.randint(len(batches.reward), (algo.period * SPEC.batch_size,), generator=g)
        noise = type(noises)(*(x[u] for x in noises))
        engine.step([Transition(*(x[rows] for x in batches))], [noise])
    (s,) = engine.states
    z = generator("act")
    return lambda obs, _: algo.act(s, obs, torch.randn(len(obs), algo.act_noise_dim, generator=z))


def assert_near_the_optimum(policy: lqr.Policy) -> None:
    """At least 90% of the way from the data's return to the best one."""
    worst, best = data_return(), lqr.mean_return(lqr.optimum)
    assert (lqr.mean_return(policy) - worst) / (best - worst) > 0.9


def test_the_known_optimum_is_one() -> None:
    p, gain = lqr.riccati()
    start = lqr.starts(256, torch.Generator().manual_seed(1))
    assert (start @ gain.T).abs().max() < 1  # the box does not bind
    best = lqr.mean_return(lqr.optimum)
    assert best == pytest.approx(-float(((start @ p) * start).sum(1).mean()), rel=1e-3)
    for factor in torch.tensor([[0.9, 1.0], [1.1, 1.0], [1.0, 0.9], [1.0, 1.1]]):
        assert lqr.mean_return(lambda s, _, k=gain * factor: -s @ k.T) < best
    assert data_return() < 5 * best


def test_td3_bc_comes_near_the_optimum() -> None:
    assert_near_the_optimum(train(td3_bc(), data()))


def test_the_plain_td3_bc_comes_near_the_optimum() -> None:
    obs, action, reward, next_obs = (x.numpy() for x in data()[:4])
    actor = plain.train(
        *(obs, action, reward, next_obs, 0 * reward),
        n_updates=2 * N_UPDATES,
        seed=0,
        batch_size=SPEC.batch_size,
        gamma=lqr.GAMMA,
        **FAST,
    )
    assert_near_the_optimum(lambda obs, _: actor(obs).detach())


def test_bc_learns_the_mean_of_its_data_and_not_the_optimum() -> None:
    policy = train(algorithm("bc", SPEC, hidden=[64, 64]), data())
    obs = data().obs
    error = policy(obs, obs) - lqr.behaviour(obs, torch.zeros(len(obs), 1))
    assert error.square().mean().sqrt() < 0.1
    # without its noise the behaviour does better than the data
    assert lqr.mean_return(policy) > data_return()
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


BROKEN: dict[str, Break] = {
    "q_with_the_wrong_sign": lambda algo: replace(algo, alpha=-algo.alpha),
    "actor_that_stands_still": lambda algo: replace(algo, actor_lr=0.0),
    "critic_that_stands_still": lambda algo: replace(algo, critic_lr=0.0),
    "targets_that_stand_still": lambda algo: replace(algo, tau=0.0),
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_td3_bc_fails_the_same_assertion(broken: Break) -> None:
    policy = train(broken(td3_bc()), data())
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


@pytest.mark.full
def test_td3_bc_that_does_not_look_ahead_fails_the_same_assertion() -> None:
    policy = train(td3_bc(), data()._replace(discount=torch.zeros_like(data().discount)))
    with pytest.raises(AssertionError):
        assert_near_the_optimum(policy)


def train_online(algo: OnlineAlgorithm[Any, Any, Any], n_updates: int = 600) -> lqr.Policy:
    """Eight point masses at once; one update per step, on a replay that grows."""
    engine, g = Engine(algo, [algo.init(generator("init"))]), generator("collect")
    noises = algo.noise(n_updates, generator("noise"))
    replay = lqr.transition(
        *(torch.zeros(n_updates, 8, *shape) for shape in ((2,), (1,), (), (2,)))
    )
    state = lqr.starts(8, g)
    for u in range(n_updates):
        if u % 6 == 0:  # soon: far away costs grow so large that they are all the critic sees
            state = lqr.starts(8, g)
        action = algo.explore(engine.states[0], state, torch.randn(8, 1, generator=g))
        next_state, reward = lqr.step(state, action)
        for column, new in zip(
            replay, lqr.transition(state, action, reward, next_state), strict=True
        ):
            column[u] = new
        state = next_state
        rows = torch.randint(8 * (u + 1), (SPEC.batch_size,), generator=g)
        batch = Transition(*(column.flatten(0, 1)[rows] for column in replay))
        engine.step([batch], [type(noises)(*(x[u] for x in noises))])
    (s,) = engine.states
    return lambda obs, normal: algo.act(s, obs, normal)


def sac() -> Any:
    return algorithm("sac", SPEC, **FAST, alpha_lr=1e-2)


def assert_a_large_share_of_the_optimum(policy: lqr.Policy) -> None:
    """Costs at most a quarter more than the least possible."""
    assert lqr.mean_return(lqr.optimum) / lqr.mean_return(policy) > 0.8


def test_sac_reaches_four_fifths_of_the_optimum() -> None:
    assert_a_large_share_of_the_optimum(train_online(sac()))


BROKEN_SAC: dict[str, Break] = {
    "actor_that_stands_still": lambda algo: replace(algo, actor_lr=0.0),
    "critic_that_stands_still": lambda algo: replace(algo, critic_lr=0.0),
    "targets_that_stand_still": lambda algo: replace(algo, tau=0.0),
    "nothing_but_entropy": lambda algo: replace(algo, initial_alpha=1e3),
}


@pytest.mark.full
@pytest.mark.parametrize("broken", BROKEN_SAC.values(), ids=BROKEN_SAC)
def test_a_broken_sac_fails_the_same_assertion(broken: Break) -> None:
    policy = train_online(broken(sac()))
    with pytest.raises(AssertionError):
        assert_a_large_share_of_the_optimum(policy)
