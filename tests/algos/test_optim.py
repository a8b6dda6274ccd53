"""Adam and Polyak averaging as functions, against torch's."""

import pytest
import torch
from problem import distance
from torch import Tensor

from offrl.engine import reproducible
from offrl.optim import adam, adam_init, polyak
from offrl.rng import generator


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_adam_equals_torch_over_1000_steps(dtype: torch.dtype, tolerance: float) -> None:
    g = generator(0, "adam")
    scale = 10 ** torch.linspace(-6, 3, 64)  # gradients of all sizes, down to where eps counts
    theta = torch.randn(64, generator=g).to(dtype)
    plain = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([plain], lr=1e-2)
    s = adam_init(theta)
    for t in range(1, 1001):
        grad = (scale * (torch.randn(64, generator=g) + 0.5)).to(dtype)
        theta, s = adam(theta, grad, s, 1e-2)
        plain.grad = grad
        optimizer.step()
        if t in (1, 2, 10, 100, 1000):
            assert distance(theta, plain.detach()) < tolerance, t
    assert s.t == 1000


def test_adam_leaves_a_parameter_without_gradient_alone() -> None:
    theta = torch.ones(3)
    new, _ = adam(theta, torch.zeros(3), adam_init(theta), 1e-2)
    assert torch.equal(new, theta)


def test_a_moment_of_a_unit_that_no_longer_fires_ends_at_zero() -> None:
    """Rounding would keep it at some 1e-44, where processors of Intel's are slow."""
    reproducible(1)
    s = adam_init(torch.ones(3))._replace(m=torch.full((3,), 1e-30))
    for _ in range(500):
        _, s = adam(torch.ones(3), torch.zeros(3), s, 1e-2)
    assert torch.equal(s.m, torch.zeros(3))


@pytest.mark.parametrize("tau", [0.0, 0.005, 0.5, 1.0])
def test_polyak_averages(tau: float) -> None:
    target, theta = (
        torch.randn(2, 5, generator=generator(0)),
        torch.randn(2, 5, generator=generator(1)),
    )
    before: tuple[Tensor, Tensor] = target.clone(), theta.clone()
    expected = (1 - tau) * target + tau * theta
    torch.testing.assert_close(polyak(target, theta, tau), expected)
    assert torch.equal(target, before[0])
    assert torch.equal(theta, before[1])
