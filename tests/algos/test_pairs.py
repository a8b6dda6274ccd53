"""Networks on pairs (x, y), where several y share one x, against the network on every pair."""

import pytest
import torch
from torch import Tensor

from offrl.nn import pairs
from offrl.nn.mlp import MLP
from offrl.nn.pairs import on_pairs
from offrl.rng import generator

SHAPES = pytest.mark.parametrize("sizes", [(7, 3), (7, 8, 3), (7, 8, 9, 3)])


def problem(net: MLP) -> tuple[Tensor, Tensor, Tensor]:
    """theta, x [4, 5] and y [6, 4, 2], float64 for the comparison of different orders of sums."""
    g = generator("pairs")
    theta, x, y = net.init(g), torch.randn(4, 5, generator=g), torch.randn(6, 4, 2, generator=g)
    return theta.double(), x.double(), y.double()


def each(net: MLP, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([net(theta, torch.cat((x, one), -1)) for one in y])


@SHAPES
@pytest.mark.parametrize("rows", [1, 8, 16, 1000])  # parts of 1, 2, 4 (and a rest) and all 6 y
@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norms"])
def test_it_is_the_network_on_every_pair(
    sizes: tuple[int, ...],
    rows: int,
    layer_norm: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairs, "ROWS", rows)
    net = MLP(sizes, layer_norm)
    theta, x, y = problem(net)
    torch.testing.assert_close(on_pairs(net, theta, x, y), each(net, theta, x, y))


@SHAPES
def test_its_gradients_are_those_of_the_network(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "ROWS", 8)
    net = MLP(sizes)
    inputs = problem(net)
    grads = [
        torch.func.grad(lambda *xs, f=f: f(net, *xs).square().sum(), argnums=(0, 1, 2))(*inputs)
        for f in (on_pairs, each)
    ]
    torch.testing.assert_close(*grads)
