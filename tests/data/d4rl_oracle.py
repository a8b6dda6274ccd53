"""Runs the real `d4rl` package: python d4rl_oracle.py OUT.npz MAX_EPISODE_STEPS FILE.hdf5...

In a process of its own: d4rl needs mujoco_py out of the way and makes ~/.d4rl when imported.
"""

import sys
from pathlib import Path

import h5py
import numpy as np


def main(out: str, max_episode_steps: str, *files: str) -> None:
    # Without the simulator mujoco_py raises something that d4rl does not survive; this makes it an
    # ImportError, which it does.
    sys.modules["mujoco_py"] = None
    import d4rl
    import gym
    from d4rl.offline_env import OfflineEnv

    env = OfflineEnv()
    env._max_episode_steps = int(max_episode_steps)
    arrays = {}
    for file in files:
        with h5py.File(file, "r") as f:
            env.observation_space = gym.spaces.Box(-1, 1, f["observations"].shape[1:])
            env.action_space = gym.spaces.Box(-1, 1, f["actions"].shape[1:])
        raw = env.get_dataset(file)
        for key, column in d4rl.qlearning_dataset(env, dataset=raw).items():
            arrays[f"{Path(file).stem}/{key}"] = column
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
