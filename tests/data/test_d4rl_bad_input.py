"""Each kind of bad input: one clear error, and nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from d4rl_layout import Rows, rows, write

from offrl.data.d4rl import unpack_hdf5
from offrl.data.dataset import check_fits
from offrl.data.digest import sha256_file
from offrl.envs.interface import EnvSpec
from offrl.errors import UserError


def _set(key: str, value: Any, row: int | None = None) -> Callable[[Rows], Rows]:
    def change(columns: Rows) -> Rows:
        if row is not None:
            columns[key][row] = value
            return columns
        return {**columns, key: np.asarray(value)}

    return change


def _without(key: str) -> Callable[[Rows], Rows]:
    return lambda columns: {k: v for k, v in columns.items() if k != key}


BAD_COLUMNS = {
    "no observations": (_without("observations"), "key 'observations' is missing"),
    "no actions": (_without("actions"), "key 'actions' is missing"),
    "no rewards": (_without("rewards"), "key 'rewards' is missing"),
    "no terminals": (_without("terminals"), "key 'terminals' is missing"),
    "flat observations": (_set("observations", np.zeros(10)), r"shape \(10,\); expected 2"),
    "rewards matrix": (_set("rewards", np.zeros((10, 2))), r"'rewards' has shape \(10, 2\)"),
    "scalar": (_set("actions", 1.0), r"'actions' has shape \(\)"),
    "short rewards": (_set("rewards", np.zeros(9)), "'rewards' has 9 rows, but 'observations' has"),
    "long timeouts": (_set("timeouts", np.zeros(11, bool)), "'timeouts' has 11 rows"),
    "NaN": (_set("observations", np.nan, row=7), "'observations' row 7 is NaN or infinite"),
    "infinity": (_set("rewards", -np.inf, row=3), "'rewards' row 3 is NaN or infinite"),
    "NaN action": (_set("actions", np.nan, row=0), "'actions' row 0 is NaN or infinite"),
    "overflow": (_set("rewards", np.full(10, 1e300)), "'rewards' row 0 is NaN or infinite"),
    "action": (_set("actions", -1.001, row=4), r"'actions' row 4 is .* outside .*\[-1, 1\]"),
    "strings": (_set("rewards", np.array([b"a"] * 10)), "'rewards' has type"),
    "complex": (_set("actions", np.zeros((10, 2), complex)), "'actions' has type complex"),
    "flags": (_set("terminals", np.arange(10)), "'terminals' row 2 is 2; expected 0 or 1"),
    "empty": (lambda c: {k: v[:0] for k, v in c.items()}, "'observations' is empty"),
    "one row": (lambda c: {k: v[:1] for k, v in c.items()}, r"no transition is left of 1 row"),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_bad_columns(name: str, tmp_path: Path) -> None:
    change, message = BAD_COLUMNS[name]
    path = write(tmp_path / "a.hdf5", change(rows("---t---d--")))
    _fails(path, message, tmp_path)


@pytest.mark.parametrize("key", ["next_observations", "timeouts"])
def test_keep_timeouts_needs_the_truth(key: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", _without(key)(rows("---t---d--")))
    _fails(path, f"key '{key}' is missing", tmp_path, keep_timeouts=True)


def test_next_observations_of_another_size(tmp_path: Path) -> None:
    columns = {**rows("---t---d--"), "next_observations": np.zeros((10, 4))}
    path = write(tmp_path / "a.hdf5", columns)
    _fails(path, "'next_observations' has shape", tmp_path, keep_timeouts=True)


@pytest.mark.parametrize("keep_timeouts", [False, True])
def test_rows_that_do_not_follow_each_other(keep_timeouts: bool, tmp_path: Path) -> None:
    """A replay buffer, written out as it was sampled."""
    columns = rows("---------t" * 30 + "--------d" * 30)
    order = np.random.default_rng(0).permutation(len(columns["rewards"]))
    shuffled = {k: v[order] for k, v in columns.items()}
    path = write(tmp_path / "a.hdf5", shuffled)
    _fails(
        path, r"'next_observations' of 5\d\d in 5\d\d rows .*order of time", tmp_path, keep_timeouts
    )
    shuffled["timeouts"][:] = True  # what the message proposes
    write(path, shuffled)
    d = unpack_hdf5(path, "file/x", tmp_path / "cache", 1000, keep_timeouts=True)
    np.testing.assert_array_equal(d.states[d.next_index], shuffled["next_observations"])
    np.testing.assert_array_equal(d.terminated, shuffled["terminals"])
    assert (np.diff(d.episode_start) == 1).all()


def test_a_cache_of_an_older_version_is_checked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = rows("---------t" * 30 + "--------d" * 30)
    order = np.random.default_rng(0).permutation(len(columns["rewards"]))
    path = write(tmp_path / "a.hdf5", {k: v[order] for k, v in columns.items()})
    with monkeypatch.context() as m:
        m.setattr("offrl.data.d4rl._CHECKS", 0)
        m.setattr("offrl.data.d4rl.check_order", lambda *args: None)
        unpack_hdf5(path, "file/x", tmp_path / "cache", 1000)
    with pytest.raises(UserError, match="is not the next row's observation"):
        unpack_hdf5(path, "file/x", tmp_path / "cache", 1000)


def test_successors_that_are_not_used_may_be_unusable(tmp_path: Path) -> None:
    columns = rows("---t---d--" * 9)
    cache = tmp_path / "cache"
    expected = unpack_hdf5(write(tmp_path / "a.hdf5", columns), "file/x", cache, 1000)
    columns["next_observations"][columns["terminals"] | columns["timeouts"]] = np.nan
    shorter = {**columns, "next_observations": columns["next_observations"][:-1]}
    for k, changed in enumerate((columns, shorter)):
        d = unpack_hdf5(write(tmp_path / f"{k}.hdf5", changed), "file/x", cache, 1000)
        np.testing.assert_array_equal(d.states, expected.states)


def test_successors_that_agree_but_for_rounding_and_a_few(tmp_path: Path) -> None:
    columns = rows("---------t" * 60)
    noise = np.random.default_rng(0).standard_normal(columns["next_observations"].shape)
    columns["next_observations"] += (1e-6 * noise).astype(np.float32)
    columns["next_observations"][[7, 105, 400, 431, 562]] += 1  # of 540
    unpack_hdf5(write(tmp_path / "a.hdf5", columns), "file/x", tmp_path / "cache", 1000)
    columns["next_observations"][590] += 1
    path = write(tmp_path / "b.hdf5", columns)
    with pytest.raises(UserError, match=r"b.hdf5: .* of 6 in 540 rows .*first: row 7\)"):
        unpack_hdf5(path, "file/x", tmp_path / "cache", 1000)


@pytest.mark.parametrize("how", ["a row early", "a row late", "nowhere"])
def test_ends_that_are_flagged_elsewhere(how: str, tmp_path: Path) -> None:
    """They are fewer than the rows that may be apart in a file that has no time-outs."""
    columns = rows(("-" * 399 + "t") * 6 + ("-" * 399 + "d") * 6)
    unpack_hdf5(write(tmp_path / "good.hdf5", columns), "file/x", tmp_path / "good", 1000)
    shift = {"a row early": -1, "a row late": 1, "nowhere": 0}[how]
    for key in ("terminals", "timeouts"):
        columns[key] = np.roll(columns[key], shift) if shift else np.zeros_like(columns[key])
    path = write(tmp_path / "a.hdf5", columns)
    _fails(path, r"'next_observations' of 1\d in 47\d\d rows .*flagged in", tmp_path)
    sha256 = sha256_file(path)  # of D4RL's, nobody can mend the flags
    unpack_hdf5(path, "d4rl/x", tmp_path / "published", 1000, published=sha256)


def test_a_group_in_place_of_a_column(tmp_path: Path) -> None:
    columns = rows("---t---d--")
    del columns["actions"]
    path = write(tmp_path / "a.hdf5", columns)
    with h5py.File(path, "a") as f:
        f.create_group("actions")
    _fails(path, "key 'actions' is missing", tmp_path)


def test_files_that_are_not_hdf5(tmp_path: Path) -> None:
    text = tmp_path / "text.hdf5"
    text.write_text("observations, actions\n")
    _fails(text, "text.hdf5: not a readable HDF5 file", tmp_path)
    nothing = tmp_path / "nothing.hdf5"
    nothing.touch()
    _fails(nothing, "nothing.hdf5: not a readable HDF5 file", tmp_path)
    _fails(tmp_path / "missing.hdf5", "missing.hdf5: No such file", tmp_path)
    (tmp_path / "folder.hdf5").mkdir()
    _fails(tmp_path / "folder.hdf5", "folder.hdf5 is not a file", tmp_path)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_hdf5(part: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", rows("---t" * 500))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    _fails(path, "a.hdf5: not a readable HDF5 file, or cut short", tmp_path)


def test_a_damaged_chunk(tmp_path: Path) -> None:
    columns = rows("---t" * 500)
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as f:
        for key, column in columns.items():
            f.create_dataset(key, data=column, compression="gzip")
        offset = f["actions"].id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 64] = bytes(64)
    path.write_bytes(raw)
    _fails(path, "a.hdf5: not a readable HDF5 file", tmp_path)


def test_bounds_are_checked_on_cached_data_too(tmp_path: Path) -> None:
    columns = rows("---t---d--")
    columns["actions"][3] = 1.5  # a row that D4RL's view drops
    columns["actions"][5] = 1.5
    path = write(tmp_path / "a.hdf5", columns)
    unpack_hdf5(path, "file/x", tmp_path / "cache", 1000, max_action=2.0)
    with pytest.raises(UserError, match=r"outside the environment's bounds \[-1, 1\]"):
        unpack_hdf5(path, "file/x", tmp_path / "cache", 1000, max_action=1.0)


def test_rounding_errors_at_the_bounds_are_not_errors(tmp_path: Path) -> None:
    columns = rows("---t---d--")
    columns["actions"][5] = np.nextafter(np.float32(1), np.float32(2))
    unpack_hdf5(write(tmp_path / "a.hdf5", columns), "file/x", tmp_path / "cache", 1000)


def test_an_environment_of_another_size(tmp_path: Path) -> None:
    d = unpack_hdf5(write(tmp_path / "a.hdf5", rows("--t-")), "file/x", tmp_path / "cache", 1000)
    check_fits(d, EnvSpec((3,), 2, 1.0, True), "Some-v4")
    with pytest.raises(UserError, match=r"file/x: has observations of 3 dim.*Hopper-v4 has .* 11"):
        check_fits(d, EnvSpec((11,), 2, 1.0, True), "Hopper-v4")
    with pytest.raises(UserError, match=r"file/x: has actions of 2 dim.*Hopper-v4 has .* 6"):
        check_fits(d, EnvSpec((3,), 6, 1.0, True), "Hopper-v4")


def test_an_unwritable_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", rows("--t-"))
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write the dataset cache .* set OFFRL_DATA"):
        unpack_hdf5(path, "file/x", tmp_path / "cache", 1000)


def _fails(path: Path, message: str, tmp_path: Path, keep_timeouts: bool = False) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=message) as e:
        unpack_hdf5(path, "file/x", cache, 1000, keep_timeouts)
    assert path.name in str(e.value)
    assert not cache.exists()
