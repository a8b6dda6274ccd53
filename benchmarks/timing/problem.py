"""What is timed: each algorithm as conf/algo has it, on data of HalfCheetah's sizes, or Atari's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch.utils._pytree import tree_map

from offrl.config import algorithm_class, build
from offrl.data.dataset import Dataset
from offrl.data.normalise import Normaliser
from offrl.data.transitions import Transitions
from offrl.engine import SLICE, Engine
from offrl.errors import UserError
from offrl.loop import BLOCK
from offrl.plan import CONF, choices
from offrl.rng import generator
from offrl.types import AnyAlgorithm, Spec, Transition

OBS_DIM, ACTION_DIM, MAX_ACTION = 17, 6, 1.0
STACK, PIXELS, N_ACTIONS = 4, 84, 6
N_TRANSITIONS, N_IMAGES, EPISODE = 200_000, 5_000, 1000


class Data(NamedTuple):
    vectors: Dataset
    images: Dataset


@dataclass(frozen=True)
class Problem:
    """An algorithm, and the data of a run of it."""

    name: str  # of its config
    algo: AnyAlgorithm
    transitions: Transitions

    @property
    def batch_size(self) -> int:
        return self.algo.spec.batch_size

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """obs, action, reward, next_obs of all transitions, not normalised."""
        t = self.transitions
        columns = t.states[t.index.long()], t.action, t.reward, t.states[t.next_index.long()]
        return tuple(x.numpy() for x in columns)


def names() -> list[str]:
    """One config for each algorithm: the one that is named like its file."""
    return [
        n for n in choices("algo") if algorithm_class(_compose(n).algo).__module__.endswith("." + n)
    ]


def problem(name: str, data: Data, overrides: Sequence[str] = ()) -> Problem:
    """Raises HydraException or UserError for what cannot be composed or built."""
    if name not in choices("algo"):
        raise UserError(f"algo={name}: unknown choice; there are {', '.join(choices('algo'))}")
    cfg = _compose(name, overrides)
    if algorithm_class(cfg.algo).continuous:
        spec, dataset = Spec((OBS_DIM,), ACTION_DIM, MAX_ACTION, cfg.batch_size), data.vectors
    else:
        spec, dataset = Spec((STACK, PIXELS, PIXELS), N_ACTIONS, 0.0, cfg.batch_size), data.images
    normaliser = Normaliser.fit(dataset.states, dataset.index) if cfg.norm_obs else None
    transitions = Transitions(dataset, cfg.gamma, cfg.n_step, normaliser, "cpu")
    return Problem(name, build(cfg.algo, spec), transitions)


def _compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """What is tuned is HalfCheetah's; for games it is what stands there for anybody's files."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"algo={name}", "env=halfcheetah", *overrides])
        if algorithm_class(cfg.algo).continuous:
            return cfg
        return compose("train", [f"algo={name}", "dataset=file", "dataset.path=any", *overrides])


def random_data(n: int = N_TRANSITIONS, n_images: int = N_IMAGES) -> Data:
    return Data(random_vectors(n), random_images(n_images))


def random_images(n: int) -> Dataset:
    """n transitions of random frames and actions, in whole episodes that time out."""
    g, episodes = np.random.default_rng(0), n // EPISODE
    first = np.arange(n) // EPISODE * (EPISODE + 1)  # frame of each transition's episode
    now = np.arange(n) + np.arange(n) // EPISODE
    back = np.arange(STACK - 1, -1, -1)
    index, next_index = (np.maximum(t[:, None] - back, first[:, None]) for t in (now, now + 1))
    return Dataset(
        id="random",
        digest="0" * 64,
        states=g.integers(256, size=(n + episodes, PIXELS, PIXELS), dtype=np.uint8),
        index=index.astype(np.int32),
        next_index=next_index.astype(np.int32),
        action=g.integers(N_ACTIONS, size=n),
        reward=g.standard_normal(n, dtype=np.float32),
        terminated=np.zeros(n, np.bool_),
        episode_start=np.arange(0, n + 1, EPISODE),
        complete=np.ones(episodes, np.bool_),
        episode_return=np.zeros(episodes),
    )


def random_vectors(n: int) -> Dataset:
    """n transitions of random numbers, in whole episodes that time out."""
    g, episodes = np.random.default_rng(0), n // EPISODE
    index = np.arange(n) + np.repeat(np.arange(episodes), EPISODE)
    return Dataset(
        id="random",
        digest="0" * 64,
        states=g.standard_normal((n + episodes, OBS_DIM), dtype=np.float32),
        index=index,
        next_index=index + 1,
        action=g.uniform(-1, 1, (n, ACTION_DIM)).astype(np.float32),
        reward=g.standard_normal(n, dtype=np.float32),
        terminated=np.zeros(n, np.bool_),
        episode_start=np.arange(0, n + 1, EPISODE),
        complete=np.ones(episodes, np.bool_),
        episode_return=np.zeros(episodes),
    )


class Training:
    """The suite's training loop, which can be left after any update.

    What it does to its state is what offrl.loop.Loop does, in every bit (a test compares them).
    """

    def __init__(self, p: Problem, *, compile: bool) -> None:
        self._period = p.algo.period
        self.engine = Engine(p.algo, [p.algo.init(generator(0, "init"))], compile=compile)
        self._draws, self._sums = draws(p), None

    def __call__(self, steps: int) -> None:
        for _ in range(steps // self._period):
            batch, noise = next(self._draws)
            (stats,) = self.engine.step([batch], [noise])
            self._sums = stats if self._sums is None else tree_map(torch.add, self._sums, stats)


def draws(p: Problem) -> Iterator[tuple[Transition, Any]]:
    """Batch and noise of every update of seed 0, forever, as offrl.loop draws them."""
    period = p.algo.period
    for block in count():
        g = generator(0, "batch", block)
        rows = p.transitions.draw_rows(g, BLOCK - BLOCK % period, p.batch_size)
        for u, row in enumerate(rows.view(-1, period * p.batch_size)):
            if u % SLICE == 0:
                noises = p.algo.noise(SLICE, generator(0, "noise", block, u // SLICE))
            noise = tree_map(lambda x, i=u % SLICE: x[i], noises)
            yield p.transitions.gather(row), noise
