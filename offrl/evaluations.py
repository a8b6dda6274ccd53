"""The evaluations of a run: here, between updates, or in other processes while training goes on.

An episode depends on the policy and on its address alone, so it does not matter where and when it
is played, as long as it is on the CPU.
"""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from types import TracebackType
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils._pytree import tree_map

from offrl import preempt
from offrl.cell import Cell
from offrl.data.normalise import Normaliser
from offrl.engine import reproducible
from offrl.envs.interface import Envs
from offrl.envs.make import EnvRef, make_envs
from offrl.evaluate import Episode, evaluate
from offrl.loop import Diverged
from offrl.policy import Policy
from offrl.rng import Address, generator
from offrl.types import AnyAlgorithm

Wait = Callable[[], list[list[Episode]]]  # the episodes of each seed


class Evaluations:
    """A context; `workers` processes, or none: then start() plays the episodes itself."""

    def __init__(
        self, cell: Cell, env: EnvRef, normaliser: Normaliser | None, workers: int
    ) -> None:
        self._cell, self._normaliser, self._env = cell, normaliser, env
        self._here: Envs | None = None
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            spawn = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
            self._pool = ProcessPoolExecutor(workers, spawn, _begin)
        else:
            self._here = make_envs(env, cell.settings.eval_episodes)

    def __enter__(self) -> "Evaluations":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._here is not None:
            self._here.close()

    @property
    def overlap(self) -> bool:
        return self._pool is not None

    def start(self, step: int, states: Sequence[Any]) -> Wait:
        """Begins the evaluation of every seed; the result waits for it.

        Either raises Diverged, naming the seed, for an action that is not finite.
        """
        algo, n = self._cell.algo, self._cell.settings.eval_episodes
        done: list[list[Episode]] = []
        futures: list[Future[list[Episode]]] = []
        for seed, state in zip(self._cell.settings.seeds, states, strict=True):
            address = (seed, "eval", step)
            state = tree_map(lambda x: x.detach().cpu(), state)
            if self._here is not None:
                policy = Policy(algo, state, self._normaliser)
                with _of(seed):
                    done.append(evaluate(policy, self._here, n, algo.act_noise_dim, address))
            elif self._pool is not None:
                acting = {k: getattr(state, k).numpy() for k in algo.policy_fields}
                env = json.dumps(self._env)
                play = partial(_play, algo, acting, self._normaliser, env, n, address)
                with _ended_together():
                    futures.append(self._pool.submit(play))

        def wait() -> list[list[Episode]]:
            played = done.copy()
            for seed, future in zip(self._cell.settings.seeds, futures, strict=False):
                with _ended_together(), _of(seed):
                    played.append(future.result())
            return played

        return wait


@contextmanager
def _of(seed: int) -> Iterator[None]:
    """An action that is not finite ends the other seeds of a run, too: say whose it was."""
    try:
        yield
    except FloatingPointError as e:
        raise Diverged(seed, str(e)) from e


@contextmanager
def _ended_together() -> Iterator[None]:
    """What ends a whole job ends the workers at once: the evaluation is lost, not the run."""
    try:
        yield
    except BrokenProcessPool as e:
        if not preempt.asked():
            raise
        raise preempt.Preempted("asked to end in an evaluation; the same command goes on") from e


def _begin() -> None:
    """In another process, which must not outlive one that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reproducible(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _play(
    algo: AnyAlgorithm,
    acting: dict[str, NDArray[Any]],
    normaliser: Normaliser | None,
    env: str,
    episodes: int,
    address: tuple[Address, ...],
) -> list[Episode]:
    """In another process."""
    tensors = {name: torch.from_numpy(x) for name, x in acting.items()}
    policy = Policy(algo, algo.init(generator(0, "init"))._replace(**tensors), normaliser)
    return evaluate(policy, _envs(env, episodes), episodes, algo.act_noise_dim, address)


@cache
def _envs(env: str, n: int) -> Envs:
    """Made once in a process, and used for all evaluations."""
    return make_envs(EnvRef(*json.loads(env)), n)
