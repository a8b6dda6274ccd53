"""The engine: several seeds of one algorithm, eager or compiled.

The algorithms are written for one seed, and know of no compiler.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from offrl.types import AnyAlgorithm, Transition
from offrl.versions import vendor

SLICE = 50  # updates whose noise is drawn at once: whole slices, whatever is used of them


class Engine:
    """Holds one state per seed; the seeds take turns, because a CPU's step is bound by arithmetic.

    `compile` traces the whole update, optimiser included, once.
    """

    def __init__(
        self,
        algo: AnyAlgorithm,
        states: Sequence[Any],
        *,
        compile: bool = False,
        backend: str = "inductor",
    ) -> None:
        self._period = algo.period
        self._sums: list[Any] = []
        self._states = list(states)
        self._update = compiled(algo.update, backend) if compile else algo.update

    def step(self, batches: Sequence[Transition], noises: Sequence[Any]) -> list[Any]:
        """One update of every seed; the Stats of each, still on the device."""
        stats = []
        for i, (batch, noise) in enumerate(zip(batches, noises, strict=True)):
            self._states[i], s = self._update(self._states[i], batch, noise)
            stats.append(s)
        return stats

    def advance(
        self,
        gather: Callable[[Tensor], Transition],
        rows: Sequence[Tensor],
        noises: Sequence[Any],
        offset: int,
        timer: Callable[[str], AbstractContextManager[None]],
        tick: Callable[[int], object],
    ) -> None:
        """One update with each of `rows` (of every seed: [updates, n]); adds the Stats up.

        The noise of update i is number offset + i of `noises` (of every seed: [SLICE, ...]).
        """
        for i in range(len(rows[0])):
            with timer("data"):
                batches = [gather(r[i]) for r in rows]
                noise = [tree_map(lambda x, i=offset + i: x[i], n) for n in noises]
            with timer("update"):
                stats = self.step(batches, noise)
                sums = zip(self._sums, stats, strict=True)
                self._sums = [tree_map(torch.add, *s) for s in sums] if self._sums else stats
            tick(self._period)

    def take_sums(self) -> list[Any]:
        """The sums of the Stats of each seed since the last call."""
        sums, self._sums = self._sums, []
        return sums

    @property
    def states(self) -> list[Any]:
        """The state of each seed."""
        return list(self._states)


def reproducible(threads: int) -> None:
    """Sets torch up so that the same run has the same bits."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # without it an older torch refuses a GPU's matrix products in that mode
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.allow_tf32 = False  # torch's default rounds a GPU's convolutions to it
    # by default that fills new memory, which no algorithm reads, at 5% of a run's time
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False
    # Adam's first moments of units that no longer fire sink to numbers so small that a processor
    # of Intel's computes them many times slower, and they would stay there (decision 0003)
    torch.set_flush_denormal(True)
    keep_memory()


def keep_memory() -> None:
    """Has the C library keep large freed blocks, where it can be told to, instead of giving them
    back: getting the pages of large parameters anew is a notable part of an update.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
        libc.mallopt(m_trim_threshold, 1 << 30)
        libc.mallopt(m_mmap_threshold, 1 << 30)


def mkl_is_slow() -> bool:
    """Whether compiled updates multiply by oneDNN here: with AMD's AVX-512."""
    has: Any = torch.backends
    return (
        vendor() == "AuthenticAMD"
        and has.cpu.get_cpu_capability() == "AVX512"
        and has.mkl.is_available()
        and has.mkldnn.is_available()
    )


def compiled(update: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """`update` as one graph.

    What earlier runs of the process have compiled is dropped: each is a version of the same
    function, and torch gives up at the ninth.
    """
    options: Any = None
    if backend == "inductor" and mkl_is_slow():
        from offrl.onednn import ProductsByOneDNN

        options = {"post_grad_custom_post_pass": ProductsByOneDNN()}
    torch.compiler.reset()
    return torch.compile(update, fullgraph=True, dynamic=False, backend=backend, options=options)
