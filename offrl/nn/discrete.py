"""What the discrete algorithms share: picking actions, CQL's term, and targets copied in jumps."""

import torch
from torch import Tensor


def of_actions(x: Tensor, action: Tensor) -> Tensor:
    """x[b, action[b]]: [B, A, ...] and int64 [B] -> [B, ...]"""
    index = action.view(-1, 1, *(1 for _ in x.shape[2:])).expand(-1, 1, *x.shape[2:])
    return x.gather(1, index).squeeze(1)


def epsilon_greedy(q: Tensor, epsilon: float | Tensor, noise: Tensor) -> Tensor:
    """argmax_a q [n, A], or with probability epsilon any action; int64 [n].

    One standard normal number for each row, noise [n], decides on both: as a uniform number u it
    is below epsilon or not, and where it is, u / epsilon is uniform again.
    """
    u, n = torch.special.ndtr(noise), q.shape[-1]
    uniform = (n * (u / epsilon)).clamp(max=n - 1).long()
    return torch.where(u < epsilon, uniform, q.argmax(-1))


def categorical(logits: Tensor, noise: Tensor) -> Tensor:
    """Samples of softmax(logits) by the Gumbel trick, from standard normal noise [n, A]."""
    gumbel: Tensor = -(-torch.special.log_ndtr(noise)).log()
    return (logits + gumbel).argmax(-1)


def conservative_gap(q: Tensor, action: Tensor) -> Tensor:
    """mean logsumexp_a Q(s, a) - Q(s, a_data) of q [B, A]: CQL(H), Kumar et al. 2020, eq. 4."""
    return (q.logsumexp(-1) - of_actions(q, action)).mean()


def copied_every(period: int, t: Tensor, target: Tensor, theta: Tensor) -> Tensor:
    """The target parameters for gradient step t = 0, 1, ...: theta whenever period divides t."""
    return torch.where(t % period == 0, theta, target)
