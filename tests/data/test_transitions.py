"""What a batch holds, above all at the ends of episodes."""

import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from d4rl_layout import rows, write
from toy import dataset

from offrl.data.d4rl import unpack_hdf5
from offrl.data.normalise import Normaliser
from offrl.data.transitions import Transitions
from offrl.rng import generator

GAMMA = 0.9


def test_a_time_out_ends_the_n_step_sum_and_is_bootstrapped() -> None:
    d = dataset([3, 3], [False, False])  # rewards 1 2 3 | 4 5 6, states 0..3 | 4..7
    batch = Transitions(d, GAMMA, 3, None, "cpu").gather(torch.arange(6))
    g = GAMMA
    expected = [1 + 2 * g + 3 * g**2, 2 + 3 * g, 3, 4 + 5 * g + 6 * g**2, 5 + 6 * g, 6]
    torch.testing.assert_close(batch.reward, torch.tensor(expected))
    torch.testing.assert_close(batch.return_to_go, torch.tensor(expected))
    powers = torch.tensor([g**3, g**2, g, g**3, g**2, g])
    torch.testing.assert_close(batch.discount, powers)
    assert batch.obs[:, 0].tolist() == [0, 1, 2, 4, 5, 6]
    assert batch.next_obs[:, 0].tolist() == [3, 3, 3, 7, 7, 7]
    assert batch.next_action[:, 0].tolist() == [2, 2, 2, 5, 5, 5]  # the episode's last action


def test_a_terminal_ends_the_n_step_sum_and_is_not_bootstrapped() -> None:
    d = dataset([4, 3], [True, False])
    batch = Transitions(d, GAMMA, 3, None, "cpu").gather(torch.arange(7))
    g = GAMMA
    torch.testing.assert_close(batch.discount, torch.tensor([g**3, 0, 0, 0, g**3, g**2, g]))
    assert batch.next_obs[:, 0].tolist() == [3, 4, 4, 4, 8, 8, 8]
    assert batch.next_action[:, 0].tolist() == [3, 3, 3, 3, 6, 6, 6]
    assert batch.reward[3].item() == 4


def test_one_step() -> None:
    d = dataset([2, 1, 3], [False, True, True])
    batch = Transitions(d, GAMMA, 1, None, "cpu").gather(torch.arange(6))
    assert batch.reward.tolist() == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(batch.discount, torch.tensor([GAMMA, GAMMA, 0, GAMMA, GAMMA, 0]))
    assert batch.obs[:, 0].tolist() == [0, 1, 3, 5, 6, 7]
    assert batch.next_obs[:, 0].tolist() == [1, 2, 4, 6, 7, 8]
    assert batch.next_action[:, 0].tolist() == [1, 1, 2, 4, 5, 5]


@pytest.mark.parametrize("n_step", [1, 2, 5, 100])
def test_a_batch_equals_the_definition(n_step: int) -> None:
    g = np.random.default_rng(n_step)
    lengths = [int(x) for x in g.integers(1, 30, 40)]
    d = dataset(lengths, [bool(x) for x in g.integers(0, 2, 40)])
    transitions = Transitions(d, GAMMA, n_step, None, "cpu")
    rows_ = torch.randint(len(d), (500,), generator=generator("test"))
    batch = transitions.gather(rows_)
    for k, i in enumerate(rows_.tolist()):
        end = int(d.episode_start[np.searchsorted(d.episode_start, i, side="right")])
        steps = list(range(i, min(i + n_step, end)))
        reward = sum(GAMMA**j * float(d.reward[s]) for j, s in enumerate(steps))
        to_go = sum(GAMMA ** (s - i) * float(d.reward[s]) for s in range(i, end))
        discount = 0.0 if d.terminated[steps[-1]] else GAMMA ** len(steps)
        assert batch.reward[k].item() == pytest.approx(reward, rel=1e-6)
        assert batch.return_to_go[k].item() == pytest.approx(to_go, rel=1e-6)
        assert batch.discount[k].item() == pytest.approx(discount, rel=1e-6)
        assert batch.action[k, 0].item() == i
        assert batch.next_action[k, 0].item() == min(steps[-1] + 1, end - 1)
        assert batch.next_obs[k, 0].item() == d.next_index[steps[-1]]


def test_the_seam_of_a_d4rl_file(tmp_path: Path) -> None:
    """D4RL's view drops the time-out row; its neighbours belong to two episodes nevertheless."""
    columns = rows("---t---t-")
    d = unpack_hdf5(write(tmp_path / "a.hdf5", columns), "file/x", tmp_path / "cache", 4)
    batch = Transitions(d, 1.0, 3, None, "cpu").gather(torch.tensor([2]))
    assert batch.reward.item() == columns["rewards"][2]
    assert batch.return_to_go.item() == columns["rewards"][2]
    assert batch.discount.item() == 1.0
    np.testing.assert_array_equal(batch.next_obs[0], columns["observations"][3])
    np.testing.assert_array_equal(batch.next_action[0], columns["actions"][3])


@pytest.mark.parametrize(("n_step", "masked"), [(1, 2), (3, 5)])
def test_the_next_action_of_a_d4rl_file_is_that_of_the_row_of_the_next_state(
    tmp_path: Path, n_step: int, masked: int
) -> None:
    """Also where that row is dropped, as it timed out, and where it is the file's last one."""
    columns = rows("---t-d--t---d----")
    d = unpack_hdf5(write(tmp_path / "a.hdf5", columns), "file/x", tmp_path / "cache", 99)
    batch = Transitions(d, GAMMA, n_step, None, "cpu").gather(torch.arange(len(d)))
    bootstrapped = batch.discount > 0
    assert bootstrapped.sum() == len(d) - masked
    known = {tuple(o): a for o, a in zip(columns["observations"], columns["actions"], strict=True)}
    assert len(known) == len(columns["actions"])
    for o, a in zip(batch.next_obs[bootstrapped], batch.next_action[bootstrapped], strict=True):
        np.testing.assert_array_equal(a, known[tuple(o.numpy())])


def test_return_to_go_is_accumulated_in_float64() -> None:
    d = dataset([1000], [False])
    reward = np.full(1000, 0.1, dtype=np.float32)
    reward[-1] = 1e7  # float32 sums would lose the small rewards beside it
    object.__setattr__(d, "reward", reward)
    batch = Transitions(d, 1.0, 1, None, "cpu").gather(torch.tensor([0]))
    exact = reward.astype(np.float64).sum()
    assert batch.return_to_go.item() == np.float32(exact)


@pytest.mark.parametrize("n_step", [1, 3])
def test_rewards_are_scaled_in_every_column_that_holds_them(n_step: int) -> None:
    d = dataset([3, 3], [False, True])
    before = d.reward.copy()
    raw = Transitions(d, GAMMA, n_step, None, "cpu").gather(torch.arange(6))
    scaled = Transitions(d, GAMMA, n_step, None, "cpu", 2.5).gather(torch.arange(6))
    torch.testing.assert_close(scaled.reward, 2.5 * raw.reward)
    torch.testing.assert_close(scaled.return_to_go, 2.5 * raw.return_to_go)
    assert torch.equal(scaled.discount, raw.discount)
    assert np.array_equal(d.reward, before)


def test_observations_are_normalised_on_both_sides() -> None:
    d = dataset([3, 3], [False, False])
    normaliser = Normaliser.fit(d.states, d.index)
    raw = Transitions(d, GAMMA, 1, None, "cpu").gather(torch.arange(6))
    batch = Transitions(d, GAMMA, 1, normaliser, "cpu").gather(torch.arange(6))
    assert torch.equal(batch.obs, normaliser(raw.obs))
    assert torch.equal(batch.next_obs, normaliser(raw.next_obs))
    assert torch.equal(batch.action, raw.action)


def test_mapped_columns_are_shared_without_a_warning_and_kept_safe(tmp_path: Path) -> None:
    d = unpack_hdf5(write(tmp_path / "a.hdf5", rows("---t---d--")), "file/x", tmp_path / "c", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transitions = Transitions(d, GAMMA, 1, None, "cpu")
    assert transitions.states.data_ptr() == d.states.ctypes.data
    assert transitions.action.data_ptr() == d.action.ctypes.data
    assert not d.states.flags.writeable
    batch = transitions.gather(torch.tensor([0, 1]))
    before = d.states.copy()
    batch.obs.zero_()  # batches are new tensors
    np.testing.assert_array_equal(d.states, before)


def test_drawn_rows_are_uniform_and_addressed() -> None:
    transitions = Transitions(dataset([5, 5], [False, True]), GAMMA, 1, None, "cpu")
    drawn = transitions.draw_rows(generator(0, "batch", 0), 200, 100)
    assert drawn.shape == (200, 100)
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn.reshape(-1), minlength=10)
    assert len(counts) == 10
    assert ((counts - 2000).abs() < 5 * 2000**0.5).all()
    assert torch.equal(drawn, transitions.draw_rows(generator(0, "batch", 0), 200, 100))
    assert not torch.equal(drawn, transitions.draw_rows(generator(0, "batch", 1), 200, 100))


def test_n_step_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n_step is 0"):
        Transitions(dataset([2], [True]), GAMMA, 0, None, "cpu")


def test_a_million_transitions_are_prepared_quickly() -> None:
    d = dataset([1000] * 1000, [False] * 1000, obs_dim=1, action_dim=1)
    start = time.process_time()
    Transitions(d, 0.99, 3, None, "cpu")
    assert time.process_time() - start < 2  # a Python loop over the rows takes longer


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gathers_the_same_batch() -> None:
    d = dataset([3, 7, 4], [False, True, False])
    normaliser = Normaliser.fit(d.states, d.index)
    ours = Transitions(d, GAMMA, 3, normaliser, "cpu").gather(torch.arange(14))
    theirs = Transitions(d, GAMMA, 3, normaliser, "cuda").gather(torch.arange(14, device="cuda"))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.cpu())
