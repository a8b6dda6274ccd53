"""The parts of CQL, each by itself: proposals, gap, multiplier, targets and the actor's step."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from problem import algorithm, batch, distance, noise, same_bits

from offrl.algos.cql import CQL, Multiplier, State
from offrl.nn.heads import Critic, GaussianActor, Normal
from offrl.rng import generator
from offrl.types import Spec, value_and_grad

LIMIT = 1.5  # max_action of the small problem
VARIANTS = ["cql", "cal_ql", "cql_seed"]


@pytest.fixture
def algo() -> Any:
    return algorithm("cql")


def start(algo: CQL) -> State:
    """A state whose targets are networks of their own, as later in training."""
    s = algo.init(generator(0, "init"))
    return s._replace(target_critic=algo.init(generator(1, "init")).critic)


def test_proposals_are_random_then_of_the_policy_then_of_the_policy_at_the_next_state(
    algo: Any,
) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    actor, k = algo.actor, algo.n_actions
    normal, next_normal = (actor.normal(s.actor, obs) for obs in (b.obs, b.next_obs))
    actions, log_prob = algo.proposals(normal, next_normal, z)
    assert actions.shape == (30, 16, 3)
    assert log_prob.shape == (30, 16)
    torch.testing.assert_close(log_prob[:k], torch.full((k, 16), -3 * math.log(2)))
    for obs, normals, rows in (
        (b.obs, z.policy, slice(k, 2 * k)),
        (b.next_obs, z.next_policy, slice(2 * k, 3 * k)),
    ):
        for i in range(k):
            one = actor.sample(s.actor, obs, normals[i])
            torch.testing.assert_close(actions[rows][i], one.action)
            torch.testing.assert_close(log_prob[rows][i], one.log_prob)
    assert len({tuple(a.tolist()) for a in actions[:, 0]}) == 30


def test_a_density_integrates_to_one_over_the_box() -> None:
    """That of action / max_action, as the one of the random actions."""
    actor = GaussianActor(Spec((5,), 1, LIMIT, 1), ())
    n = 200_000
    grid = LIMIT * ((torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1)
    mean, log_std = torch.tensor([[0.4], [-0.8]]), torch.tensor([[-0.3], [0.2]])
    density = actor.log_prob(
        Normal(mean.double(), log_std.double()), grid.expand(2, n).T[..., None]
    )
    assert density.shape == (n, 2)
    torch.testing.assert_close(
        2 * density.exp().mean(0), torch.ones(2, dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_a_sample_has_the_log_prob_of_its_action() -> None:
    actor = GaussianActor(Spec((5,), 3, LIMIT, 1), ())
    normal = Normal(*torch.randn(2, 16, 3, generator=generator("law"), dtype=torch.float64))
    sample = actor.squash(normal, 0.5 * torch.randn(10, 16, 3, generator=generator("noise")))
    inside = sample.action.abs().amax(-1) < LIMIT * (1 - 1e-6)
    assert inside.float().mean() > 0.9
    given = actor.log_prob(normal, sample.action)
    torch.testing.assert_close(given[inside], sample.log_prob[inside], rtol=1e-6, atol=1e-6)


def test_actions_at_the_bounds_have_a_finite_log_prob_and_gradient(algo: Any) -> None:
    s, b = start(algo), batch(algo, 0)
    edge = b._replace(action=LIMIT * b.action.sign())
    loss, _, grad = value_and_grad(
        lambda theta: algo.actor_loss(theta, s, edge, noise(algo, 0).action), s.actor
    )
    assert loss.isfinite()
    assert grad.isfinite().all()


def test_calibration_lifts_the_policys_actions_alone_and_before_the_correction() -> None:
    algo: Any = algorithm("cal_ql")
    q = torch.randn(2, 30, 16)
    log_prob, q_data, returns = torch.randn(30, 16), torch.randn(2, 16), torch.randn(16)
    by_hand = q.clone()
    for k in range(10, 30):
        for row in range(16):
            by_hand[:, k, row] = by_hand[:, k, row].clamp(min=float(returns[row]))
    expected = (by_hand - log_prob).logsumexp(1) - q_data
    torch.testing.assert_close(algo.gap(q, q_data, log_prob, returns), expected)
    plain = replace(algo, calibrated=False).gap(q, q_data, log_prob, returns)
    torch.testing.assert_close(plain, (q - log_prob).logsumexp(1) - q_data)


def test_below_the_return_calibration_pushes_random_actions_alone() -> None:
    algo: Any = algorithm("cal_ql")
    q = torch.randn(2, 30, 16).requires_grad_()
    high = torch.full((16,), 3 + float(q.detach().max()))
    gap = algo.gap(q, torch.zeros(2, 16), torch.zeros(30, 16), high)
    (grad,) = torch.autograd.grad(gap.sum(), q)
    assert (grad[:, :10] > 0).all()
    assert (grad[:, 10:] == 0).all()


@pytest.mark.parametrize("hidden", [(), (8,), (32, 24, 16)])
def test_many_actions_of_a_state_are_valued_like_one_after_the_other(
    hidden: tuple[int, ...], tolerance: float
) -> None:
    critic = Critic(Spec((5,), 3, LIMIT, 16), hidden)
    theta, g = critic.init(generator(0, "init"), 2), generator("data")
    obs, actions = torch.randn(700, 5, generator=g), torch.randn(7, 700, 3, generator=g)
    one_by_one = torch.stack([critic(theta, obs, action) for action in actions], 1)
    assert distance(critic.many(theta, obs, actions), one_by_one) < tolerance


def multiplier_after(algo: CQL, s: State, gap: float, n: int = 1) -> State:
    for _ in range(n):
        s = s._replace(multiplier=algo.step_multiplier(s, torch.full((2,), gap)))
    return s


def test_the_multiplier_rises_above_the_threshold_and_falls_below_it() -> None:
    algo: Any = algorithm("cql_seed", min_q_weight=2.0)
    s = start(algo)
    assert float(algo.multiplier(s)) == 1
    for n in (1, 100):
        assert algo.multiplier(multiplier_after(algo, s, 5.1, n)) > 1
        assert algo.multiplier(multiplier_after(algo, s, 4.9, n)) < 1
        assert float(algo.multiplier(multiplier_after(algo, s, 5.0, n))) == 1


def test_the_multiplier_has_a_bound_and_comes_back_from_it() -> None:
    algo: Any = algorithm("cql_seed", critic_lr=1.0)
    top = multiplier_after(algo, start(algo), 1e3, 50)
    assert float(algo.multiplier(top)) == pytest.approx(1e6, rel=1e-4)
    assert algo.multiplier(multiplier_after(algo, top, -1e3, 20)) < 1e6


def test_the_multiplier_weighs_the_gap_in_the_critics_loss() -> None:
    algo: Any = algorithm("cql_seed")
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    assert isinstance(s.multiplier, Multiplier)
    heavier = s._replace(multiplier=s.multiplier._replace(log_value=torch.tensor(math.log(3.0))))
    (_, one), (_, three) = algo.update(s, b, z), algo.update(heavier, b, z)
    assert float(one.critic_loss) == pytest.approx(float(one.td_loss + 2 * one.gap), rel=1e-5)
    assert float(three.critic_loss) == pytest.approx(float(one.td_loss + 6 * one.gap), rel=1e-5)


@pytest.mark.parametrize("backup_entropy", [False, True])
def test_the_target_has_the_entropy_only_if_it_is_asked_for(backup_entropy: bool) -> None:
    algo: Any = algorithm("cql", backup_entropy=backup_entropy)
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    s = s._replace(log_alpha=torch.tensor(0.7))
    normal = algo.actor.normal(s.actor, b.next_obs)
    action, log_prob = algo.actor.squash(normal, z.next_action)
    value = torch.stack([algo.critic(t, b.next_obs, action) for t in s.target_critic]).amin(0)
    if backup_entropy:
        value = value - math.exp(0.7) * log_prob
    y = algo.td_target(s, b, normal, z.next_action)
    torch.testing.assert_close(y, b.reward + b.discount * value)
    assert (b.discount == 0).any()


def test_the_actor_clones_for_its_first_steps_and_then_follows_the_critics() -> None:
    algo: Any = algorithm("cql", bc_steps=2)
    s, b = start(algo), batch(algo, 0)
    flipped = b._replace(action=-b.action)
    for step in range(4):
        z = noise(algo, step)
        other_critics = s._replace(critic=-s.critic)
        moved = [algo.update(*x, z)[0].actor for x in ((s, b), (other_critics, b), (s, flipped))]
        of_critics, of_data = (not torch.equal(moved[0], x) for x in moved[1:])
        assert (of_critics, of_data) == (step >= 2, step < 2), step
        s, _ = algo.update(s, b, z)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_proposals_do_not_move_the_actor_nor_its_sample_the_critics(name: str) -> None:
    algo = algorithm(name, bc_steps=0)
    s, b, z = algo.init(generator(0, "init")), batch(algo, 0), noise(algo, 0)
    other = noise(algo, 1)
    before, _ = algo.update(s, b, z)
    fresh = z._replace(random=other.random, policy=other.policy, next_policy=other.next_policy)
    after, _ = algo.update(s, b, fresh)
    assert same_bits((before.actor, before.log_alpha), (after.actor, after.log_alpha))
    assert not same_bits(before.critic, after.critic)
    after, _ = algo.update(s, b, z._replace(action=other.action))
    assert same_bits((before.critic, before.multiplier), (after.critic, after.multiplier))
    assert not same_bits(before.actor, after.actor)


def test_alpha_rises_while_the_entropy_is_below_minus_the_number_of_actions(algo: Any) -> None:
    s, b, z = start(algo), batch(algo, 0), noise(algo, 0)
    for bias, rises in ((-5.0, True), (0.0, False)):  # of the log deviations
        actor = s.actor.clone()
        actor[-3:] += bias
        after, stats = algo.update(s._replace(actor=actor), b, z)
        assert (float(stats.entropy) < -3) is rises
        assert (float(after.log_alpha) > 0) is rises


def test_each_critics_gradient_is_clipped_by_itself() -> None:
    algo: Any = algorithm("cql_seed")
    unclipped: Any = algorithm("cql")
    assert algo.max_grad_norm == 1
    grad = torch.stack((torch.full((100,), 5.0), torch.full((100,), 0.01)))
    clipped = algo.clipped(grad)
    assert float(clipped[0].norm()) == pytest.approx(1, rel=1e-5)
    assert torch.equal(clipped[1], grad[1])
    assert torch.equal(unclipped.clipped(grad), grad)


def test_acting_is_the_tanh_of_the_mean(algo: Any) -> None:
    s, obs = start(algo), batch(algo, 0).obs
    expected = LIMIT * algo.actor.normal(s.actor, obs).mean.tanh()
    assert torch.equal(algo.act(s, obs, torch.zeros(16, algo.act_noise_dim)), expected)
