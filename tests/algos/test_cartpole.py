"""The discrete algorithms balance a pole; broken ones do not."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cartpole
import pytest
import torch
from cartpole import MIXED, RANDOM
from problem import algorithm
from torch import Tensor

from offrl.algos.discrete_crr import DiscreteCRR, expected
from offrl.engine import Engine
from offrl.envs.vector import VectorEnv
from offrl.nn.discrete import of_actions
from offrl.online import Online
from offrl.rng import generator
from offrl.types import Transition

SHORT: dict[str, Any] = {"hidden": [64, 64], "lr": 1e-3}
COPIES: dict[str, Any] = {**SHORT, "target_period": 100}
CHANGES: dict[str, dict[str, Any]] = {
    "discrete_bc": SHORT,
    "discrete_bcq": {**COPIES, "threshold": 0.6},
    "discrete_cql": {**COPIES, "n_quantiles": 20},  # min_q_weight 10
    "discrete_crr": COPIES,
    "discrete_crr_cql": COPIES,
}
# From random actions alone: what holds to the data must let go of it.
BOLD: dict[str, dict[str, Any]] = {
    "qrdqn": {**COPIES, "n_quantiles": 20},
    "discrete_bcq": {**COPIES, "threshold": 0.3},
    "discrete_cql": {**COPIES, "n_quantiles": 20, "min_q_weight": 1.0},
    "discrete_crr": COPIES,
}


def learner(name: str, changes: dict[str, dict[str, Any]] = CHANGES) -> Any:
    return algorithm(name, cartpole.SPEC, **changes[name])


def train(algo: Any, batches: Transition, n_updates: int) -> cartpole.Policy:
    """The evaluation policy after training offline."""
    engine, g = Engine(algo, [algo.init(generator("init"))]), generator("batch")
    for _ in range(n_updates):
        rows = torch.randint(len(batches.reward), (algo.spec.batch_size,), generator=g)
        engine.step([Transition(*(x[rows] for x in batches))], [algo.noise(1, g)])
    (s,) = engine.states
    z = generator("act")
    return lambda obs: algo.act(s, obs, torch.randn(len(obs), algo.act_noise_dim, generator=z))


def assert_balances(policy: cartpole.Policy) -> None:
    assert cartpole.mean_return(policy) >= 190


def assert_learns_from_random_actions(policy: cartpole.Policy) -> None:
    assert cartpole.mean_return(policy) >= 100


def without_next(batches: Transition) -> Transition:
    return batches._replace(discount=torch.zeros_like(batches.discount))


def test_the_data_is_far_from_balancing_and_its_controller_is_not() -> None:
    assert cartpole.data(*MIXED)[1] < 70
    assert cartpole.data(*RANDOM)[1] < 25
    truncated = cartpole.data(*MIXED)[0].discount != 0
    assert truncated.any()
    assert_balances(lambda obs: torch.tensor([cartpole.controller(x) for x in obs.numpy()]))


@pytest.mark.parametrize("name", CHANGES)
def test_each_learner_balances(name: str) -> None:
    assert_balances(train(learner(name), cartpole.data(*MIXED)[0], 1500))


@pytest.mark.full
@pytest.mark.parametrize("name", CHANGES)
def test_learners_that_stand_still_do_not(name: str) -> None:
    policy = train(replace(learner(name), lr=0.0), cartpole.data(*MIXED)[0], 50)
    with pytest.raises(AssertionError):
        assert_balances(policy)


@pytest.mark.full
@pytest.mark.parametrize("name", ["discrete_bc", "discrete_bcq", "discrete_crr"])
def test_actions_of_other_states_teach_nothing(name: str) -> None:
    batches = cartpole.data(*MIXED)[0]
    order = torch.randperm(len(batches.action), generator=generator("order"))
    policy = train(learner(name), batches._replace(action=batches.action[order]), 1500)
    with pytest.raises(AssertionError):
        assert_balances(policy)


@pytest.mark.full
def test_cql_that_prefers_what_the_data_does_not_do_fails() -> None:
    broken = replace(learner("discrete_cql"), min_q_weight=-10.0)
    policy = train(broken, cartpole.data(*MIXED)[0], 1500)
    with pytest.raises(AssertionError):
        assert_balances(policy)


@pytest.mark.parametrize("name", BOLD)
def test_what_learns_values_learns_from_random_actions(name: str) -> None:
    policy = train(learner(name, BOLD), cartpole.data(*RANDOM)[0], 2000)
    assert_learns_from_random_actions(policy)


def weights_and_likelihoods_apart(
    self: DiscreteCRR, logits: Tensor, q: Tensor, action: Tensor
) -> tuple[Tensor, Tensor]:
    """The mean of the weights times the mean of -log pi: a known error of other libraries."""
    f = self.weight((of_actions(q, action) - expected(q, logits)).detach())
    return -f.mean() * of_actions(logits.log_softmax(-1), action).mean(), f.mean()


def test_crr_whose_weights_are_not_its_samples_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiscreteCRR, "actor_loss", weights_and_likelihoods_apart)
    policy = train(learner("discrete_crr", BOLD), cartpole.data(*RANDOM)[0], 2000)
    with pytest.raises(AssertionError):
        assert_learns_from_random_actions(policy)


BROKEN: dict[str, Any] = {
    "a copy of the data": learner("discrete_bc"),
    "crr without weights": replace(learner("discrete_crr"), mode="all"),
    "bcq that allows only the likeliest": replace(learner("discrete_bcq"), threshold=0.999),
    "cql that hardly sees rewards": replace(learner("discrete_cql"), min_q_weight=1000.0),
    "targets that stand still": replace(learner("qrdqn", BOLD), target_period=10**6),
}


@pytest.mark.full
@pytest.mark.parametrize("name", BROKEN)
def test_broken_learners_learn_nothing_from_random_actions(name: str) -> None:
    policy = train(BROKEN[name], cartpole.data(*RANDOM)[0], 2000)
    with pytest.raises(AssertionError):
        assert_learns_from_random_actions(policy)


@pytest.mark.full
@pytest.mark.parametrize("name", BOLD)
def test_who_does_not_look_ahead_learns_nothing_from_them(name: str) -> None:
    policy = train(learner(name, BOLD), without_next(cartpole.data(*RANDOM)[0]), 2000)
    with pytest.raises(AssertionError):
        assert_learns_from_random_actions(policy)


@pytest.mark.parametrize(("lr", "learns"), [(1e-3, True), (0.0, False)])
@pytest.mark.filterwarnings("ignore:.*CartPole-v0 is out of date")
def test_qrdqn_learns_from_what_it_gathers(tmp_path: Path, lr: float, learns: bool) -> None:
    env_id = "CartPole-v0"  # that of 200 steps
    changes = {**BOLD["qrdqn"], "lr": lr, "eps_steps": 1000}
    returns: list[float] = []
    Online(
        algo=algorithm("qrdqn", cartpole.SPEC, **changes),
        env_id=env_id,
        make_env=partial(VectorEnv, env_id),
        make_eval_env=partial(VectorEnv, env_id),
        gamma=cartpole.GAMMA,
        n_step=3,
        seed=0,
        train_steps=4000,
        start_steps=400,
        n_envs=4,
        steps_per_update=2,
        capacity=4000,
        eval_every=1000,
        eval_episodes=10,
        out=tmp_path,
        compile=False,
    ).train(lambda step, mean, speed: returns.append(mean))
    assert len(returns) == 4
    assert (min(returns[-2:]) >= 190) == learns
