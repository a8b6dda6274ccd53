"""The networks and functions that the discrete algorithms share, and what each adds to them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from problem import algorithm, batch, noise
from reference.discrete_networks import Net, flat_net, load_net

from offrl.nn.cnn import HeadedNet, NatureCNN
from offrl.nn.discrete import categorical, conservative_gap, copied_every, epsilon_greedy
from offrl.nn.quantile import quantile_huber
from offrl.rng import generator
from offrl.types import Spec

ATARI = (4, 84, 84)
VECTORS = Spec((5,), 3, 0.0, 16)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.randint(256, (n, *shape), generator=generator(3), dtype=torch.uint8)


def test_the_nature_cnn_has_the_papers_sizes() -> None:
    body = NatureCNN(ATARI)
    assert body.features == 64 * 7 * 7
    assert body.size == 32 * (4 * 64 + 1) + 64 * (32 * 16 + 1) + 64 * (64 * 9 + 1)
    net = HeadedNet(ATARI, (512,), (6,))
    assert net.init(generator(0)).numel() == sum(
        p.numel() for p in Net(*vars(net).values()).parameters()
    )


@pytest.mark.parametrize("shape", [(2, 36, 36), (3, 44, 60), ATARI])
def test_it_is_torchs_convolutions_on_pixels_divided_by_255(shape: tuple[int, ...]) -> None:
    net, obs = HeadedNet(shape, (16,), (3, 2)), images(5, *shape)
    theta = net.init(generator(0))
    plain = Net(shape, (16,), (3, 2))
    load_net(plain, theta)
    assert torch.equal(flat_net(plain), theta)
    for out, expected in zip(net(theta, obs), plain(obs), strict=True):
        torch.testing.assert_close(out, expected.detach(), rtol=1e-4, atol=1e-5)


def test_filters_start_orthogonal_and_the_first_ones_blind_to_what_is_uniform() -> None:
    body = NatureCNN(ATARI)
    theta = body.init(generator(0))
    assert torch.equal(theta, body.init(generator(0)))
    assert not torch.equal(theta, body.init(generator(1)))
    parts = []
    for out, *rest in body.shapes:
        sizes = [out * math.prod(rest), out]
        filters, bias, theta = theta.split([*sizes, theta.numel() - sum(sizes)])
        parts.append(filters.view(out, -1))
        assert (bias == 0).all()
    first, *others = parts
    for filters in others:
        gram = filters @ filters.T
        torch.testing.assert_close(gram, 2 * torch.eye(len(filters)), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.mean(1), torch.zeros(32), atol=1e-5, rtol=0)
    gram = first @ first.T / 256  # orthogonal, but for the means that were taken off
    torch.testing.assert_close(gram, 2 * torch.eye(32), atol=0.1, rtol=0)


def test_heads_share_the_body_and_nothing_else() -> None:
    net, obs = HeadedNet((2, 36, 36), (8,), (3, 2)), images(4, 2, 36, 36)
    theta = net.init(generator(0))
    first, second = net(theta, obs)
    body, n = NatureCNN((2, 36, 36)).size, net.heads[0].size
    for lo, hi, moves in ((0, body, (1, 1)), (body, body + n, (1, 0)), (body + n, None, (0, 1))):
        changed = theta.clone()
        changed[lo:hi] += 0.1
        outs = net(changed, obs)
        assert (not torch.equal(outs[0], first), not torch.equal(outs[1], second)) == moves


def test_epsilon_greedy_explores_as_often_as_it_should_and_evenly() -> None:
    n = 200_000
    q = torch.tensor([0.0, 2.0, 1.0, -1.0]).expand(n, 4)
    for epsilon in (0.2, torch.tensor(0.2)):
        action = epsilon_greedy(q, epsilon, normal(n))
        share = action.bincount(minlength=4) / n
        torch.testing.assert_close(share, torch.tensor([0.05, 0.85, 0.05, 0.05]), atol=3e-3, rtol=0)
    share = epsilon_greedy(q, 1.0, normal(n)).bincount(minlength=4) / n
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=4e-3, rtol=0)
    assert (epsilon_greedy(q, 0.0, normal(n)) == 1).all()
    assert (epsilon_greedy(q, 0.0, -1e4 * normal(n).abs()) == 1).all()


def test_categorical_samples_softmax() -> None:
    n, logits = 200_000, torch.tensor([0.0, 1.0, -1.0, 2.0])
    share = categorical(logits.expand(n, 4), normal(n, 4)).bincount(minlength=4) / n
    torch.testing.assert_close(share, logits.softmax(0), atol=4e-3, rtol=0)


def test_targets_are_copied_at_every_multiple_of_the_period() -> None:
    theta, target = torch.ones(2), torch.zeros(2)
    copies = [bool(copied_every(3, torch.tensor(float(t)), target, theta)[0]) for t in range(8)]
    assert copies == [t % 3 == 0 for t in range(8)]


def test_the_conservative_gap_by_hand() -> None:
    q = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    gap = conservative_gap(q, torch.tensor([0, 1]))
    assert float(gap) == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_the_quantile_huber_loss_by_hand() -> None:
    """Two quantiles, at 1/4 and 3/4; errors of 0.5 and 3 below, -2 above."""
    z, y = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 3.0]])
    #       z_1: 1/4 (0.125 + 2.5) / 2    z_2: (|3/4 - 1| (2.5 - 0.5) + 0) / 2
    expected = 0.25 * (0.125 + 2.5) / 2 + 0.25 * 2.0 / 2
    assert float(quantile_huber(z, y, 1.0)) == pytest.approx(expected)
    assert float(quantile_huber(z.expand(4, 2), y.expand(4, 2), 1.0)) == pytest.approx(expected)


def test_one_quantile_is_the_mean_with_half_of_hubers_loss() -> None:
    z, y = normal(16, 1), 2 * normal(16, 1, seed=1)
    half = 0.5 * torch.nn.functional.huber_loss(z, y)
    torch.testing.assert_close(quantile_huber(z, y, 1.0), half)


@pytest.mark.parametrize("name", ["qrdqn", "discrete_cql", "discrete_bcq", "discrete_crr"])
def test_a_terminal_is_not_looked_beyond_and_a_time_out_is(name: str) -> None:
    """discount is 0 after a terminal alone: only there the next observation does not matter."""
    algo: Any = algorithm(name, VECTORS)
    s, b = algo.init(generator(0, "init")), batch(algo, 0)
    other = b._replace(next_obs=b.next_obs + 1)
    for discount, same in ((0.0, True), (0.99, False)):
        d = torch.full_like(b.discount, discount)
        losses = [algo.update(s, x._replace(discount=d), ())[1].critic_loss for x in (b, other)]
        assert torch.equal(*losses) == same


def test_double_q_learning_lets_the_online_network_choose() -> None:
    algo: Any = algorithm("qrdqn", VECTORS)
    critic, b = algo.critic, batch(algo, 0)
    target, online = critic.init(generator(1)), critic.init(generator(2))
    z = critic(target, b.next_obs)
    for selector in (target, online):
        best = critic.q(selector, b.next_obs).argmax(-1)
        expected = b.reward[:, None] + b.discount[:, None] * z[torch.arange(16), best]
        torch.testing.assert_close(critic.td_target(target, selector, b), expected)
    assert not torch.equal(critic.td_target(target, target, b), critic.td_target(target, online, b))


def test_exploration_goes_from_its_start_to_its_end() -> None:
    algo: Any = algorithm("qrdqn", VECTORS, eps_start=1.0, eps_end=0.1, eps_steps=100)
    s = algo.init(generator(0, "init"))
    obs, z = normal(1, 5).expand(20_000, 5), normal(20_000, 3)
    greedy = algo.critic.q(s.critic, obs[:1]).argmax()
    for t, epsilon in ((0, 1.0), (50, 0.55), (100, 0.1), (5000, 0.1)):
        at = s._replace(critic_opt=s.critic_opt._replace(t=torch.tensor(float(t))))
        random = (algo.explore(at, obs, z) != greedy).float().mean() * 3 / 2
        assert float(random) == pytest.approx(epsilon, abs=0.02)
    for eps_test in (0.0, 0.3):
        actions = replace(algo, eps_test=eps_test).act(s, obs, z[:, :1])
        assert float((actions != greedy).float().mean() * 3 / 2) == pytest.approx(
            eps_test, abs=0.02
        )


def test_bcq_chooses_among_the_likely_actions() -> None:
    algo: Any = algorithm("discrete_bcq", Spec((1,), 3, 0.0, 16), hidden=[], threshold=0.3)
    # one input that is 0: the outputs are the biases of the two heads
    q, p = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.6, 0.25, 0.15])
    theta = torch.cat((torch.zeros(3), q, torch.zeros(3), p.log()))
    masked = algo.likely_q(theta, torch.zeros(1, 1))[0]
    assert masked.tolist() == [1.0, 2.0, -math.inf]  # 0.25 / 0.6 > 0.3 > 0.15 / 0.6
    b = batch(algo, 0)._replace(next_obs=torch.zeros(16, 1))
    s = algo.init(generator(0))._replace(critic=theta)
    target = torch.cat((torch.zeros(3), 10 * q, torch.zeros(6)))
    torch.testing.assert_close(algo.td_target(s, target, b), b.reward + b.discount * 20.0)
    assert (algo.act(s, torch.zeros(9, 1), torch.full((9, 1), 3.0)) == 1).all()


def test_discrete_bc_measures_its_accuracy() -> None:
    algo: Any = algorithm("discrete_bc", VECTORS)
    s, b = algo.init(generator(0, "init")), batch(algo, 0)
    right = algo.act(s, b.obs, torch.zeros(16, 0))
    for action, accuracy in ((right, 1.0), ((right + 1) % 3, 0.0)):
        _, stats = algo.update(s, b._replace(action=action), noise(algo, 0))
        assert float(stats.accuracy) == accuracy
