"""Scores of seeds under a protocol, and what several seeds say about the next one.

The unit is the seed: a seed's score is a mean over the episodes of one or more evaluations, and
intervals are over seeds, never over episodes (docs/decisions/0002-intervals.md).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

KEYS = ["run_id", "seed"]
LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean over n seeds; the half-width of its 95% interval, None with a single seed."""

    mean: float
    half_width: float | None
    n: int


S = TypeVar("S")


class Scores(NamedTuple, Generic[S]):
    """Scores of seeds under each protocol."""

    last: S
    last_k: S  # NaN for a seed with fewer than k evaluations
    best: S  # optimistic: choosing an evaluation by its score needs online access


def scores_by_seed(evaluations: pd.DataFrame, k: int) -> Scores[dict[int, float]]:
    """Of one group, by seed in increasing order: every seed stands in one run."""

    def by_seed(scores: pd.Series) -> dict[int, float]:
        seeds = scores.index.get_level_values("seed").tolist()
        return dict(sorted(zip(seeds, scores.tolist(), strict=True)))

    return Scores(*map(by_seed, (last(evaluations), last_k(evaluations, k), best(evaluations))))


def per_evaluation(episodes: pd.DataFrame) -> pd.DataFrame:
    """Episode rows -> one row per (run_id, seed, step), sorted by them.

    Columns: run_id, seed, step, episodes, return_mean, return_std (population, over the
    episodes), score_mean.
    """
    groups = episodes.groupby([*KEYS, "step"], sort=True)
    return pd.DataFrame(
        {
            "episodes": groups["episode"].size(),
            "return_mean": groups["return"].mean(),
            "return_std": groups["return"].std(ddof=0),
            "score_mean": groups["score"].mean(),
        }
    ).reset_index()


def last(evaluations: pd.DataFrame) -> pd.Series:
    """The score of each seed's last evaluation, indexed by (run_id, seed)."""
    return last_k(evaluations, 1)


def last_k(evaluations: pd.DataFrame, k: int) -> pd.Series:
    """The mean over each seed's last k evaluations; NaN for a seed that has fewer."""
    if k < 1:
        raise ValueError(f"k = {k} evaluations")
    groups = evaluations.sort_values("step", kind="stable").groupby(KEYS, sort=True)
    means = evaluations.loc[groups.tail(k).index].groupby(KEYS, sort=True)["score_mean"].mean()
    return means.where(groups.size() >= k)


def best(evaluations: pd.DataFrame) -> pd.Series:
    """The score of each seed's best evaluation: picking it needs online access."""
    return evaluations.groupby(KEYS, sort=True)["score_mean"].max()


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95% Student-t interval over the values of the seeds; at least one value."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        raise ValueError("no seed, no estimate")
    if len(x) == 1:
        return Estimate(float(x[0]), None, 1)
    error = float(x.std(ddof=1)) / len(x) ** 0.5
    quantile = float(student_t.ppf(0.5 + LEVEL / 2, len(x) - 1))
    return Estimate(float(x.mean()), quantile * error, len(x))


def over_seeds(scores: Mapping[int, float]) -> Estimate | None:
    """The estimate over all seeds; None if there is none, or if one has no score."""
    values = list(scores.values())
    return None if not values or any(map(math.isnan, values)) else estimate(values)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """first - second over the seeds that both have; None if there is none.

    Two settings with one seed share the initialisation, the order of the data and the start
    states: what these do to both of them cancels in the difference of a seed.
    """
    common = sorted(first.keys() & second.keys())
    return over_seeds({s: first[s] - second[s] for s in common})
