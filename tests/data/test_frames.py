"""Pictures, every frame stored once: stacks, episode ends, subsets, the cache, memory."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import columns_of, dataset
from toy_games import game_data, games

from offrl.data import memory
from offrl.data.dataset import check_fits
from offrl.data.memory import in_memory, require_disk, require_memory
from offrl.data.rows import columns
from offrl.data.store import Stream, content_digest, open_dataset, write_dataset
from offrl.data.subset import subset
from offrl.data.transitions import Transitions
from offrl.envs.interface import EnvSpec
from offrl.errors import UserError

LENGTHS, ENDS = [3, 1, 7, 5], [True, False, True, False]
GAMMA = 0.9


def stack(episode: int, t: int) -> list[int]:
    """The numbers in the four frames that an agent saw at step t."""
    return [20 * episode + max(0, t - k) for k in (3, 2, 1, 0)]


def steps(lengths: list[int]) -> list[tuple[int, int]]:
    """(episode, step) of every transition."""
    return [(e, t) for e, n in enumerate(lengths) for t in range(n)]


@pytest.mark.parametrize("n_step", [1, 3])
def test_stacks_never_cross_an_episode(n_step: int) -> None:
    d = game_data(LENGTHS, ENDS)
    batch = Transitions(d, GAMMA, n_step, None, "cpu").gather(torch.arange(len(d)))
    assert batch.obs.shape == batch.next_obs.shape == (16, 4, 84, 84)
    assert batch.obs.dtype == torch.uint8
    assert batch.action.dtype == torch.int64
    for row, (e, t) in enumerate(steps(LENGTHS)):
        m = min(n_step, LENGTHS[e] - t)
        assert batch.obs[row, :, 5, 7].tolist() == stack(e, t)
        assert batch.next_obs[row, :, 83, 0].tolist() == stack(e, t + m)
        ends = ENDS[e] and t + m == LENGTHS[e]
        assert batch.discount[row].item() == pytest.approx(0 if ends else GAMMA**m)
        assert batch.reward[row].item() == pytest.approx(sum(GAMMA**k * (t + k) for k in range(m)))
        assert batch.action[row].item() == t % 6
        assert batch.next_action[row].item() == min(t + m, LENGTHS[e] - 1) % 6


@pytest.mark.parametrize("n", range(1, 17))
def test_exactly_n_transitions_and_the_last_episode_is_cut(n: int) -> None:
    d = game_data(LENGTHS, ENDS, n)
    used = int(np.searchsorted(np.cumsum(LENGTHS), n)) + 1
    assert (len(d), d.n_episodes, len(d.states)) == (n, used, n + used)  # no frame too many
    cut = sum(LENGTHS[:used]) > n
    assert d.complete.tolist() == [True] * (used - 1) + [not cut]
    e, t = steps(LENGTHS)[n - 1]
    batch = Transitions(d, GAMMA, 3, None, "cpu").gather(torch.tensor([n - 1]))
    # the last one bootstraps from its own next frame, if its game did not end there
    assert batch.next_obs[0, :, 0, 0].tolist() == stack(e, t + 1)
    ends = ENDS[e] and not cut
    assert batch.discount.item() == pytest.approx(0 if ends else GAMMA)
    assert d.terminated.sum() == sum(ENDS[: used - cut])


def test_subsets_are_nested_and_share_the_frames() -> None:
    d = game_data(LENGTHS, ENDS)
    seen: list[list[list[int]]] = []
    for n in (2, 6, 13, 16):
        part = subset(d, n)
        assert part.states is d.states
        assert len(part) == n
        batch = Transitions(part, GAMMA, 1, None, "cpu").gather(torch.arange(n))
        seen.append(torch.cat([batch.obs, batch.next_obs], 1)[:, :, 0, 0].tolist())
    for small, large in pairwise(seen[:3]):
        assert large[: len(small)] == small


def test_through_the_cache_with_the_frames_as_a_stream(tmp_path: Path) -> None:
    d = game_data(LENGTHS, ENDS)
    whole = columns_of(d)
    write_dataset(tmp_path, "a" * 64, whole, {"id": "toy"})
    chunks = (d.states[i : i + 3] for i in range(0, len(d.states), 3))
    stream = Stream(d.states.shape, d.states.dtype, chunks)
    streamed = write_dataset(tmp_path, "b" * 64, {**whole, "states": stream}, {"id": "toy"})
    assert content_digest(tmp_path, "a" * 64) == content_digest(tmp_path, "b" * 64)
    for name, column in whole.items():
        np.testing.assert_array_equal(getattr(streamed, name), column)
    files = [(tmp_path / k / "states.npy").read_bytes() for k in ("a" * 64, "b" * 64)]
    assert files[0] == files[1]
    assert (streamed.obs_shape, streamed.continuous) == ((4, 84, 84), False)


def test_a_stream_of_another_length_is_refused(tmp_path: Path) -> None:
    d = game_data(LENGTHS, ENDS)
    stream = Stream(d.states.shape, d.states.dtype, [d.states[:-1]])
    with pytest.raises(ValueError, match=r"states.npy: 19 rows were given, not 20"):
        write_dataset(tmp_path, "a" * 64, {**columns_of(d), "states": stream}, {"id": "toy"})
    with pytest.raises(FileNotFoundError):
        open_dataset(tmp_path, "a" * 64)


def test_columns_of_pictures_and_of_vectors_are_not_mixed(tmp_path: Path) -> None:
    mixed = columns_of(game_data(LENGTHS, ENDS)) | {"states": np.zeros((20, 3), np.float32)}
    with pytest.raises(ValueError, match="pictures"):
        write_dataset(tmp_path, "a" * 64, mixed, {"id": "toy"})


def test_the_content_digest_of_vectors_is_as_it_was(tmp_path: Path) -> None:
    d = dataset([3, 2], [True, False])
    write_dataset(tmp_path, "d" * 64, columns_of(d), {"id": "toy"})
    known = "2a4796965b757a30f37a34f5fa24bd8d0a9e613e2afcadef887feed330c3b6d2"  # published runs'
    assert content_digest(tmp_path, "d" * 64) == known


def test_a_million_transitions_fit_into_7_2_gb(tmp_path: Path) -> None:
    d = game_data([100] * 10, [True] * 10)
    write_dataset(tmp_path, "a" * 64, columns_of(d), {"id": "toy"})
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.npy"))
    frames_of_starts = 10 * 84 * 84
    assert size - frames_of_starts < 7.2e9 * len(d) / 1e6


def test_what_fits_an_environment() -> None:
    d = game_data(LENGTHS, ENDS)
    check_fits(d, EnvSpec((4, 84, 84), 6, 0.0, False), "atari/pong")
    for spec, words in (
        (EnvSpec((4, 84, 84), 5, 0.0, False), "has actions 0 to 5, but X has 0 to 4"),
        (EnvSpec((4,), 6, 0.0, False), "has observations of 4 x 84 x 84, but X has .* 4 dim"),
        (EnvSpec((4, 84, 84), 6, 1.0, True), "has discrete actions, but X has continuous ones"),
    ):
        with pytest.raises(UserError, match=f"^toy: {words}.*env="):
            check_fits(d, spec, "X")


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    d = game_data(LENGTHS, ENDS)
    needed = in_memory(d)
    assert 20 * 84 * 84 + 16 * 40 < needed < 20 * 84 * 84 + 16 * 100
    assert in_memory(subset(d, 4)) < 0.4 * needed  # only the frames that it uses
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    require_memory(d)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(UserError, match=r"toy: 16 transitions need 0.00 GB of memory.*buffer_size"):
        require_memory(d)
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    require_memory(d)
    monkeypatch.undo()
    assert memory.available_memory() is None or memory.available_memory() > 1e7


def test_too_little_disk(tmp_path: Path) -> None:
    require_disk(tmp_path, 1000, "x", "y")
    with pytest.raises(UserError, match=r"^pong: needs \d+.00 GB in .*; take less$"):
        require_disk(tmp_path, 10**18, "pong", "take less")


def test_rows_of_vectors_keep_their_columns() -> None:
    d = columns(
        [r._replace(obs=np.zeros((len(r.obs), 2), np.float32)) for r in games([2], [True])], 2
    )
    assert d["index"].tolist() == [0, 1]
    assert d["index"].dtype == np.int64
