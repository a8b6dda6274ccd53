"""How much the intervals over a suite cover with three seeds: docs/decisions/0002-intervals.md.

`pytest -s` prints the numbers of that record.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, trim_mean

from offrl.report.aggregate import iqm, probability_of_improvement

N = 400  # simulated suites
# of a task: the mean, and half the width of the t interval of three seeds
LAWS = {
    "bc": ((36.7, 64.6, 80.8), (6.0, 49.5, 10.3)),
    "td3_bc": ((42.6, 107.7, 108.3), (24.1, 38.9, 4.4)),
    "equal": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@pytest.mark.full
@pytest.mark.parametrize("law", LAWS)
def test_of_the_iqm(law: str) -> None:
    mean, half = (np.array(x) for x in LAWS[law])
    g = np.random.default_rng(0)

    def scores(runs: int) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = mean + half * 3**0.5 / 4.303 * g.standard_normal((runs, 3))
        return drawn

    truth = trim_mean(scores(400_000).ravel(), 0.25)
    intervals = [iqm(scores(3)) for _ in range(N)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    print(f"{law}: {covered:.0%}")
    assert 0.7 < covered < 0.92  # the caption says 75 to 90%


@pytest.mark.full
@pytest.mark.parametrize("tasks", [3, 4])
@pytest.mark.parametrize("p", [0.5, 0.86, 0.92, 0.96])
def test_of_the_probability_of_improvement(p: float, tasks: int) -> None:
    g, shape = np.random.default_rng(0), (3, tasks)
    shift = norm.ppf(p) * 2**0.5
    intervals = [
        probability_of_improvement(shift + g.standard_normal(shape), g.standard_normal(shape))
        for _ in range(N)
    ]
    covered = np.mean([i.low <= p <= i.high for i in intervals])
    empty = np.mean([i.low == i.high for i in intervals])
    print(f"{p}, {tasks} tasks: {covered:.0%} ({empty:.0%})")
    assert covered > 0.85 if p < 0.9 else covered < 0.9
