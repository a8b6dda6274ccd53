"""Two roads: a task of two steps, in which what is worth doing first depends on what comes then.

From one start the action a in [-1, 1] leads to a blend of two states, x = (1 + a) / 2 of one and
1 - x of the other; there a second action ends the episode.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from offrl.types import Spec, Transition

START, LEFT, RIGHT = torch.eye(3)
SPEC = Spec((3,), 1, 1.0, 64)
Second = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # x, uniform [n, 1] -> action, reward


def collect(second: Second, n: int, g: Generator) -> Transition:
    """n episodes, whose first action is uniform: transitions [2 n, ...]."""
    first = 2 * torch.rand(n, 1, generator=g) - 1
    x = (1 + first) / 2
    then = x * RIGHT + (1 - x) * LEFT
    action, reward = second(x, 2 * torch.rand(n, 1, generator=g) - 1)
    zeros, ones = torch.zeros(n), torch.ones(n)
    return Transition(
        obs=torch.cat((START.expand(n, 3), then)),
        action=torch.cat((first, action)),
        reward=torch.cat((zeros, reward[:, 0])),
        next_obs=torch.cat((then, then)),
        next_action=torch.cat((action, action)),
        discount=torch.cat((ones, zeros)),
        return_to_go=torch.zeros(2 * n),  # read by other algorithms only
    )
