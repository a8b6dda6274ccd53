"""The suite's own data: behaviour policies rolled out in the environment they were trained in.

The policies are files of the package, each with a record of where it came from; the data is made
on demand, the same on every machine of one class, and cached.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from offrl.checkpoint import load_tensors
from offrl.config import build
from offrl.data.dataset import Dataset
from offrl.data.digest import sha256_file
from offrl.data.replay import recorded_replay
from offrl.data.rows import Rows, columns, concatenate
from offrl.data.store import content_digest, open_dataset, write_dataset
from offrl.envs.vector import VectorEnv, env_spec
from offrl.errors import UserError
from offrl.evaluate import CHUNK, Act, one_thread
from offrl.rng import Address, address_seed, generator
from offrl.versions import numerics

REPLAY = "medium-replay"
VERSION = "v0"  # of the data: a new set of policies, or of rules below, is a new version


def behaviour_record(robot: str) -> dict[str, Any]:
    """The provenance record of a robot's behaviour policies.  UserError if it has none."""
    path = files("offrl") / "policies" / f"{robot}.json"
    if not path.is_file():
        raise UserError(f"env={robot}: the suite has no behaviour policies of its own for it")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def mixture(robot: str, quality: str) -> list[str]:
    """What a quality is made of: ["medium", "expert"] for "medium-expert", and REPLAY by itself.

    Raises UserError, naming what there is, where one of them is missing.
    """
    record = behaviour_record(robot)
    known = [*record["policies"], *([REPLAY] if "replay" in record else [])]
    parts = [quality] if quality == REPLAY else quality.split("-")
    if not set(parts) <= set(known):
        raise UserError(f"dataset.quality={quality}: {robot} has {', '.join(known)}")
    return parts


def behaviour(robot: str, quality: str) -> Act:
    """The exploring policy (obs, noise) -> actions that gathers a robot's data of a quality."""
    record = behaviour_record(robot)
    with as_file(files("offrl") / "policies" / f"{robot}-{quality}.safetensors") as path:
        tensors, _ = load_tensors(path)
        digest = sha256_file(path)
    if digest != record["policies"][quality]["sha256"]:
        raise UserError(f"offrl/policies/{path.name}: not the file that {robot}.json records")
    spec = env_spec(record["env_id"]).with_batch(CHUNK)
    return exploring(build(OmegaConf.create(record["algo"]), spec), tensors)


def exploring(algo: Any, tensors: Mapping[str, Tensor]) -> Act:
    """The exploring policy of an online algorithm whose acting weights are `tensors`."""
    state = algo.init(generator(0, "init"))._replace(**tensors)
    return lambda obs, noise: algo.explore(state, obs, noise)


def roll_out(
    policy: Act,
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
def _wave(policy: Act, env: VectorEnv, first: int, address: tuple[Address, ...]) -> list[Rows]:
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


def own_dataset(robot: str, quality: str, n: int | None, cache_root: Path) -> Dataset:
    """`n` transitions of a robot and quality, from the cache or rolled out now.

    "medium-expert" is half of each, as in D4RL.  "medium-replay" has the length that it has: n must
    be None, for which the others have no meaning.  The cache is addressed by the policies or the
    replay, the simulator and the machine class, all of which the data depends on; the digest is one
    of the bytes that came out.  Raises UserError for an n that does not fit.
    """
    record, qualities = behaviour_record(robot), mixture(robot, quality)
    made_from: dict[str, Any] = {
        "format": "offrl-rollout-1",
        "version": VERSION,
        "env_id": record["env_id"],
        "numerics": numerics("cpu", 1, False),
    }
    if quality == REPLAY:
        if n is not None:
            raise UserError(
                f"dataset.n_transitions={n}: {REPLAY} has a length of its own; leave it null, and "
                "use buffer_size for a part of it"
            )
        made_from |= {"replay": record["replay"]["sha256"]}
    else:
        if n is None or n < len(qualities):
            raise UserError(f"dataset.n_transitions={n}: must be at least {len(qualities)}")
        shas = {q: record["policies"][q]["sha256"] for q in qualities}
        made_from |= {"policies": shas, "n": n}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    try:
        dataset = open_dataset(cache_root, key)
    except FileNotFoundError:
        meta = {"id": f"offrl/{robot}/{quality}-{VERSION}", "made_from": made_from}
        data = _roll_out_mixture(robot, qualities, n) if n else recorded_replay(robot, record)
        dataset = write_dataset(cache_root, key, data, meta)
    return replace(dataset, digest=content_digest(cache_root, key))


@one_thread()
def _roll_out_mixture(robot: str, qualities: Sequence[str], n: int) -> dict[str, NDArray[Any]]:
    """Equal shares of each quality."""
    shares = np.diff(np.linspace(0, n, len(qualities) + 1).astype(int)).tolist()
    parts = []
    with closing(VectorEnv(behaviour_record(robot)["env_id"], CHUNK)) as env:
        for q, share in zip(qualities, shares, strict=True):
            address = ("rollout", robot, q, VERSION)
            parts.append(columns(roll_out(behaviour(robot, q), env, address, share), share))
    return concatenate(parts)
