"""Networks on flat parameter vectors, and the heads that stand on them."""

import math
from itertools import pairwise

import pytest
import torch
from reference.networks import load
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from offrl.nn.heads import Critic, DeterministicActor, GaussianActor
from offrl.nn.mlp import LAYER_NORM_EPS, MLP
from offrl.rng import generator
from offrl.types import Spec

SIZES = (7, 64, 32, 3)
SPEC = Spec((5,), 3, 1.5, 16)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def test_each_layer_starts_uniform_within_torchs_bounds() -> None:
    net = MLP(SIZES)
    theta = net.init(generator(0))
    assert theta.shape == (sum(i * o + o for i, o in pairwise(SIZES)),)
    for (weight, bias), (fan_in, fan_out) in zip(net.layers(theta), pairwise(SIZES), strict=True):
        assert weight.shape == (fan_in, fan_out)
        assert bias.shape == (1, fan_out)
        bound = 1 / math.sqrt(fan_in)
        for x in (weight, bias):
            assert x.abs().max() <= bound
            assert x.abs().max() > 0.5 * bound
        # the deviation of a uniform distribution, within what so many draws can miss it by
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_members_of_an_ensemble_start_differently() -> None:
    theta = MLP(SIZES).init(generator(0), 4)
    assert theta.shape[0] == 4
    assert len({tuple(row) for row in theta[:, :8].tolist()}) == 4
    assert not torch.equal(theta, MLP(SIZES).init(generator(1), 4))
    assert torch.equal(theta, MLP(SIZES).init(generator(0), 4))


def test_a_network_is_affine_maps_with_relu_between() -> None:
    net, x = MLP((2, 2, 1)), torch.tensor([[1.0, -2.0], [-1.0, 0.5]])
    #                    W1 [in, out]          b1           W2          b2
    theta = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.5, -0.5, 10.0, 100.0, 1000.0])
    # row 1: (1 - 6 + .5, 2 - 8 - .5) -> (0, 0); row 2: (-1 + 1.5 + .5, -2 + 2 - .5) -> (1, 0)
    assert net(theta, x).tolist() == [[1000.0], [1010.0]]


@pytest.mark.parametrize("ensemble", [False, True])
def test_layer_normalisation_stands_behind_each_relu(ensemble: bool) -> None:
    """Like torch's modules in a row, with gains and shifts that are not those of the start."""
    net = MLP(SIZES, layer_norm=True)
    theta, x = normal(3, net.size), normal(11, 7, seed=1)
    for row in theta:
        modules = nn.Sequential(
            *(nn.Linear(7, 64), nn.ReLU(), nn.LayerNorm(64, eps=LAYER_NORM_EPS)),
            *(nn.Linear(64, 32), nn.ReLU(), nn.LayerNorm(32, eps=LAYER_NORM_EPS)),
            nn.Linear(32, 3),
        )
        load(modules, row)
        out = net(theta, x)[theta.eq(row).all(1)][0] if ensemble else net(row, x)
        torch.testing.assert_close(out, modules(x).detach(), rtol=1e-4, atol=1e-4)


def test_layer_normalisation_starts_with_gain_1_and_shift_0() -> None:
    net, plain = MLP(SIZES, layer_norm=True), MLP(SIZES)
    theta = net.init(generator(0), 2)
    assert theta.shape == (2, net.size)
    assert torch.equal(theta[:, : plain.size], plain.init(generator(0), 2))
    norms = torch.cat([torch.full((n,), x) for n in (64, 32) for x in (1.0, 0.0)])
    assert torch.equal(theta[:, plain.size :], norms.expand(2, -1))


@pytest.mark.parametrize("shared_input", [True, False])
def test_an_ensemble_equals_its_members_one_by_one(shared_input: bool) -> None:
    net = MLP(SIZES)
    theta = net.init(generator(0), 3)
    x = normal(11, 7) if shared_input else normal(3, 11, 7)
    out = net(theta, x)
    assert out.shape == (3, 11, 3)
    for e in range(3):
        single = net(theta[e], x if shared_input else x[e])
        torch.testing.assert_close(out[e], single, rtol=1e-5, atol=1e-6)


def test_a_critic_returns_one_value_per_row_and_member() -> None:
    critic = Critic(SPEC, (8,))
    theta, obs, action = critic.init(generator(0), 2), normal(4, 5), normal(4, 3)
    q = critic(theta, obs, action)
    assert q.shape == (2, 4)
    assert critic(theta[1], obs, action).shape == (4,)
    assert not torch.allclose(q, critic(theta, obs, -action))
    assert not torch.allclose(q, critic(theta, -obs, action))


def test_a_deterministic_actor_spans_the_box() -> None:
    actor = DeterministicActor(SPEC, ())
    theta = 100 * actor.init(generator(0))
    action = actor(theta, normal(1000, 5))
    torch.testing.assert_close(action.amax(0), torch.full((3,), SPEC.max_action))
    torch.testing.assert_close(action.amin(0), torch.full((3,), -SPEC.max_action))


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_log_prob_of_a_squashed_sample_equals_torchs(scale: float) -> None:
    actor = GaussianActor(SPEC, ())
    theta, obs, noise = scale * actor.init(generator(0)), normal(512, 5), normal(512, 3, seed=1)
    mean, log_std = actor.net(theta, obs).chunk(2, -1)
    squash = TanhTransform(cache_size=1)  # remembers the sample before tanh
    policy = TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), [squash])
    action = squash(mean + log_std.clamp(-20, 2).exp() * noise)
    sample = actor.sample(theta, obs, noise)
    torch.testing.assert_close(sample.action, SPEC.max_action * action)
    expected = policy.log_prob(action).sum(-1)
    torch.testing.assert_close(sample.log_prob, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_a_saturated_sample_has_a_finite_log_prob_and_gradient(bias: float) -> None:
    actor = GaussianActor(SPEC, ())
    theta = torch.cat((torch.zeros(30), torch.full((6,), bias))).requires_grad_()
    sample = actor.sample(theta, normal(16, 5), normal(16, 3))
    assert sample.log_prob.isfinite().all()
    assert sample.action.abs().max() <= SPEC.max_action
    (grad,) = torch.autograd.grad(sample.log_prob.mean(), theta)
    assert grad.isfinite().all()


def test_without_noise_a_sample_is_the_mode() -> None:
    actor = GaussianActor(SPEC, (8,))
    theta, obs = actor.init(generator(0)), normal(16, 5)
    assert torch.equal(actor.sample(theta, obs, torch.zeros(16, 3)).action, actor.mode(theta, obs))
