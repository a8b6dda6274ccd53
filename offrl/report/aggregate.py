"""One number for a whole suite: Agarwal et al. 2021, arXiv 2108.13264 ("rliable").

Scores of a method are a matrix [R, T]: R runs (seeds) of each of T tasks. Intervals are 95%
percentile intervals of the stratified bootstrap: the runs of every task are resampled by
themselves, so no resample lacks a task (docs/decisions/0002-intervals.md).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from offrl.report.stats import LEVEL

RESAMPLES = 5000
Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A statistic and the ends of its interval."""

    value: float
    low: float
    high: float


def iqm(scores: Array) -> Interval:
    """The interquartile mean: over all R x T scores, without the lowest and highest quarter."""
    resampled = _resampled(scores, stream=0).reshape(RESAMPLES, -1)
    return _interval(_trimmed(scores.reshape(1, -1)).item(), _trimmed(resampled))


def probability_of_improvement(x: Array, y: Array) -> Interval:
    """P(X > Y) + P(X = Y) / 2 of two random runs on one task, the mean over tasks.

    x [R, T], y [S, T]: the same tasks in the same order.
    """
    value = _above(x[:, None], y[None]).mean().item()
    a, b = _resampled(x, stream=0), _resampled(y, stream=1)
    # one run of x at a time: [N, S, T] is small, [N, R, S, T] is not
    parts = [_above(a[:, i, None], b).mean(axis=(1, 2)) for i in range(len(x))]
    return _interval(value, np.mean(parts, axis=0))


def profile(scores: Array, thresholds: Array) -> tuple[Array, Array, Array]:
    """The performance profile: per threshold the share of all runs with a score above it.

    thresholds [K]; returns (value, low, high), each [K]; the interval holds at every threshold
    by itself.
    """
    resampled = _resampled(scores, stream=0).reshape(RESAMPLES, -1)
    shares = np.stack([(resampled > t).mean(axis=1) for t in thresholds], axis=1)
    low, high = np.quantile(shares, _ends(), axis=0)
    return (scores.ravel() > thresholds[:, None]).mean(axis=1), low, high


def _trimmed(scores: Array) -> Array:
    """[K, N] -> [K]."""
    return np.asarray(trim_mean(scores, 0.25, axis=1), dtype=np.float64)


def _above(x: Array, y: Array) -> Array:
    return np.where(x == y, 0.5, (x > y).astype(np.float64))


def _resampled(scores: Array, stream: int) -> Array:
    """[RESAMPLES, R, T]; the same draws everywhere: NumPy keeps the bits of PCG64 for ever."""
    runs, tasks = scores.shape
    bits = np.random.PCG64([2108, 13264, stream]).random_raw(RESAMPLES * runs * tasks)
    rows = (bits % np.uint64(runs)).astype(np.intp).reshape(RESAMPLES, runs, tasks)
    resampled: Array = scores[rows, np.arange(tasks)]
    return resampled


def _interval(value: float, resampled: Array) -> Interval:
    low, high = np.quantile(resampled, _ends())
    return Interval(value, float(low), float(high))


def _ends() -> tuple[float, float]:
    return 0.5 - LEVEL / 2, 0.5 + LEVEL / 2
