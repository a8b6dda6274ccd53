"""An Atari screen, 210 x 160, as the 84 x 84 that networks see, the last four together."""

import numpy as np
from numpy.typing import NDArray

SIZE = 84
STACK = 4  # frames in an observation


def shrink(screen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [210, 160] -> [84, 84]: each new pixel is the mean of the area that it covers.

    Exact: 2.5 rows and 40 / 21 columns make one pixel, so its weights are whole numbers of
    1 / 200; products and sums stay below 2^24, where float32 has no rounding.
    """
    rows = screen.reshape(SIZE // 2, 5, 160).astype(np.float32)
    both = np.empty((SIZE // 2, 2, 160), np.float32)
    both[:, 0] = 2 * (rows[:, 0] + rows[:, 1]) + rows[:, 2]
    both[:, 1] = rows[:, 2] + 2 * (rows[:, 3] + rows[:, 4])
    sums = both.reshape(-1, 40) @ _COLUMNS
    sums /= 200  # rounded to the nearest float32, ties of the quotient to even, as OpenCV does
    small: NDArray[np.uint8] = np.rint(sums).reshape(SIZE, SIZE).astype(np.uint8)
    return small


def _columns() -> NDArray[np.float32]:
    """[40, 21]: how many 21sts of column i lie in new column o."""
    i, o = np.arange(40)[:, None], np.arange(21)[None]
    overlap = np.minimum(21 * (i + 1), 40 * (o + 1)) - np.maximum(21 * i, 40 * o)
    columns: NDArray[np.float32] = np.maximum(overlap, 0).astype(np.float32)
    return columns


_COLUMNS = _columns()
