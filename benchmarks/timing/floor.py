# mypy: allow-untyped-calls
"""The floor: the matrix products and convolutions of one update, issued bare.

Nothing that trains by the same products of the same library is faster.  What an algorithm
multiplies is not written down anywhere: one update is watched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.timing.clock import Work
from offrl.types import AnyAlgorithm, Transition

Call = Callable[[], object]

# where an operation keeps its two factors
FACTORS = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1, "aten::baddbmm": 1}


@dataclass(frozen=True)
class Product:
    """[n, k] times [k, m], or a stack of them: [e, n, k] times [e, k, m]."""

    left: Tensor
    right: Tensor

    @property
    def flops(self) -> int:
        """A multiplication and an addition are two."""
        return 2 * self.left.numel() * self.right.shape[-1]

    def by_torch(self) -> list[Call]:
        """The product on memory of its own, without gradients and without a bias."""
        left, right = self.left.detach(), self.right.detach()
        multiply = torch.mm if left.dim() == 2 else torch.bmm
        out = multiply(left, right)
        return [lambda: multiply(left, right, out=out)]

    def by_onednn(self) -> list[Call]:
        """As the compiled update multiplies: one by one, and products of width 1 are none."""
        left, right = self.left.detach(), self.right.detach()
        if left.shape[-1] == 1 or (left.dim() == 3 and right.shape[-1] == 1):
            return []
        pairs = [(left, right)] if left.dim() == 2 else list(zip(left, right, strict=True))
        linear = torch.ops.mkldnn._linear_pointwise
        return [partial(linear, a, b.t(), None, "none", [], "") for a, b in pairs]


@dataclass(frozen=True)
class Convolution:
    """A convolution or its backward, with what it was called."""

    function: Any
    args: tuple[Any, ...]

    @property
    def flops(self) -> int:
        """Of each output that it makes; as many in the gradients as in the convolution."""
        if self.function is torch.ops.aten.convolution.default:
            filters, out, n = self.args[1], self.function(*self.args), 1
        else:
            filters, out, n = self.args[2], self.args[0], sum(self.args[-1][:2])
        return int(2 * n * out.numel() * filters[0].numel())

    def by_torch(self) -> list[Call]:
        return [lambda: self.function(*self.args)]

    by_onednn = by_torch  # it is what torch convolves by


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product | Convolution] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        first = FACTORS.get(func._schema.name)
        if first is not None:
            # the very tensors, so that layouts and places in memory are the algorithm's
            self.found.append(Product(args[first], args[first + 1]))
        elif "convolution" in func._schema.name:
            kept = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)
            self.found.append(Convolution(func, kept))
        return func(*args, **(kwargs or {}))


def products(
    algo: AnyAlgorithm, state: Any, batch: Transition, noise: Any
) -> list[Product | Convolution]:
    """What one update, `algo.period` gradient steps, multiplies and convolves, in order."""
    watch = _Watch()
    with watch:
        algo.update(state, batch, noise)
    return watch.found


def replay(calls: Sequence[Call], period: int) -> Work:
    """Does the products of so many gradient steps, and nothing else."""

    def work(steps: int) -> None:
        for _ in range(steps // period):
            for call in calls:
                call()

    return work
