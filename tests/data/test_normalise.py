"""One normaliser, the same numbers in training, in evaluation and after a round trip."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import dataset

from offrl.data.normalise import Normaliser, reward_scale
from offrl.errors import UserError


def _states(n: int = 1000, d: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32) * 3 + 7


def test_statistics_are_those_of_the_listed_rows() -> None:
    states = _states()
    index = np.random.default_rng(1).integers(0, 500, 2000)  # some states often, some never
    normaliser = Normaliser.fit(states, index)
    taken = states[index].astype(np.float64)
    assert normaliser.mean.dtype == normaliser.std.dtype == torch.float32
    np.testing.assert_allclose(normaliser.mean, taken.mean(0), rtol=1e-6)
    np.testing.assert_allclose(normaliser.std, taken.std(0) + 1e-3, rtol=1e-6)


def test_chunks_do_not_matter() -> None:
    states = _states(200_000, 2)  # several chunks, the last one partial
    normaliser = Normaliser.fit(states, np.arange(200_000))
    exact = states.astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(normaliser.std, exact.std(0) + 1e-3, rtol=1e-7)


def test_sums_are_accumulated_in_float64() -> None:
    n = 1 << 17  # in float32 a running sum of 1000 + noise is off by more than the noise
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, n)
    states = (noise + 1000)[:, None].astype(np.float32)
    normaliser = Normaliser.fit(states, np.arange(n))
    exact = states.astype(np.float64)
    assert normaliser.mean.item() == np.float32(exact.mean())
    assert normaliser.std.item() == pytest.approx(exact.std() + 1e-3, rel=1e-6)


def test_a_constant_dimension_stays_finite_and_small() -> None:
    states = _states()
    states[:, 2] = 0.1
    normaliser = Normaliser.fit(states, np.arange(len(states)))
    assert normaliser.std[2].item() == pytest.approx(1e-3)
    obs = normaliser(torch.from_numpy(states))
    assert (obs[:, 2] == 0).all()
    assert normaliser(torch.from_numpy(states) + 1e-3)[0, 2].item() == pytest.approx(1, rel=1e-3)


def test_nothing_is_clipped() -> None:
    normaliser = Normaliser(torch.zeros(1), torch.full((1,), 0.1))
    assert normaliser(torch.tensor([[-1e4]])).item() == pytest.approx(-1e5)


def test_training_and_evaluation_agree_in_every_bit() -> None:
    """A batch of 1000, single observations, and a restored normaliser: the same numbers."""
    states = _states()
    normaliser = Normaliser.fit(states, np.arange(len(states)))
    record = json.loads(json.dumps(normaliser.to_json()))
    restored = Normaliser(*(torch.tensor(record[k]) for k in ("mean", "std")))
    assert torch.equal(restored.mean, normaliser.mean)
    assert torch.equal(restored.std, normaliser.std)
    batch = normaliser(torch.from_numpy(states))
    single = torch.cat([restored(torch.from_numpy(states[i : i + 1])) for i in range(100)])
    assert torch.equal(batch[:100], single)


def test_rewards_are_scaled_by_the_spread_of_complete_episodes() -> None:
    d = dataset([2, 3, 1], [False, True, False])  # returns 3, 12, 6
    assert reward_scale(d) == 1000 / (12 - 3)
    cut = replace(d, complete=np.array([False, True, True]))
    assert reward_scale(cut) == 1000 / (12 - 6)


@pytest.mark.parametrize("complete", [[False, False, False], [True, False, False]])
def test_no_reward_scale_without_two_different_episodes(complete: list[bool]) -> None:
    d = replace(dataset([2, 3, 1], [False, True, False]), complete=np.array(complete))
    with pytest.raises(UserError, match="norm_reward=true: toy has no two complete episodes"):
        reward_scale(d)
