"""The training loop: blocks of gradient steps, with evaluations in between.

A block of 1,000 gradient steps is an address for randomness and a unit of logging.  Everything
that is drawn depends on seed, stream and block only, so training can begin again at any step.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from offrl.data.transitions import Transitions
from offrl.engine import SLICE
from offrl.graph import AnyEngine
from offrl.record import TrainRow, scalars
from offrl.rng import generator
from offrl.types import AnyAlgorithm

BLOCK = 1000  # gradient steps


class Diverged(Exception):
    """A loss or value of `seed` is not finite any more."""

    def __init__(self, seed: int, what: str) -> None:
        super().__init__(f"seed {seed}: {what}")
        self.seed = seed


@dataclass
class Timer:
    """Wall time by what it went into, in seconds."""

    split: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("data", "update", "evaluation", "checkpoint"), 0.0)
    )

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.split[what] += time.perf_counter() - start


@dataclass(frozen=True)
class Loop:
    """Trains the seeds of a run from any gradient step to a later one."""

    algo: AnyAlgorithm
    seeds: Sequence[int]
    transitions: Transitions
    device: torch.device
    timer: Timer

    @property
    def block(self) -> int:
        """Gradient steps in a block: whole updates."""
        return BLOCK - BLOCK % self.algo.period

    def train(
        self, engine: AnyEngine, step: int, stop: int, tick: Callable[[int], object]
    ) -> list[TrainRow]:
        """Gradient steps `step` to `stop` - 1 of every seed; one row of means per seed and block.

        tick(n) is called after every n gradient steps.  Raises Diverged.
        """
        rows = []
        while step < stop:
            end = min(stop, (step // self.block + 1) * self.block)
            sums = self._segment(engine, step, end, tick)
            for seed, total in zip(self.seeds, sums, strict=True):
                n = (end - step) // self.algo.period
                means = {k: float(v) / n for k, v in scalars(total).items()}
                bad = [k for k, v in means.items() if not math.isfinite(v)]
                if bad:
                    raise Diverged(seed, f"{bad[0]} is {means[bad[0]]} before step {end}")
                rows.append(TrainRow(seed, end, means))
            step = end
        return rows

    def _segment(
        self, engine: AnyEngine, step: int, end: int, tick: Callable[[int], object]
    ) -> list[Any]:
        """Steps within one block; the sums of the Stats of each seed, on the device."""
        block, period = step // self.block, self.algo.period
        batch_size = self.algo.spec.batch_size
        with self.timer("data"):
            rows = [self._rows(seed, block, batch_size) for seed in self.seeds]
        u = (step - block * self.block) // period
        last = u + (end - step) // period
        while u < last:
            part, offset = divmod(u, SLICE)
            stop = min(last, u - offset + SLICE)
            with self.timer("data"):
                noises = [self._noise(seed, block, part) for seed in self.seeds]
            sliced = [r[u:stop] for r in rows]
            engine.advance(self.transitions.gather, sliced, noises, offset, self.timer, tick)
            u = stop
        return engine.take_sums()

    def _rows(self, seed: int, block: int, batch_size: int) -> Tensor:
        """The data of a block: row numbers [updates, period * batch_size]."""
        g = generator(seed, "batch", block, device=self.device)
        period = self.algo.period
        rows = self.transitions.draw_rows(g, self.block, batch_size)
        return rows.view(self.block // period, period * batch_size)

    def _noise(self, seed: int, block: int, part: int) -> Any:
        g = generator(seed, "noise", block, part, device=self.device)
        return self.algo.noise(SLICE, g)
