"""The cache folder of a dataset: whole or absent, checked when opened."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy import columns_of, dataset

from offrl.data import store
from offrl.data.dataset import Dataset, ScoreRef
from offrl.data.store import open_dataset, write_dataset
from offrl.errors import UserError

DIGEST = "d" * 64


def _write(cache: Path) -> Dataset:
    return write_dataset(cache, DIGEST, columns_of(dataset([3, 2], [True, False])), {"id": "toy"})


def test_round_trip(tmp_path: Path) -> None:
    source = dataset([3, 2], [True, False])
    for d in (_write(tmp_path), open_dataset(tmp_path, DIGEST)):
        assert (d.id, d.digest) == ("toy", DIGEST)
        assert (len(d), d.n_episodes, d.obs_shape, d.continuous) == (5, 2, (3,), True)
        for name, column in columns_of(source).items():
            stored = getattr(d, name)
            assert stored.dtype == column.dtype
            np.testing.assert_array_equal(stored, column)
            with pytest.raises(ValueError, match="read-only"):
                stored[...] = 0


def test_what_the_data_did_after_its_last_transitions_may_be_stored(tmp_path: Path) -> None:
    columns = columns_of(dataset([3, 2], [True, False]))
    np.testing.assert_array_equal(_write(tmp_path).actions_after(), columns["action"][[2, 4]])
    known = np.full((2, 2), 0.5, dtype=np.float32)
    stored = write_dataset(tmp_path, "e" * 64, columns | {"final_action": known}, {"id": "toy"})
    np.testing.assert_array_equal(stored.actions_after(), known)
    with pytest.raises(ValueError, match="columns of episodes have unequal lengths"):
        write_dataset(tmp_path, "f" * 64, columns | {"final_action": known[:1]}, {"id": "toy"})


def test_provenance_and_digests_are_recorded(tmp_path: Path) -> None:
    columns = columns_of(dataset([3, 2], [True, False]))
    write_dataset(tmp_path, DIGEST, columns, {"id": "toy", "simulator": "3.3.7"})
    meta = json.loads((tmp_path / DIGEST / "meta.json").read_text())
    assert meta["simulator"] == "3.3.7"
    assert meta["columns"]["reward"]["shape"] == [5]
    assert len(meta["columns"]["reward"]["sha256"]) == 64


def test_little_more_than_the_data_and_no_pickle(tmp_path: Path) -> None:
    columns = columns_of(dataset([100] * 20, [False] * 20))
    write_dataset(tmp_path, DIGEST, columns, {"id": "toy"})
    size = sum(p.stat().st_size for p in (tmp_path / DIGEST).iterdir())
    assert size < 1.05 * sum(c.nbytes for c in columns.values())
    np.save(tmp_path / DIGEST / "reward.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be used"):
        open_dataset(tmp_path, DIGEST)


def test_the_second_writer_keeps_the_firsts_folder(tmp_path: Path) -> None:
    _write(tmp_path)
    inode = (tmp_path / DIGEST).stat().st_ino
    d = _write(tmp_path)
    assert (tmp_path / DIGEST).stat().st_ino == inode
    assert len(d) == 5
    assert [p.name for p in tmp_path.iterdir()] == [DIGEST]


def test_losing_the_race_between_check_and_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def lose(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)  # another process, just before us
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", lose)
    assert len(_write(tmp_path)) == 5
    assert [p.name for p in tmp_path.iterdir()] == [DIGEST]


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(tmp_path,)) for _ in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 4
    assert [p.name for p in tmp_path.iterdir()] == [DIGEST]
    assert len(open_dataset(tmp_path, DIGEST)) == 5


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_save_json", full)
    with pytest.raises(UserError, match=r"No space left on device.*OFFRL_DATA"):
        _write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_in_time(tmp_path: Path) -> None:
    old, new = tmp_path / ".unpacking-old", tmp_path / ".unpacking-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    _write(tmp_path)
    assert not old.exists()
    assert new.exists()  # somebody may be working there


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_dataset(tmp_path, DIGEST)


def _truncate(folder: Path) -> None:
    path = folder / "states.npy"
    os.truncate(path, path.stat().st_size - 1)


def _another_shape(folder: Path) -> None:
    np.save(folder / "reward.npy", np.zeros(4, dtype=np.float32))


def _another_type(folder: Path) -> None:
    np.save(folder / "reward.npy", np.zeros(5))


def _another_format(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 999}))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _another_shape,
        _another_type,
        _another_format,
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "action.npy").unlink(),
        lambda folder: (folder / "action.npy").write_bytes(b""),
    ],
)
def test_a_damaged_folder_says_what_to_do(damage: object, tmp_path: Path) -> None:
    _write(tmp_path)
    assert callable(damage)
    damage(tmp_path / DIGEST)
    with pytest.raises(UserError, match=f"{DIGEST} cannot be used .* delete that folder"):
        open_dataset(tmp_path, DIGEST)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("reward", np.zeros(5)),
        ("reward", np.zeros(4, dtype=np.float32)),
        ("episode_start", np.array([0, 3, 4])),
        ("episode_start", np.array([0, 5, 5])),
        ("complete", np.ones(3, dtype=np.bool_)),
    ],
)
def test_columns_that_are_no_dataset(name: str, column: np.ndarray, tmp_path: Path) -> None:
    columns = {**columns_of(dataset([3, 2], [True, False])), name: column}
    with pytest.raises(ValueError, match=r"reward|lengths|episode"):
        write_dataset(tmp_path / "cache", DIGEST, columns, {"id": "toy"})
    assert not (tmp_path / "cache").exists()


def test_scores() -> None:
    returns = np.array([-20.272305, 3234.3, 1607.0])
    scores = ScoreRef("d4rl", -20.272305, 3234.3).normalise(returns)
    np.testing.assert_allclose(scores, [0, 100, 50.0], atol=0.01)
    assert ScoreRef("return", None, None).normalise(returns) is returns
