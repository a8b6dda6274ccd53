import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from offrl.report.stats import (
    best,
    estimate,
    last,
    last_k,
    over_seeds,
    paired,
    per_evaluation,
    scores_by_seed,
)

Sample = NDArray[np.float64]
TRUTH = 79.0  # the mean of both laws below


def evaluations(scores: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"run_id": run, "seed": seed, "step": 1000 * (i + 1), "score_mean": score}
            for (run, seed), values in scores.items()
            for i, score in enumerate(values)
        ]
    ).sample(frac=1, random_state=0)  # no function may lean on the order of rows


def test_protocols_differ_where_they_should() -> None:
    e = evaluations({("a", 0): [10, 90, 50, 40], ("a", 1): [1, 2, 3, 8]})
    assert last(e).to_dict() == {("a", 0): 40, ("a", 1): 8}
    assert last_k(e, 3).to_dict() == {("a", 0): 60, ("a", 1): 13 / 3}
    assert best(e).to_dict() == {("a", 0): 90, ("a", 1): 8}


def test_mean_of_more_evaluations_than_there_are_is_no_number() -> None:
    e = evaluations({("a", 0): [1, 2, 3], ("b", 0): [1, 2]})
    assert last_k(e, 3)["a", 0] == 2
    assert np.isnan(last_k(e, 3)["b", 0])
    with pytest.raises(ValueError, match="k = 0"):
        last_k(e, 0)


def test_an_evaluation_is_the_mean_over_its_episodes() -> None:
    episodes = pd.DataFrame(
        [
            {"run_id": "a", "seed": 0, "step": s, "episode": i, "return": r, "score": r / 10}
            for s, rs in {1000: [1.0, 3.0], 2000: [10.0, 20.0]}.items()
            for i, r in enumerate(rs)
        ]
    )
    got = per_evaluation(episodes).to_dict("list")
    assert got["step"] == [1000, 2000]
    assert got["episodes"] == [2, 2]
    assert got["return_mean"] == [2.0, 15.0]
    assert got["return_std"] == [1.0, 5.0]
    assert got["score_mean"] == [0.2, 1.5]


def test_interval_of_three_seeds_by_hand() -> None:
    got = estimate([1.0, 2.0, 6.0])
    assert got.mean == 3.0
    # t(0.975, 2 degrees of freedom) = 4.302653, sample deviation sqrt(7)
    assert got.half_width == pytest.approx(4.302653 * 7**0.5 / 3**0.5, rel=1e-6)
    assert got.n == 3


def test_one_seed_has_no_interval() -> None:
    assert estimate([4.0]) == (4.0, None, 1)
    with pytest.raises(ValueError, match="no seed"):
        estimate([])


def test_a_missing_score_is_not_averaged_away() -> None:
    assert over_seeds({0: 1.0, 1: 3.0}) == estimate([1.0, 3.0])
    assert over_seeds({0: 1.0, 1: float("nan")}) is None
    assert over_seeds({}) is None


def test_scores_of_a_group_are_by_seed_whatever_the_runs_are_called() -> None:
    e = evaluations({("b", 0): [10, 90, 50], ("a", 1): [1, 2, 3]})
    got = scores_by_seed(e, 2)
    assert list(got.last.items()) == [(0, 50), (1, 3)]
    assert list(got.last_k.items()) == [(0, 70), (1, 2.5)]
    assert list(got.best.items()) == [(0, 90), (1, 3)]
    assert scores_by_seed(e[:0], 2) == ({}, {}, {})


def test_a_paired_difference_is_over_the_seeds_that_both_have() -> None:
    first, second = {0: 1.0, 1: 102.0, 2: 206.0}, {2: 200.0, 1: 100.0, 0: 0.0, 3: 9.0}
    assert paired(first, second) == estimate([1.0, 2.0, 6.0])
    assert paired(first, {7: 1.0}) is None
    assert paired(first, {0: float("nan"), 1: 0.0}) is None


def normal(g: np.random.Generator, trials: int, n: int) -> Sample:
    return g.normal(TRUTH, 10.0, (trials, n))


def sometimes_fails(g: np.random.Generator, trials: int, n: int) -> Sample:
    """As scores do: most seeds arrive at about 100, three of ten stay at about 30."""
    fails = g.random((trials, n)) < 0.3
    return np.where(fails, g.normal(30, 10, (trials, n)), g.normal(100, 5, (trials, n)))


def t_coverage(samples: Sample) -> float:
    hits = 0
    for x in samples:
        e = estimate(x.tolist())
        assert e.half_width is not None
        hits += abs(e.mean - TRUTH) <= e.half_width
    return hits / len(samples)


def bootstrap_coverage(samples: Sample, g: np.random.Generator) -> float:
    n = samples.shape[1]
    resampled = samples[:, g.integers(0, n, (2000, n))].mean(axis=2)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    return float(((low <= TRUTH) & (high >= TRUTH)).mean())


@pytest.mark.parametrize("n", [3, 5])
def test_t_covers_what_it_says_and_the_percentile_bootstrap_does_not(n: int) -> None:
    """The numbers of docs/decisions/0002-intervals.md."""
    g = np.random.default_rng(n)
    samples = normal(g, 2000, n)
    assert 0.935 < t_coverage(samples) < 0.965
    assert bootstrap_coverage(samples, g) < 0.87


def test_no_interval_saves_three_seeds_of_a_law_with_two_modes() -> None:
    """What the decision record warns of: three seeds in one mode cannot show the other."""
    g = np.random.default_rng(0)
    samples = sometimes_fails(g, 2000, 3)
    assert bootstrap_coverage(samples, g) < t_coverage(samples) < 0.75
    assert t_coverage(sometimes_fails(g, 2000, 10)) > 0.9
