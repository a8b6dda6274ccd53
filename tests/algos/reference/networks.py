"""Ordinary networks, and the copying of weights from offrl's flat vectors and back."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """max_action tanh(net(s))."""

    def __init__(self, obs_dim: int, action_dim: int, max_action: float, hidden: Sequence[int]):
        super().__init__()
        self.net = mlp((obs_dim, *hidden, action_dim))
        self.max_action = max_action

    def forward(self, obs: Tensor) -> Tensor:
        return self.max_action * torch.tanh(self.net(obs))


class Critic(nn.Module):
    """One Q(s, a) [B]."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]):
        super().__init__()
        self.net = mlp((obs_dim + action_dim, *hidden, 1))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        q: Tensor = self.net(torch.cat([obs, action], 1))
        return q[:, 0]


@torch.no_grad()
def update_target(target: nn.Module, online: nn.Module, tau: float) -> None:
    for t, p in zip(target.parameters(), online.parameters(), strict=True):
        t.copy_(tau * p + (1 - tau) * t)


@torch.no_grad()
def load(module: nn.Module, theta: Tensor) -> None:
    """Copies a flat vector into a module: per layer the weight [in, out] by rows, then the bias.

    After all layers, gain and shift of every layer normalisation.
    """
    rest = theta
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            n, m = layer.in_features, layer.out_features
            layer.weight.copy_(rest[: n * m].reshape(n, m).T)
            layer.bias.copy_(rest[n * m : n * m + m])
            rest = rest[n * m + m :]
    for norm in (m for m in module.modules() if isinstance(m, nn.LayerNorm)):
        for parameter in (norm.weight, norm.bias):
            parameter.copy_(rest[: parameter.numel()])
            rest = rest[parameter.numel() :]
    assert rest.numel() == 0


@torch.no_grad()
def flat(module: nn.Module) -> Tensor:
    """The reverse of load()."""
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in module.modules() if isinstance(m, nn.LayerNorm)]
    layers = [x for m in linear for x in (m.weight.T.reshape(-1), m.bias)]
    return torch.cat([*layers, *(x for m in norms for x in (m.weight, m.bias))])
