"""Golden data and rliable's results: golden/README.md."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offrl.report.aggregate import Array, Interval, iqm, probability_of_improvement, profile

GOLDEN = Path(__file__).parent / "golden"
GROUPS: dict[str, Callable[[str], bool]] = {
    "mujoco_v2": lambda d: d.startswith(("halfcheetah", "hopper", "walker2d")),
    "antmaze": lambda d: d.startswith("antmaze"),
    "all": lambda d: True,
}
RLIABLE: dict[str, Any] = json.loads((GOLDEN / "rliable.json").read_text())


def read(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(newline="") as f:
        return list(csv.DictReader(f))


def scores(algo: str, group: str = "mujoco_v2") -> Array:
    """[10 seeds, T datasets]."""
    rows = [
        [float(v) for k, v in r.items() if k.startswith("seed_")]
        for r in read("rebrac_per_seed.csv")
        if r["algo"] == algo and GROUPS[group](r["dataset"])
    ]
    return np.array(rows).T


@pytest.mark.parametrize("row", read("rebrac_iqm.csv"), ids=lambda r: f"{r['algo']}-{r['group']}")
def test_the_golden_interquartile_means(row: dict[str, str]) -> None:
    x = scores(row["algo"], row["group"])
    assert x.shape == (10, int(row["n_datasets"]))
    assert f"{iqm(x).value:.6f}" == row["iqm"]


def near(got: Interval, expected: list[float], tolerance: float) -> None:
    """The value to the last digits, the ends as far as a few thousand resamples fix them."""
    assert got.value == pytest.approx(expected[0], abs=1e-9)
    assert (got.low, got.high) == pytest.approx(expected[1:], abs=tolerance)


@pytest.mark.parametrize("algo", RLIABLE["iqm"])
def test_iqm_and_its_interval_are_rliable_s(algo: str) -> None:
    near(iqm(scores(algo)), RLIABLE["iqm"][algo], 0.15)  # widths are 2 to 4


@pytest.mark.parametrize("pair", RLIABLE["probability_of_improvement"])
def test_probability_of_improvement_and_its_interval_are_rliable_s(pair: str) -> None:
    a, b = (scores(algo) for algo in pair.split(","))
    expected = RLIABLE["probability_of_improvement"][pair]
    near(probability_of_improvement(a, b), expected, 0.004)  # widths are 0.06 to 0.1
    turned = probability_of_improvement(b, a)
    assert turned.value == pytest.approx(1 - expected[0], abs=1e-9)


@pytest.mark.parametrize("algo", RLIABLE["profile"])
def test_profiles_and_their_intervals_are_rliable_s(algo: str) -> None:
    value, low, high = profile(scores(algo), np.array(RLIABLE["thresholds"], dtype=np.float64))
    expected = RLIABLE["profile"][algo]
    assert value == pytest.approx(expected[0], abs=1e-9)
    assert low == pytest.approx(expected[1], abs=0.012)  # steps of 1/180
    assert high == pytest.approx(expected[2], abs=0.012)


def test_by_hand() -> None:
    x = np.array([[0.0, 10.0], [4.0, 20.0], [6.0, 30.0], [100.0, 40.0]])
    assert iqm(x).value == (6 + 10 + 20 + 30) / 4  # of 0 4 6 10 20 30 40 100
    y = np.array([[5.0, 20.0]])
    # task 1: two of four above 5; task 2: two above 20 and one equal
    assert probability_of_improvement(x, y).value == (2 / 4 + 2.5 / 4) / 2
    assert probability_of_improvement(x, x).value == 0.5
    assert profile(x, np.array([10.0]))[0].tolist() == [4 / 8]  # above it, not at it


def test_tasks_are_resampled_by_themselves() -> None:
    """Seeds that agree leave nothing to resample, however unlike the tasks are."""
    x = np.tile(np.linspace(0, 100, 8), (5, 1))
    assert iqm(x) == pytest.approx((50, 50, 50))
    assert probability_of_improvement(x, x[:3]) == (0.5, 0.5, 0.5)
    value, low, high = profile(x, np.array([50.0]))
    assert value == low == high == [0.5]


def test_two_methods_are_resampled_independently() -> None:
    """Equal scores are compared with equal odds, so the interval is symmetric and not a point."""
    x = np.arange(20.0).reshape(5, 4)
    got = probability_of_improvement(x, x)
    assert got.low < 0.45 < 0.55 < got.high
    assert got.low + got.high == pytest.approx(1, abs=0.03)


def test_the_same_draws_everywhere() -> None:
    """README's intervals are checked byte for byte: what is drawn may not depend on a version."""
    x = scores("td3_bc")
    assert iqm(x) == iqm(x.copy())
    got = iqm(x[:3, :4])
    assert (round(got.low, 4), round(got.high, 4)) == FIRST


FIRST = (82.8365, 85.9057)


def test_few_seeds_cover_less_than_they_say() -> None:
    """What the caption says of three seeds."""
    g = np.random.default_rng(0)
    means = np.linspace(20, 100, 4)
    truth = float(np.mean([iqm(means + g.normal(0, 10, (3, 4))).value for _ in range(300)]))
    hits = 0
    for _ in range(150):
        got = iqm(means + g.normal(0, 10, (3, 4)))
        hits += got.low <= truth <= got.high
    assert 0.7 < hits / 150 < 0.92
