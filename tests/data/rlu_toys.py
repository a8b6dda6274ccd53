"""Made-up episodes in RL Unplugged's layout, and what they are."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.timing.rlu_writer import Values, example, png, transition, write_records


class Episode(NamedTuple):
    """T steps: frames [T + 4] of which the first three are blank, as the game's stack begins."""

    id: int
    pictures: list[int]  # [T + 4]: what each frame is filled with
    actions: list[int]  # [T + 1]: the last one is a_tp1 alone
    rewards: list[int]  # [T]
    terminated: bool

    def rows(self, first: int = 0, last: int | None = None) -> list[dict[str, Values]]:
        """Its transitions first to last."""
        images = [picture(x) for x in self.pictures]
        n, total = len(self.rewards), float(sum(self.rewards))
        return [
            transition(
                images[t : t + 4],
                images[t + 1 : t + 5],
                *self.actions[t : t + 2],
                self.rewards[t],
                0 if self.terminated and t == n - 1 else 1,
                self.id,
                total,
            )
            for t in range(n)[first:last]
        ]


def picture(value: int) -> bytes:
    """Frame `value`: its number in a corner of a screen that stays."""
    return png(frame(value))


def frame(value: int) -> NDArray[np.uint8]:
    image = np.full((84, 84), 7, np.uint8)
    image[:2, :2] = divmod(value, 256)
    return image if value else np.zeros((84, 84), np.uint8)


def episode(k: int, length: int, terminated: bool = True) -> Episode:
    """Episode k, with ids below zero; all of its frames differ."""
    g = np.random.default_rng(k)
    return Episode(
        k - 2**62,
        [0, 0, 0, *range(1000 * k + 1, 1000 * k + 2 + length)],
        g.integers(0, 4, length + 1).tolist(),
        g.integers(-1, 2, length).tolist(),
        terminated,
    )


def write_shard(path: Path, rows: Sequence[dict[str, Values]], **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_records(path, (example(row) for row in rows), **how)


def shuffled(rows: list[Any], seed: int = 0) -> list[Any]:
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
