"""Runs normalise by the transitions that they train on: those of a subset, where it is one."""

from pathlib import Path

import h5py
import numpy as np
from harness import complete, manifest, results, tiny, write_robot

import offrl
from offrl.cell import Cell
from offrl.data.dataset import Dataset
from offrl.data.normalise import Normaliser, reward_scale
from offrl.data.subset import subset

SIZE = 200  # of 600: five of fifteen episodes


def part(c: Cell) -> Dataset:
    whole = c.source.open(c.env)
    data = subset(whole, SIZE)
    assert len(data) == SIZE < len(whole)
    return data


def test_observations(hopper: Path, tmp_path: Path) -> None:
    c = tiny(hopper, tmp_path, "norm_obs=true", f"buffer_size={SIZE}")
    data = part(c)
    fitted = Normaliser.fit(data.states, data.index)
    run_dir = complete(c)
    assert manifest(run_dir)["normaliser"] == fitted.to_json()
    loaded = offrl.load_policy(run_dir).normaliser
    assert loaded is not None
    assert loaded.to_json() == fitted.to_json()


def test_rewards(hopper: Path, tmp_path: Path) -> None:
    """The same run, in every bit, as on a file that holds the scaled rewards."""
    args = ("algo=td3_bc", f"buffer_size={SIZE}")
    c = tiny(hopper, tmp_path, *args, "norm_reward=true")
    scale = reward_scale(part(c))
    assert scale != reward_scale(c.source.open(c.env))
    scaled = write_robot(tmp_path / "scaled.hdf5")
    with h5py.File(scaled, "r+") as f:
        f["rewards"][:] *= np.float32(scale)
    run_dir = complete(c)
    assert manifest(run_dir)["reward_scale"] == scale
    assert results(run_dir) == results(complete(tiny(scaled, tmp_path, *args)))
    assert results(run_dir) != results(complete(tiny(hopper, tmp_path, *args)))
