"""D4RL's files become D4RL's transitions, with the episode boundaries that D4RL loses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from d4rl_layout import rows, write

from offrl.data.d4rl import unpack_hdf5

MAX_STEPS = 4
PATTERNS = {
    "cut_short": "--t---d----d---t---",
    "ends_with_timeout": "---t--d---t",
    "ends_with_terminal": "---t--d----d",
    "both_flags": "--b--b-----t--d",
    "one_row_episodes": "ttd-dt--ddtt-t",
    "no_ends": "-------",
}


def _patterns() -> dict[str, dict[str, np.ndarray]]:
    files = {name: rows(pattern) for name, pattern in PATTERNS.items()}
    g = np.random.default_rng(0)
    files["long"] = rows(g.choice(list("-------dtb"), 3000), obs_dim=17, action_dim=6)
    for name, source in (("no_flags", "long"), ("no_flags_short", "cut_short")):
        gone = ("timeouts", "next_observations")  # which would show the time-outs after all
        files[name] = {k: v for k, v in files[source].items() if k not in gone}
    files["wide"] = {  # other types and shapes that D4RL accepts
        **files["long"],
        "observations": files["long"]["observations"].astype(np.float64) * np.pi,
        "next_observations": files["long"]["next_observations"].astype(np.float64) * np.pi,
        "rewards": files["long"]["rewards"].astype(np.float64)[:, None] / 3,
        "terminals": files["long"]["terminals"].astype(np.uint8)[:, None],
    }
    return files


CASES = list(_patterns())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, and what the real d4rl makes of them."""
    folder = tmp_path_factory.mktemp("d4rl")
    files = [write(folder / f"{name}.hdf5", columns) for name, columns in _patterns().items()]
    oracle = Path(__file__).with_name("d4rl_oracle.py")
    done = subprocess.run(
        [sys.executable, oracle, folder / "oracle.npz", str(MAX_STEPS), *files],
        env={**os.environ, "HOME": str(folder), "D4RL_SUPPRESS_IMPORT_ERROR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"the d4rl package (`make setup` installs it) failed:\n{done.stderr}"
    )
    return folder


@pytest.mark.parametrize("name", CASES)
def test_transitions_equal_d4rls_to_the_bit(name: str, folder: Path, tmp_path: Path) -> None:
    oracle = np.load(folder / "oracle.npz")
    d = unpack_hdf5(folder / f"{name}.hdf5", "file/x", tmp_path, MAX_STEPS)
    for key, ours in {
        "observations": d.states[d.index],
        "next_observations": d.states[d.next_index],
        "actions": d.action,
        "rewards": d.reward,
        "terminals": d.terminated,
    }.items():
        theirs = oracle[f"{name}/{key}"]
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


def test_episodes_of_d4rls_view(folder: Path, tmp_path: Path) -> None:
    path = folder / "cut_short.hdf5"
    d = unpack_hdf5(path, "file/x", tmp_path, MAX_STEPS)
    # --t---d----d---t--- : the time-outs and the last row are no transitions
    assert d.episode_start.tolist() == [0, 2, 6, 11, 14, 16]
    assert d.complete.tolist() == [True, True, True, True, False]
    assert np.flatnonzero(d.terminated).tolist() == [5, 10]
    r = rows(PATTERNS["cut_short"])["rewards"].astype(np.float64)
    spans = [(0, 3), (3, 7), (7, 12), (12, 16), (16, 19)]  # dropped rows count for the return
    np.testing.assert_allclose(d.episode_return, [r[a:b].sum() for a, b in spans], rtol=1e-12)
    np.testing.assert_array_equal(d.episode_returns(), d.episode_return[:4])


def test_episodes_without_a_transition_are_left_out(folder: Path, tmp_path: Path) -> None:
    d = unpack_hdf5(folder / "one_row_episodes.hdf5", "file/x", tmp_path, MAX_STEPS)
    # ttd-dt--ddtt-t : kept are d, -d, --d, d, -
    assert np.diff(d.episode_start).tolist() == [1, 2, 3, 1, 1]
    assert d.complete.all()


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("no_flags")])
def test_keep_timeouts_gives_every_row_its_true_successor(
    name: str, folder: Path, tmp_path: Path
) -> None:
    source = _patterns()[name]
    path = folder / f"{name}.hdf5"
    d = unpack_hdf5(path, "file/x", tmp_path, MAX_STEPS, keep_timeouts=True)
    np.testing.assert_array_equal(d.states[d.index], source["observations"].astype(np.float32))
    following = source["next_observations"].astype(np.float32)
    np.testing.assert_array_equal(d.states[d.next_index], following)
    np.testing.assert_array_equal(d.action, source["actions"])
    np.testing.assert_array_equal(d.terminated, source["terminals"].ravel().astype(bool))
    ends = source["timeouts"] | d.terminated
    ends[-1] = True
    np.testing.assert_array_equal(d.episode_start[1:] - 1, np.flatnonzero(ends))
    plain = unpack_hdf5(path, "file/x", tmp_path, MAX_STEPS)
    assert plain.digest != d.digest
    assert len(plain) < len(d)


def test_keep_timeouts_shares_states_between_obs_and_next_obs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", rows("---t---d--"))
    d = unpack_hdf5(path, "file/x", tmp_path, MAX_STEPS, keep_timeouts=True)
    assert len(d.states) == 10 + 3  # one more per episode


def test_a_second_load_reads_the_cache_and_not_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.hdf5", rows("---t---d--"))
    first = unpack_hdf5(path, "file/a", tmp_path / "cache", MAX_STEPS)

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("the source was read again")

    with monkeypatch.context() as m:
        m.setattr("offrl.data.d4rl.sha256_file", unwanted)
        m.setattr("offrl.data.d4rl.read_rows", unwanted)
        again = unpack_hdf5(path, "file/b", tmp_path / "cache", MAX_STEPS)
    assert again.digest == first.digest
    assert (first.id, again.id) == ("file/a", "file/b")
    np.testing.assert_array_equal(again.states, first.states)

    os.utime(path, ns=(1, 1))  # touched, same bytes: checked again, not unpacked again
    with monkeypatch.context() as m:
        m.setattr("offrl.data.d4rl.write_dataset", unwanted)
        assert unpack_hdf5(path, "file/a", tmp_path / "cache", MAX_STEPS).digest == first.digest


def test_a_changed_source_is_another_dataset(tmp_path: Path) -> None:
    columns = rows("---t---d--")
    path = write(tmp_path / "a.hdf5", columns)
    first = unpack_hdf5(path, "file/a", tmp_path / "cache", MAX_STEPS)
    columns["rewards"] = columns["rewards"] + 1
    write(path, columns)
    os.utime(path, ns=(2, 2))
    second = unpack_hdf5(path, "file/a", tmp_path / "cache", MAX_STEPS)
    assert second.digest != first.digest
    np.testing.assert_array_equal(second.reward, columns["rewards"][[0, 1, 2, 4, 5, 6, 7, 8]])


def test_a_file_without_timeouts_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = rows("---------d")
    del columns["timeouts"], columns["next_observations"]
    path = write(tmp_path / "a.hdf5", columns)
    for _ in range(2):  # the second time from the cache
        unpack_hdf5(path, "file/x", tmp_path / "cache", MAX_STEPS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: has no 'timeouts': 2 episode(s) ")
    assert "limit of 4 steps" in line
    unpack_hdf5(path, "file/x", tmp_path / "cache", 1000)  # ends with its terminal: nothing is cut
    assert capsys.readouterr().err == ""
