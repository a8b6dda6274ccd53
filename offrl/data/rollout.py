"""The suite's own data: behaviour policies rolled out in the environment they were trained in.

The policies are files of the package, each with a record of where it came from; the data is made
on demand and cached.  Float32 products round differently on processors of different makers, and
trajectories part at the first such bit (decision 0006).  So the actions that the medium and the
expert policies took in their first 100,000 transitions, on which published runs were trained, are
kept, and whatever else is rolled out is computed in float64 and rounded to a grid.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from offrl.config import build
from offrl.data.dataset import Dataset
from offrl.data.package import behaviour_record, policy_tensors
from offrl.data.replay import kept_episodes, recorded_replay
from offrl.data.rows import Rows, columns, concatenate
from offrl.data.store import content_digest, open_dataset, stored_meta, write_dataset
from offrl.envs.vector import VectorEnv, env_spec
from offrl.errors import UserError
from offrl.evaluate import CHUNK, Act, one_thread
from offrl.rng import Address, address_seed, generator
from offrl.versions import numerics

REPLAY = "medium-replay"
GRID = 2.0**16  # to an action; its multiples up to 256 are float32 numbers
VERSION = "v0"  # of the data: a new set of policies, or of rules below, is a new version
ACTIONS = f"actions-{VERSION}"  # kept ones, in a record and a file's name: of this version alone


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
    tensors = policy_tensors(robot, quality, record["policies"][quality]["sha256"])
    spec = env_spec(record["env_id"]).with_batch(CHUNK)
    return exploring(build(OmegaConf.create(record["algo"]), spec), tensors)


def exploring(algo: Any, tensors: Mapping[str, Tensor]) -> Act:
    """The exploring policy of an online algorithm whose acting weights are `tensors`.

    Actions are computed in float64 and rounded to multiples of 1 / GRID, so that a result must lie
    within some 1e-14 of the middle between two of them for a processor's rounding to show.
    """
    doubled = {name: x.double() for name, x in tensors.items()}
    state = algo.init(generator(0, "init"))._replace(**doubled)

    def act(obs: Tensor, noise: Tensor) -> Tensor:
        action = algo.explore(state, obs.double(), noise.double())
        rounded: Tensor = (action * GRID).round() / GRID
        return rounded.float()

    return act


def roll_out(
    policy: Act,
    env: VectorEnv,
    address: tuple[Address, ...],
    transitions: int,
    episodes: int = 0,
    begun: Sequence[Rows] = (),
) -> list[Rows]:
    """Episodes 0, 1, ... until there are at least so many transitions and so many episodes.

    `begun` are the first of them, where they are known.  Start state and noise of an episode are
    addressed by its number; env has CHUNK environments, so that the policy always sees as many
    rows.
    """
    done = list(begun)
    while len(done) < episodes or sum(len(e.action) for e in done) < transitions:
        done += _wave(policy, env, len(done), address)
    return done


def start_seed(address: tuple[Address, ...], episode: int) -> int:
    return address_seed(*address, "start", episode)


@torch.inference_mode()
def _wave(policy: Act, env: VectorEnv, first: int, address: tuple[Address, ...]) -> list[Rows]:
    shape = (env.max_episode_steps, env.spec.action_dim)
    noise = torch.stack(
        [torch.randn(shape, generator=generator(*address, first + i)) for i in range(CHUNK)], 1
    )
    for i in range(CHUNK):
        env.reset(i, start_seed(address, first + i))
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
    """`n` transitions of a robot and quality, from the cache or made now.

    "medium-expert" is half of each, as in D4RL.  "medium-replay" has the length that it has: n must
    be None, for which the others have no meaning.  The cache is addressed by the policies and the
    kept actions, the versions of the simulator, torch and numpy, and the machine class; the digest
    is one of the bytes that came out.  Warns where this machine's simulator does not repeat the
    kept actions, so that the data is not the published.  Raises UserError for an n that does not
    fit.
    """
    record, qualities = behaviour_record(robot), mixture(robot, quality)
    made_from: dict[str, Any] = {
        "format": "offrl-rollout-2",
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
        kept = {q: record["policies"][q].get(ACTIONS) for q in qualities}
        made_from |= {"policies": shas, "actions": kept, "n": n}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    try:
        dataset = open_dataset(cache_root, key)
    except FileNotFoundError:
        meta = {"id": f"offrl/{robot}/{quality}-{VERSION}", "made_from": made_from}
        anew: list[str] = []
        if n is None:
            data = recorded_replay(robot, record)
        else:
            data, anew = _mixture_data(robot, qualities, n)
        dataset = write_dataset(cache_root, key, data, {**meta, "rolled_out_anew": anew})
    for q in stored_meta(cache_root, key)["rolled_out_anew"]:
        warnings.warn(
            f"offrl/{robot}/{quality}: this machine's simulator does not repeat the published data "
            f"of the {q} policy, which was rolled out anew; runs on it do not compare with others",
            stacklevel=2,
        )
    return replace(dataset, digest=content_digest(cache_root, key))


@one_thread()
def _mixture_data(
    robot: str, qualities: Sequence[str], n: int
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Equal shares of each quality; those whose kept actions the simulator does not repeat."""
    record = behaviour_record(robot)
    shares = np.diff(np.linspace(0, n, len(qualities) + 1).astype(int)).tolist()
    parts: list[dict[str, NDArray[Any]]] = []
    anew: list[str] = []
    with (
        closing(VectorEnv(record["env_id"], CHUNK)) as env,
        closing(VectorEnv(record["env_id"], 1)) as single,
    ):
        for q, share in zip(qualities, shares, strict=True):
            policy, address = behaviour(robot, q), ("rollout", robot, q, VERSION)
            begun: list[Rows] | None = []
            if sha256 := record["policies"][q].get(ACTIONS):
                kept = policy_tensors(robot, f"{q}-{ACTIONS}", sha256)
                begun = kept_episodes(single, kept, partial(start_seed, address), share)
            if begun is None:
                anew.append(q)
            parts.append(columns(roll_out(policy, env, address, share, begun=begun or ()), share))
    return concatenate(parts), anew
