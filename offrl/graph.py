"""The engine of a GPU: the updates of all seeds as one CUDA graph.

A graph holds one update: gathering the batch, the update itself, writing the new state over the
old one, adding up the statistics.  A launch costs microseconds and nothing waits for the host, so
what is left is the work of the GPU.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from offrl.engine import SLICE, Engine, compiled
from offrl.types import AnyAlgorithm, Transition

_WARM_UP = 3  # updates before the capture, for what libraries and the compiler set up lazily


class GraphEngine:
    """As Engine, for all seeds at once (vmap if there are several).

    `capture=False` does the same without a graph, on any device.
    """

    def __init__(
        self,
        algo: AnyAlgorithm,
        states: Sequence[Any],
        *,
        compile: bool = False,
        capture: bool = True,
    ) -> None:
        self._n_seeds = len(states)
        self._period = algo.period
        self._batched = self._n_seeds > 1
        # the graph reads and writes these very tensors
        self._state = _stack(states) if self._batched else tree_map(torch.clone, states[0])
        update = torch.vmap(algo.update) if self._batched else algo.update
        self._update = compiled(update) if compile else update
        self._capture = capture
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Any = None
        self._sums: Any = None

    def advance(
        self,
        gather: Callable[[Tensor], Transition],
        rows: Sequence[Tensor],
        noises: Sequence[Any],
        offset: int,
        timer: Callable[[str], AbstractContextManager[None]],
        tick: Callable[[int], object],
    ) -> None:
        """As Engine.advance; the time that it takes is all counted as "update"."""
        n = len(rows[0])
        with timer("update"):
            noise = tree_map(lambda *xs: torch.stack(xs, 1), *noises)  # [SLICE, S, ...]
            where = torch.stack(list(rows), 1)  # [n, S, batch]
            self._prepare(gather, where, noise)
            at, all_rows, all_noise = self._inputs
            all_rows[offset : offset + n].copy_(where)
            for old, new in zip(tree_leaves(all_noise), tree_leaves(noise), strict=True):
                old.copy_(new)
            at.fill_(offset)
            for _ in range(n):
                self._graph.replay() if self._graph else self._once(gather)
        tick(n * self._period)

    def take_sums(self) -> list[Any]:
        """The sums of the Stats of each seed since the last call."""
        sums = self._split(self._sums)
        for x in tree_leaves(self._sums):
            x.zero_()
        return sums

    @property
    def states(self) -> list[Any]:
        """The state of each seed."""
        return self._split(self._state)

    def _split(self, tree: Any) -> list[Any]:
        return _unstack(tree, self._n_seeds) if self._batched else [tree_map(torch.clone, tree)]

    def _once(self, gather: Callable[[Tensor], Transition]) -> None:
        """One update, from and to the tensors of this object; no host transfer."""
        at, all_rows, all_noise = self._inputs
        rows = all_rows.index_select(0, at).squeeze(0)  # [S, batch]
        noise = tree_map(lambda x: x.index_select(0, at).squeeze(0), all_noise)
        batch = gather(rows.flatten())
        if self._batched:
            batch = Transition(*(x.view(*rows.shape, *x.shape[1:]) for x in batch))
        else:
            noise = tree_map(lambda x: x.squeeze(0), noise)
        state, stats = self._update(self._state, batch, noise)
        if self._sums is None:
            self._sums = tree_map(torch.zeros_like, stats)
        old, new = tree_leaves(self._state), tree_leaves(state)
        torch._foreach_copy_(old, _unaliased(old, new))
        torch._foreach_add_(tree_leaves(self._sums), tree_leaves(stats))
        at.add_(1)

    def _prepare(self, gather: Callable[[Tensor], Transition], rows: Tensor, noise: Any) -> None:
        """Static inputs, and the graph on them, at the first call."""
        if self._inputs is not None:
            return
        at = torch.zeros(1, dtype=torch.int64, device=rows.device)
        all_rows = rows[:1].expand(SLICE, *rows.shape[1:]).clone()
        self._inputs = at, all_rows, tree_map(torch.clone, noise)
        if not self._capture:
            return
        before = tree_map(torch.clone, self._state)
        cuda: Any = torch.cuda
        stream = cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                at.zero_()
                self._once(gather)
        torch.cuda.current_stream().wait_stream(stream)
        at.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._once(gather)
        torch._foreach_copy_(tree_leaves(self._state), tree_leaves(before))
        for x in tree_leaves(self._sums):
            x.zero_()
        self._graph = graph


AnyEngine = Engine | GraphEngine


def engine_for(
    device: torch.device, algo: AnyAlgorithm, states: Sequence[Any], compile: bool
) -> AnyEngine:
    """The engine that a run has on its device."""
    make = GraphEngine if device.type == "cuda" else Engine
    return make(algo, states, compile=compile)


def _stack(trees: Sequence[Any]) -> Any:
    """One tree, whose leaves carry a leading seed dimension."""
    return tree_map(lambda *xs: torch.stack(xs), *trees)


def _unstack(tree: Any, n: int) -> list[Any]:
    return [tree_map(lambda x, i=i: x[i].clone(), tree) for i in range(n)]


def _unaliased(old: Sequence[Tensor], new: Sequence[Tensor]) -> list[Tensor]:
    """`new` without tensors that are views of another old one, which is overwritten first."""
    owned = {x.untyped_storage().data_ptr() for x in old}
    return [
        y.clone() if y.untyped_storage().data_ptr() in owned and y is not x else y
        for x, y in zip(old, new, strict=True)
    ]
