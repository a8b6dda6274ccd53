"""Ordinary networks of the discrete algorithms, and the copying of weights to and from them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .networks import flat, load, mlp


class Net(nn.Module):
    """Heads, each an MLP, on a body that they share: a CNN for images, nothing for vectors."""

    def __init__(self, obs_shape: Sequence[int], hidden: Sequence[int], outputs: Sequence[int]):
        super().__init__()
        self.body = nn.Sequential()
        features = obs_shape[0]
        if len(obs_shape) == 3:
            self.body = nn.Sequential(
                *(nn.Conv2d(obs_shape[0], 32, 8, 4), nn.ReLU()),
                *(nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
                *(nn.Conv2d(64, 64, 3, 1), nn.ReLU()),
                nn.Flatten(),
            )
            features = self.body(torch.zeros(1, *obs_shape)).shape[1]
        self.heads = nn.ModuleList(mlp((features, *hidden, n)) for n in outputs)

    def forward(self, obs: Tensor) -> list[Tensor]:
        if obs.dtype == torch.uint8:
            obs = obs.to(torch.get_default_dtype()) / 255
        h = self.body(obs)
        return [head(h) for head in self.heads]

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        return [m for m in self.body if isinstance(m, nn.Conv2d)]


@torch.no_grad()
def load_net(net: Net, theta: Tensor) -> None:
    """Copies a flat vector: filters [out, height, width, in] and biases, then the heads.

    A head's first layer has the features by (row, column, channel).
    """
    rest = theta
    for conv in net.convolutions:
        o, i, h, w = conv.weight.shape
        n = conv.weight.numel()
        conv.weight.copy_(rest[:n].reshape(o, h, w, i).permute(0, 3, 1, 2))
        conv.bias.copy_(rest[n : n + o])
        rest = rest[n + o :]
    for head in net.heads:
        n = sum(p.numel() for p in head.parameters())
        load(head, rest[:n])
        if net.convolutions:
            head[0].weight.copy_(channels_first(head[0].weight, net))
        rest = rest[n:]
    assert rest.numel() == 0


@torch.no_grad()
def flat_net(net: Net) -> Tensor:
    """The reverse of load_net()."""
    parts = []
    for conv in net.convolutions:
        parts += [conv.weight.permute(0, 2, 3, 1).reshape(-1), conv.bias]
    for head in net.heads:
        vector = flat(head)
        if net.convolutions:
            first = channels_last(head[0].weight, net).T.reshape(-1)
            vector = torch.cat([first, vector[first.numel() :]])
        parts.append(vector)
    return torch.cat(parts)


def channels_first(weight: Tensor, net: Net) -> Tensor:
    """Columns by (row, column, channel) -> columns by (channel, row, column)."""
    c = net.convolutions[-1].out_channels
    return weight.reshape(len(weight), -1, c).transpose(1, 2).reshape(len(weight), -1)


def channels_last(weight: Tensor, net: Net) -> Tensor:
    c = net.convolutions[-1].out_channels
    return weight.reshape(len(weight), c, -1).transpose(1, 2).reshape(len(weight), -1)
