"""The suite's own data: behaviour policies rolled out in the environment they were trained in.

The policies are files of the package, each with a record of where it came from; the data is made
on demand, the same on every machine of one class, and cached.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from offrl.checkpoint import load_tensors
from offrl.config import build
from offrl.data.dataset import Dataset
from offrl.data.digest import sha256_file
from offrl.data.store import content_digest, open_dataset, write_dataset
from offrl.envs.vector import VectorEnv, env_spec
from offrl.errors import UserError
from offrl.evaluate import CHUNK, Policy
from offrl.rng import Address, address_seed, generator
from offrl.types import Spec
from offrl.versions import numerics

VERSION = "v0"  # of the data: a new set of policies, or of rules below, is a new version


class Rows(NamedTuple):
    """One episode of T steps."""

    obs: NDArray[np.float32]  # [T + 1, D]: the last is the final next observation
    action: NDArray[np.float32]  # [T, A]
    reward: NDArray[np.float32]  # [T]
    terminated: bool  # at the last step
    return_: float


def behaviour_record(robot: str) -> dict[str, Any]:
    """The provenance record of a robot's behaviour policies.  UserError if it has none."""
    path = files("offrl") / "policies" / f"{robot}.json"
    if not path.is_file():
        raise UserError(f"env={robot}: the suite has no behaviour policies of its own for it")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def mixture(robot: str, quality: str) -> list[str]:
    """The policies behind a quality: ["medium", "expert"] for "medium-expert".

    Raises UserError, naming what there is, where one of them is missing.
    """
    parts, known = quality.split("-"), behaviour_record(robot)["policies"]
    if not set(parts) <= set(known):
        raise UserError(f"dataset.quality={quality}: {robot} has {', '.join(known)}")
    return parts


def behaviour(robot: str, quality: str) -> Policy:
    """The exploring policy (obs, noise) -> actions that gathers a robot's data of a quality."""
    record = behaviour_record(robot)
    with as_file(files("offrl") / "policies" / f"{robot}-{quality}.safetensors") as path:
        tensors, _ = load_tensors(path)
        digest = sha256_file(path)
    if digest != record["policies"][quality]["sha256"]:
        raise UserError(f"offrl/policies/{path.name}: not the file that {robot}.json records")
    env = env_spec(record["env_id"])
    spec = Spec(env.obs_shape, env.action_dim, env.max_action, CHUNK)
    return exploring(build(OmegaConf.create(record["algo"]), spec), tensors)


def exploring(algo: Any, tensors: Mapping[str, Tensor]) -> Policy:
    """The exploring policy of an online algorithm whose acting weights are `tensors`."""
    state = algo.init(generator(0, "init"))._replace(**tensors)
    return lambda obs, noise: algo.explore(state, obs, noise)


def roll_out(
    policy: Policy,
    env: VectorEnv,
    address: tuple[Address, ...],
    transitions: int,
    episodes: int = 0,
) -> list[Rows]:
    """Episodes 0, 1, ... until there are at least so many transitions and so many episodes.

    Start state and noise of an episode are addressed by its number; env has CHUNK environments,
    so that the policy always sees as many rows.
    """
    done: list[Rows] = []
    while len(done) < episodes or sum(len(e.action) for e in done) < transitions:
        done += _wave(policy, env, len(done), address)
    return done


@torch.inference_mode()
def _wave(policy: Policy, env: VectorEnv, first: int, address: tuple[Address, ...]) -> list[Rows]:
    shape = (env.max_episode_steps, env.spec.action_dim)
    noise = torch.stack(
        [torch.randn(shape, generator=generator(*address, first + i)) for i in range(CHUNK)], 1
    )
    for i in range(CHUNK):
        env.reset(i, address_seed(*address, "start", first + i))
    alive = np.ones(CHUNK, np.bool_)
    length, ended = np.zeros(CHUNK, np.int64), np.zeros(CHUNK, np.bool_)
    obs = [env.obs.copy()]
    actions: list[NDArray[np.float32]] = []
    rewards: list[NDArray[np.float64]] = []
    while alive.any():
        action = policy(torch.from_numpy(env.obs), noise[len(actions)]).numpy()
        reward, terminated, truncated = env.step_alive(action, alive)
        obs.append(env.obs.copy())
        actions.append(action)
        rewards.append(reward.copy())
        length += alive
        ended |= terminated
        alive &= ~(terminated | truncated)
    o, a, r = np.stack(obs, 1), np.stack(actions, 1), np.stack(rewards, 1)
    return [
        Rows(o[i, : t + 1], a[i, :t], r[i, :t].astype(np.float32), bool(e), float(r[i, :t].sum()))
        for i, (t, e) in enumerate(zip(length, ended, strict=True))
    ]


def columns(episodes: list[Rows], n: int) -> dict[str, NDArray[Any]]:
    """The columns of a Dataset with exactly `n` transitions; the last episode is cut."""
    length = np.array([len(e.action) for e in episodes])
    starts = np.concatenate(([0], np.minimum(np.cumsum(length), n)))
    used = int(np.searchsorted(starts, n))
    kept, starts = episodes[:used], starts[: used + 1]
    size = np.diff(starts)
    complete = size == length[:used]
    terminated = np.zeros(n, np.bool_)
    terminated[starts[1:] - 1] = complete & np.array([e.terminated for e in kept])
    # episode e has size[e] + 1 states, so transition i of episode e stands in row i + e
    index = np.arange(n) + np.repeat(np.arange(used), size)
    pairs = list(zip(kept, size, strict=True))
    return {
        "states": np.concatenate([e.obs[: k + 1] for e, k in pairs]),
        "index": index,
        "next_index": index + 1,
        "action": np.concatenate([e.action[:k] for e, k in pairs]),
        "reward": np.concatenate([e.reward[:k] for e, k in pairs]),
        "terminated": terminated,
        "episode_start": starts,
        "complete": complete,
        "episode_return": np.array([e.return_ for e in kept]),
    }


def own_dataset(robot: str, quality: str, n: int, cache_root: Path) -> Dataset:
    """`n` transitions of a robot and quality, from the cache or rolled out now.

    "medium-expert" is half of each, as in D4RL.  The cache is addressed by the policies, the
    simulator and the machine class, all of which the data depends on; the digest is one of the
    bytes that came out.
    """
    record, qualities = behaviour_record(robot), mixture(robot, quality)
    if n < len(qualities):
        raise UserError(f"dataset.n_transitions={n}: must be at least {len(qualities)}")
    made_from = {
        "format": "offrl-rollout-1",
        "version": VERSION,
        "env_id": record["env_id"],
        "policies": {q: record["policies"][q]["sha256"] for q in qualities},
        "n": n,
        "numerics": numerics("cpu", 1, False),
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    try:
        dataset = open_dataset(cache_root, key)
    except FileNotFoundError:
        meta = {"id": f"offrl/{robot}/{quality}-{VERSION}", "made_from": made_from}
        dataset = write_dataset(cache_root, key, _roll_out_mixture(robot, qualities, n), meta)
    return replace(dataset, digest=content_digest(cache_root, key))


def _roll_out_mixture(robot: str, qualities: Sequence[str], n: int) -> dict[str, NDArray[Any]]:
    """Equal shares of each quality, on one thread, which may matter to the last bit."""
    env = VectorEnv(behaviour_record(robot)["env_id"], CHUNK)
    shares = np.diff(np.linspace(0, n, len(qualities) + 1).astype(int)).tolist()
    parts, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for q, share in zip(qualities, shares, strict=True):
            address = ("rollout", robot, q, VERSION)
            parts.append(columns(roll_out(behaviour(robot, q), env, address, share), share))
    finally:
        torch.set_num_threads(threads)
        env.close()
    return concatenate(parts)


def concatenate(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The columns of several datasets, one after another."""
    n_states = np.cumsum([0] + [len(p["states"]) for p in parts])
    n_rows = np.cumsum([0] + [len(p["index"]) for p in parts])
    out = {k: np.concatenate([p[k] for p in parts]) for k in parts[0] if k != "episode_start"}
    for k in ("index", "next_index"):
        out[k] = np.concatenate([p[k] + s for p, s in zip(parts, n_states, strict=False)])
    starts = [p["episode_start"][:-1] + r for p, r in zip(parts, n_rows, strict=False)]
    out["episode_start"] = np.concatenate([*starts, n_rows[-1:]])
    return out
