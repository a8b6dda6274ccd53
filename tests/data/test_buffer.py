"""The growing data of an online learner."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from offrl.data.buffer import ReplayBuffer
from offrl.errors import UserError
from offrl.types import Spec, Transition

PIXELS = Spec((4, 84, 84), 3, 0.0, 8)
GAMMA = 0.5


def everything(buffer: ReplayBuffer) -> Transition:
    """All rows, in order."""
    n = buffer.n_rows
    return buffer.gather((torch.arange(n) + 0.5).double() / n, n)


def frames(*values: int) -> NDArray[np.uint8]:
    """An observation whose frames are of one value each."""
    return np.stack([np.full((84, 84), v, np.uint8) for v in values])


def values(obs: Any) -> list[list[int]]:
    """The value of each frame of stacks [n, 4, 84, 84]."""
    assert (obs == obs[..., :1, :1]).all()
    return obs[..., 0, 0].tolist()


def test_single_steps_of_vectors(tmp_path: Path) -> None:
    """What is written is what is drawn; a terminal zeroes the discount, a time-out does not."""
    spec = Spec((3,), 2, 1.0, 8)
    buffer = ReplayBuffer(tmp_path, spec, 4, 1, 0.9, 1)
    g = np.random.default_rng(0)
    obs = g.standard_normal((3, 2, 3), dtype=np.float32)
    for i, (before, after) in enumerate(obs):
        buffer.begin(0, before)
        buffer.add(0, np.full(2, i, np.float32), 10.0 * i, after, i == 1)
        buffer.cut(0)
    buffer.flush()
    longer = ReplayBuffer(tmp_path, spec, 8, 1, 0.9, 1)
    longer.rewind(buffer.counts)
    for b in (everything(buffer), everything(longer)):  # also after a restart, longer
        torch.testing.assert_close(b.obs, torch.from_numpy(obs[:, 0]))
        torch.testing.assert_close(b.next_obs, torch.from_numpy(obs[:, 1]))
        assert b.action.tolist() == [[0, 0], [1, 1], [2, 2]]
        assert b.reward.tolist() == [0, 10, 20]
        torch.testing.assert_close(b.discount, torch.tensor([0.9, 0.0, 0.9]))
    assert [x.tolist() for x in buffer.first(2)] == [[[0, 0], [1, 1]], [0, 10]]


def test_n_steps_of_frames_end_with_the_episode(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, PIXELS, 100, 1, GAMMA, 3)
    buffer.begin(0, frames(1, 1, 1, 1))
    for k, end in enumerate((False, False, False, True)):  # terminated at the fourth step
        buffer.add(0, k, 2.0**k, frames(9, 9, 9, k + 2), end)
    buffer.cut(0)  # after a terminal there is nothing to cut
    buffer.begin(0, frames(50, 50, 50, 50))
    for k in range(2):  # truncated after the second
        buffer.add(0, k, 1.0, frames(9, 9, 9, 51 + k), False)
    buffer.cut(0)
    b = everything(buffer)
    assert values(b.obs) == [
        *([1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 2, 3], [1, 2, 3, 4]),
        *([50, 50, 50, 50], [50, 50, 50, 51]),
    ]
    # 1 + 2/2 + 4/4, then 2 + 4/2 + 8/4, ...
    assert b.reward.tolist() == [3.0, 6.0, 8.0, 8.0, 1.5, 1.0]
    assert b.discount.tolist() == [GAMMA**3, 0, 0, 0, GAMMA**2, GAMMA]
    assert values(b.next_obs)[0] == [1, 2, 3, 4]
    assert values(b.next_obs)[4:] == [[50, 50, 51, 52]] * 2
    assert b.action.tolist() == [0, 1, 2, 3, 0, 1]
    assert (b.next_action == -1).all()  # nobody knows them yet
    assert b.return_to_go.isnan().all()
    assert (b.obs.dtype, b.action.dtype) == (torch.uint8, torch.int64)
    assert buffer.n_states == 5 + 3  # each frame once


def test_environments_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "both").mkdir()
    alone = ReplayBuffer(tmp_path / "alone", PIXELS, 100, 1, GAMMA, 2)
    both = ReplayBuffer(tmp_path / "both", PIXELS, 100, 2, GAMMA, 2)
    for buffer, others in ((alone, ()), (both, (1,))):
        for env in (0, *others):
            buffer.begin(env, frames(*4 * [100 * env]))
        for k in range(3):
            for env in (0, *others):
                buffer.add(env, k, 1.0 + 10 * env, frames(0, 0, 0, 100 * env + k + 1), k == 2)
    a, b = everything(alone), everything(both)
    mine = b.obs[:, -1, 0, 0] < 100
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y[mine], rtol=0, atol=0, equal_nan=True)


def test_only_the_newest_rows_are_drawn(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, PIXELS, 100, 1, GAMMA, 1)
    buffer.begin(0, frames(0, 0, 0, 0))
    for k in range(10):
        buffer.add(0, k % 3, float(k), frames(0, 0, 0, k + 1), False)
    u = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert set(buffer.gather(u, 4).reward.tolist()) == {6, 7, 8, 9}
    assert set(buffer.gather(u, 1000).reward.tolist()) == set(range(10))
    edge = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert buffer.gather(edge, 4).reward.tolist() == [6, 9]


def test_what_came_after_a_checkpoint_is_forgotten(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, PIXELS, 100, 1, GAMMA, 3)
    buffer.begin(0, frames(0, 0, 0, 0))
    buffer.add(0, 1, 1.0, frames(0, 0, 0, 1), False)
    buffer.cut(0)
    before, counts = everything(buffer), buffer.counts
    buffer.begin(0, frames(9, 9, 9, 9))
    buffer.add(0, 2, 2.0, frames(9, 9, 9, 9), True)
    again = ReplayBuffer(tmp_path, PIXELS, 100, 1, GAMMA, 3)
    again.rewind(counts)
    torch.testing.assert_close(everything(again), before, rtol=0, atol=0, equal_nan=True)
    again.begin(0, frames(7, 7, 7, 7))
    again.add(0, 0, 3.0, frames(7, 7, 7, 8), True)
    assert everything(again).reward.tolist() == [1.0, 3.0]
    assert values(everything(again).obs) == [[0, 0, 0, 0], [7, 7, 7, 7]]


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse files fit anywhere, and writing to them kills the process where the disk is full."""

    def free(n: int) -> Callable[[Path], SimpleNamespace]:
        return lambda _: SimpleNamespace(free=n)

    monkeypatch.setattr(shutil, "disk_usage", free(1_000_000))
    with pytest.raises(UserError, match=r"a replay of 1000 steps: needs 0.01 GB .*train_steps"):
        ReplayBuffer(tmp_path, PIXELS, 1000, 1, GAMMA, 1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", free(9_000_000))
    buffer = ReplayBuffer(tmp_path, PIXELS, 1000, 1, GAMMA, 1)
    buffer.begin(0, frames(0, 0, 0, 0))
    for k in range(990):
        buffer.add(0, 1, 1.0, frames(0, 0, 0, k % 256), False)
    buffer.flush()
    monkeypatch.setattr(shutil, "disk_usage", free(1_000_000))  # for the rest of it
    ReplayBuffer(tmp_path, PIXELS, 1000, 1, GAMMA, 1)
