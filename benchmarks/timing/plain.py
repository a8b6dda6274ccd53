"""Plain loops beside ours: the references of the tests, trained as CORL trains.

They are ordinary torch.nn modules with torch's default Adam, twin critics one after the other, and
read every loss with .item() at every step.  A batch is sampled as in CORL's ReplayBuffer: indices
from NumPy, one fancy index for each column.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_map

from benchmarks.timing.clock import Work
from benchmarks.timing.problem import Problem
from offrl.engine import SLICE
from offrl.rng import generator

REFERENCES = Path(__file__).resolve().parents[2] / "tests" / "algos"


class Columns(NamedTuple):
    """What CORL's buffer holds, and what it gives as a batch."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor


# One gradient step of each reference.  Where it wants a column that CORL's buffer lacks, another
# one of the same shape stands in, which costs nothing.
STEPS: dict[str, Callable[[Any, Columns, Any], object]] = {
    "bc": lambda loop, b, z: loop.train_step(b.obs, b.action),
    "td3_bc": lambda loop, b, z: loop.train_step(b, z.target),
    "iql": lambda loop, b, z: loop.train_step(*b),
    "rebrac": lambda loop, b, z: loop.train_step(*b, b.action, z.target),
    "sac": lambda loop, b, z: loop.train_step(*b, *z),
    "cql": lambda loop, b, z: loop.train_step(*b, b.reward, *z),
    "bcq": lambda loop, b, z: loop.train_step(*b, z.posterior, z.target, z.actor[0]),
    "discrete_bc": lambda loop, b, z: loop.train_step(b.obs, b.action),
    "discrete_bcq": lambda loop, b, z: loop.train_step(*b),
    "discrete_cql": lambda loop, b, z: loop.train_step(*b),
    "discrete_crr": lambda loop, b, z: loop.train_step(*b),
    "qrdqn": lambda loop, b, z: loop.train_step(*b),
}


def plain(p: Problem) -> Work | None:
    """The plain loop of an algorithm; None where it has no reference."""
    name = type(p.algo).__module__.rpartition(".")[2]
    if name not in STEPS:
        return None
    step, loop, columns, noises = STEPS[name], _reference(name, p.algo), _columns(p), _noises(p)

    def work(steps: int) -> None:
        for _ in range(steps):
            rows = np.random.randint(0, len(columns.obs), size=p.batch_size)  # noqa: NPY002
            step(loop, Columns(*(c[rows] for c in columns)), next(noises))

    return work


def _columns(p: Problem) -> Columns:
    """The data as CORL holds them: whole columns, normalised beforehand."""
    t = p.transitions
    obs, next_obs = t.states[t.index.long()], t.states[t.next_index.long()]
    if t.normaliser is not None:
        obs, next_obs = t.normaliser(obs), t.normaliser(next_obs)
    return Columns(obs, t.action, t.reward, next_obs, t.terminated.float())


def _noises(p: Problem) -> Iterator[Any]:
    """The noise of every gradient step, forever."""
    for part in count():
        noises = p.algo.noise(SLICE, generator(0, "noise", part))
        for u in range(SLICE):
            noise = tree_map(lambda x, u=u: x[u], noises)
            for i in range(p.algo.period):
                yield tree_map(lambda x, i=i: x.chunk(p.algo.period)[i], noise)


def _reference(name: str, algo: Any) -> Any:
    """The reference's class of the same name, with the hyperparameters that it asks for."""
    if str(REFERENCES) not in sys.path:
        sys.path.append(str(REFERENCES))
    cls = getattr(import_module(f"reference.{name}"), type(algo).__name__)
    dims: tuple[Any, ...] = algo.spec.obs_shape, algo.spec.action_dim
    if algo.continuous:
        dims = algo.spec.obs_shape[0], algo.spec.action_dim, algo.spec.max_action
    known = {"min_q_weight": 0.0, **vars(algo), "gamma": 0.99, "policy_freq": algo.period}
    keys = list(inspect.signature(cls).parameters)[len(dims) :]
    return cls(*dims, **{key: known[key] for key in keys})
