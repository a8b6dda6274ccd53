"""Shards -> the suite's Atari format: every row, in time order, with the right ends."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rlu_toys import Episode, episode, frame, png, shuffled, write_shard

from benchmarks.timing.rlu_writer import Values, example, write_records
from offrl.data import rlu_shard
from offrl.data.atari_file import read_meta, unpack_atari, unpack_together
from offrl.data.dataset import Dataset
from offrl.data.rlu_convert import Played, convert
from offrl.errors import UserError

PLAYED = Played(("NOOP", "FIRE", "RIGHT", "LEFT"), 9, {"run": 1})
Row = dict[str, Values]


def converted(tmp_path: Path, rows: list[Row], **how: Any) -> Dataset:
    shard, out = write_shard(tmp_path / "shard", rows, **how), tmp_path / "out.npz"
    assert convert(shard, out, PLAYED, lambda _: None) == len(rows)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["out.npz", "shard"]
    return unpack_atari(out, "x", cache(tmp_path))


def cache(folder: Path) -> Path:
    (folder / "cache").mkdir(exist_ok=True)
    return folder / "cache"


def check(data: Dataset, k: int, of: Episode, first: int, last: int) -> None:
    """Episode k of the data is these rows of an episode."""
    a, b = data.episode_start[k : k + 2]
    assert b - a == last - first
    for i, t in zip(range(a, b), range(first, last), strict=True):
        assert np.array_equal(
            data.states[data.index[i]], [frame(x) for x in of.pictures[t : t + 4]]
        )
        following = [frame(x) for x in of.pictures[t + 1 : t + 5]]
        assert np.array_equal(data.states[data.next_index[i]], following)
        assert (data.action[i], data.reward[i]) == (of.actions[t], of.rewards[t])
        assert data.terminated[i] == (of.terminated and t == len(of.rewards) - 1)
    assert data.episode_return[k] == sum(of.rewards)


@pytest.mark.parametrize("mixed", [False, True])
def test_cut_episodes_terminals_and_time_limits(mixed: bool, tmp_path: Path) -> None:
    cut_before, whole = episode(1, 6), episode(2, 7)
    limit, early, cut_after = episode(3, 9, False), episode(4, 4, False), episode(5, 8)
    rows = [
        *(*cut_before.rows(2), *whole.rows(), *limit.rows(), *early.rows()),
        *cut_after.rows(0, 5),
    ]
    data = converted(tmp_path, shuffled(rows) if mixed else rows)
    assert len(data) == len(rows) == 29
    parts = {1: (cut_before, 2, 6), 2: (whole, 0, 7), 3: (limit, 0, 9), 4: (early, 0, 4)}
    parts[5] = cut_after, 0, 5
    newest = [data.states[data.next_index[s, 3]] for s in data.episode_start[:-1]]
    order = [(int(x[0, 0]) * 256 + int(x[0, 1])) // 1000 for x in newest]
    assert sorted(order) == list(parts)
    assert mixed or order == list(parts)
    for k, e in enumerate(order):
        check(data, k, *parts[e])
    # here from their starts to their real ends: a terminal, or nine steps
    assert dict(zip(order, data.complete.tolist(), strict=True)) == {
        **{1: False, 2: True, 3: True, 4: False},
        5: False,
    }
    distinct = {x for of, a, b in parts.values() for x in of.pictures[a : b + 4]}
    assert len(data.states) == len(distinct)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_shard_has_its_own_number_of_rows(n: int, tmp_path: Path) -> None:
    assert len(converted(tmp_path, episode(1, 9).rows(0, n))) == n


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_screens_that_do_not_change(seed: int | None, tmp_path: Path) -> None:
    still = Episode(-5, [0] * 3 + [1, 1, 1, 1, 1, 1, 1, 2, 2], [0] * 9, [0] * 7 + [1], True)
    rows = still.rows() if seed is None else shuffled(still.rows(), seed)
    data = converted(tmp_path, rows)
    assert data.episode_start.tolist() == [0, 8]
    check(data, 0, still, 0, 8)
    assert data.complete.tolist() == [True]
    assert len(data.states) == 3


def test_missing_rows_leave_pieces_that_bootstrap_from_their_own_ends(tmp_path: Path) -> None:
    e = episode(1, 8)
    rows = e.rows()
    data = converted(tmp_path, [*rows[:3], *rows[5:]])
    assert data.episode_start.tolist() == [0, 3, 6]
    check(data, 0, e, 0, 3)
    check(data, 1, e, 5, 8)
    assert data.complete.tolist() == [False, False]
    assert data.terminated.tolist() == [False] * 5 + [True]


def test_returns_that_do_not_add_up_are_of_no_whole_episode(tmp_path: Path) -> None:
    rows = episode(1, 5).rows()
    for row in rows:
        row["episode_return"] = [99.0]
    assert converted(tmp_path, rows).complete.tolist() == [False]


def test_neighbours_in_time_are_neighbours_in_the_file(tmp_path: Path) -> None:
    e = episode(1, 50)
    data = converted(tmp_path, shuffled(e.rows()))
    shown = [int(x[0, 0]) * 256 + int(x[0, 1]) for x in data.states]
    assert shown == [0, *range(1001, 1052)]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = episode(1, 9).rows()
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        converted(tmp_path / name, rows)
        files.append((tmp_path / name / "out.npz").read_bytes())
    assert files[0] == files[1]
    meta = read_meta(tmp_path / "a" / "out.npz")
    assert (meta["run"], meta["n"], len(meta["sha256"])) == (1, 9, 64)


def test_every_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    decode = rlu_shard._decode
    monkeypatch.setattr(rlu_shard, "_decode", lambda x: (seen.append(x), decode(x))[1])
    converted(tmp_path, shuffled(episode(1, 30).rows()))
    assert len(seen) == len(set(seen)) == 32


def test_several_shards_become_one_dataset(tmp_path: Path) -> None:
    a, b = episode(1, 6), episode(2, 7, False)
    for name, e in (("a", a), ("b", b)):
        convert(write_shard(tmp_path / name, e.rows()), tmp_path / f"{name}.npz", PLAYED, len_)
    both = [tmp_path / "a.npz", tmp_path / "b.npz"]
    data = unpack_together(both, "x", cache(tmp_path))
    assert data.episode_start.tolist() == [0, 6, 13]
    check(data, 0, a, 0, 6)
    check(data, 1, b, 0, 7)
    assert data.index.dtype == data.next_index.dtype == np.int32
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert unpack_together(both, "y", cache(tmp_path)).digest == data.digest
    assert unpack_together(both[::-1], "y", cache(tmp_path)).digest != data.digest


def len_(_: int) -> None:
    pass


def changed(**features: Any) -> Callable[[list[Row]], None]:
    """Changes row 3."""

    def change(rows: list[Row]) -> None:
        for name, values in features.items():
            if values is None:
                del rows[3][name]
            else:
                rows[3][name] = values

    return change


SMALL = png(np.zeros((84, 80), np.uint8))
COLOUR = png(np.zeros((84, 84), np.uint8), "RGB")
DEEP = png(np.zeros((84, 84), np.uint8), "I;16")
CUT = png(np.random.default_rng(0).integers(0, 255, (84, 84), dtype=np.uint8))[:2000]
BLANK = png(frame(0))


def pictures(bad: bytes) -> dict[str, Any]:
    return {"o_tp1": [BLANK, BLANK, BLANK, bad]}


BAD: dict[str, tuple[Callable[[list[Row]], None], str]] = {
    "no action": (changed(a_t=None), "has no a_t; it has a_tp1, d_t, "),
    "no picture": (changed(o_tp1=None), "has no o_tp1"),
    "no id": (changed(episode_id=None), "has no episode_id"),
    "no return": (changed(episode_return=None), "has no episode_return"),
    "three pictures": (changed(o_t=[BLANK] * 3), "o_t has 3 values, not 4"),
    "two actions": (changed(a_tp1=[1, 2]), "a_tp1 has 2 values"),
    "an action that is a float": (changed(a_t=[1.0]), "a_t is 1.0, not an integer"),
    "a reward that is an integer": (changed(r_t=[1]), "r_t is 1, not a finite float"),
    "pictures that are numbers": (changed(o_t=[1, 2, 3, 4]), "o_t holds no pictures"),
    "a reward of its own": (changed(r_t=[float("nan")]), "r_t is nan"),
    "rewards that are not clipped": (changed(r_t=[4.0]), "r_t is 4, but rewards are clipped"),
    "half a discount": (changed(d_t=[0.5]), "d_t is 0.5, but a discount is 0 or 1"),
    "a low action": (changed(a_t=[-1]), "a_t is -1, but the game has actions 0 to 3: NOOP FIRE"),
    "a high action": (changed(a_tp1=[4]), "a_tp1 is 4, but .*is it a shard of that game"),
    "a small picture": (changed(**pictures(SMALL)), "a picture is 80 x 84 of mode L"),
    "a colourful picture": (changed(**pictures(COLOUR)), "84 x 84 of mode RGB, not 84 x 84 of L"),
    "a deep picture": (changed(**pictures(DEEP)), "of mode I;16"),
    "half a picture": (changed(**pictures(CUT)), "a picture is no PNG that can be decoded"),
    "no picture at all": (changed(**pictures(b"x")), "a picture is no PNG that can be decoded"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD)
def test_bad_rows_are_named_and_leave_nothing(
    spoil: Callable[[list[Row]], None], words: str, tmp_path: Path
) -> None:
    rows = episode(1, 6).rows()
    spoil(rows)
    shard = write_shard(tmp_path / "shard", rows)
    with pytest.raises(UserError, match=f"shard: record 3: .*{words}"):
        convert(shard, tmp_path / "out.npz", PLAYED, len_)
    assert [p.name for p in tmp_path.iterdir()] == ["shard"]


def test_a_terminal_row_may_be_followed_by_any_action(tmp_path: Path) -> None:
    rows = episode(1, 6).rows()
    rows[-1]["a_tp1"] = [17]
    assert len(converted(tmp_path, rows)) == 6


def test_a_record_that_is_no_example(tmp_path: Path) -> None:
    records = [example(r) for r in episode(1, 3).rows()]
    shard = write_records(tmp_path / "shard", [*records, b"nonsense"])
    with pytest.raises(UserError, match="shard: record 3: "):
        convert(shard, tmp_path / "out.npz", PLAYED, len_)


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shard: has no records"):
        convert(write_shard(tmp_path / "shard", []), tmp_path / "out.npz", PLAYED, len_)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(tmp_path / "shard", episode(1, 6).rows())
    with monkeypatch.context() as m:
        m.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(UserError, match=r"converting .*shard: needs 0.00 GB in .*free some"):
            convert(shard, tmp_path / "out.npz", PLAYED, len_)
    if os.path.exists("/dev/full"):  # every write fails there
        monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "w+b"))  # noqa: SIM115
        with pytest.raises(UserError, match=re.escape(f"{shard} to ") + ".*No space left"):
            convert(shard, tmp_path / "out.npz", PLAYED, len_)
    assert [p.name for p in tmp_path.iterdir()] == ["shard"]
