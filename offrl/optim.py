"""Adam and Polyak averaging as functions of flat parameter vectors."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's defaults; some algorithms give another epsilon


class AdamState(NamedTuple):
    m: Tensor  # first moment, like the parameters
    v: Tensor  # second moment, like the parameters
    t: Tensor  # steps taken, scalar


def adam_init(theta: Tensor) -> AdamState:
    return AdamState(torch.zeros_like(theta), torch.zeros_like(theta), theta.new_zeros(()))


def adam(
    theta: Tensor, grad: Tensor, s: AdamState, lr: float | Tensor, eps: float = EPS
) -> tuple[Tensor, AdamState]:
    """One step of Adam (Kingma & Ba 2015, Algorithm 1): the new parameters and state."""
    t = s.t + 1
    m = torch.lerp(s.m, grad, 1 - BETA1)
    v = torch.addcmul(s.v * BETA2, grad, grad, value=1 - BETA2)
    # 1 - beta^t, without the cancellation that costs five digits at t = 1
    c1, c2 = -torch.expm1(t * math.log(BETA1)), -torch.expm1(t * math.log(BETA2))
    denominator = v.sqrt() * c2.rsqrt() + eps
    return theta - (m / denominator) * (lr / c1), AdamState(m, v, t)


def polyak(target: Tensor, theta: Tensor, tau: float) -> Tensor:
    """target <- (1 - tau) target + tau theta."""
    return torch.lerp(target, theta, tau)
