"""Small made-up games: every frame is filled with a number of its own."""

from collections.abc import Sequence

import numpy as np

from offrl.data.dataset import Dataset
from offrl.data.rows import Rows, columns


def games(lengths: Sequence[int], terminated: Sequence[bool], size: int = 84) -> list[Rows]:
    """Episodes; frame t of game e is filled with 20 e + t, its action is t % 6, its reward t."""
    return [
        Rows(
            obs=np.broadcast_to(
                (20 * e + np.arange(t + 1, dtype=np.uint8))[:, None, None], (t + 1, size, size)
            ),
            action=np.arange(t) % 6,
            reward=np.arange(t, dtype=np.float32),
            terminated=end,
            return_=float(np.arange(t).sum()),
        )
        for e, (t, end) in enumerate(zip(lengths, terminated, strict=True))
    ]


def game_data(
    lengths: Sequence[int], terminated: Sequence[bool], n: int | None = None, size: int = 84
) -> Dataset:
    """The first n transitions of games()."""
    data = columns(games(lengths, terminated, size), sum(lengths) if n is None else n)
    return Dataset(id="toy", digest="0" * 64, **data)
