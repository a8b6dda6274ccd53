"""A network on pairs (x, y), where K of y share one x: many actions or latents for one state."""

import torch
from torch import Tensor

from offrl.nn.mlp import MLP, linear


def on_pairs(net: MLP, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """net(x_b, y_kb): x [B, X], y [K, B, Y] -> [K, B, out]; for theta [E, P] -> [E, K, B, out].

    The first layer is linear, so x's share of it is worked out once, not for each y.
    """
    n_x = x.shape[-1]
    (weight, bias), *layers = net.layers(theta)
    of_x, of_y = weight[..., :n_x, :], weight[..., n_x:, :]
    h = torch.unflatten(y.flatten(0, 1) @ of_y, -2, y.shape[:2]) + (x @ of_x + bias).unsqueeze(-3)
    h = h.flatten(-3, -2)
    for weight, bias in layers:
        h = linear(h.relu(), weight, bias)
    return torch.unflatten(h, -2, y.shape[:2])
