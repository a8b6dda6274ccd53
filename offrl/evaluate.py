"""Evaluation: whole episodes from fixed start seeds, in vectorised environments.

An episode's bits do not depend on how many others run beside it.  The policy sees chunks of always
CHUNK rows, episode k in row k % CHUNK (a matrix product rounds differently for other sizes and
rows), and start states and action noise are addressed by the episode.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from offrl.envs.interface import Envs
from offrl.rng import Address, address_seed, generator

CHUNK = 16

# (obs [CHUNK, ...], noise [CHUNK, N]) -> actions, float32 [CHUNK, A] or int64 [CHUNK]; the inputs
# are on the CPU and reused by the next call, the actions may lie anywhere
Act = Callable[[Tensor, Tensor], Tensor]


class Episode(NamedTuple):
    episode: int
    return_: float  # undiscounted
    length: int  # environment steps


def start_seed(episode: int) -> int:
    """The seed from which episode k of every evaluation starts, of any run and algorithm."""
    return address_seed("eval", episode)


@contextmanager
def one_thread() -> Iterator[None]:
    """For data that a policy makes: the number of threads may matter to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def evaluate(
    policy: Act,
    env: Envs,
    episodes: int,
    noise_dim: int = 0,
    noise_address: tuple[Address, ...] = (),
    first: int = 0,
) -> list[Episode]:
    """Runs `episodes` episodes from number `first` on, `env.n` at a time, to their ends.

    At each step the policy gets `noise_dim` standard normal numbers for each episode, drawn one
    step after the other from the address (*noise_address, "noise", episode).  Make the environments
    once and use them for all evaluations.  Raises FloatingPointError for an action that is not
    finite.
    """
    done: list[Episode] = []
    while len(done) < episodes:
        begun = first + len(done)
        wave = range(begun, min(first + episodes, begun + env.n))
        noises = [generator(*noise_address, "noise", k) for k in wave] if noise_dim else []
        done += _wave(policy, env, wave, noise_dim, noises)
    return done


def _wave(
    policy: Act, env: Envs, wave: range, noise_dim: int, generators: Sequence[Generator]
) -> list[Episode]:
    n, spec = len(wave), env.spec
    first = wave.start % CHUNK  # the row of the first episode; environment i has row first + i
    rows = first + n + -(first + n) % CHUNK
    obs = torch.zeros(rows, *spec.obs_shape, dtype=torch.from_numpy(env.obs).dtype)
    noise = torch.zeros(rows, noise_dim)
    chunks = list(zip(torch.split(obs, CHUNK), torch.split(noise, CHUNK), strict=True))
    used = obs.numpy()[first : first + n]  # the same memory
    actions: NDArray[Any] = np.zeros(rows, np.int64)
    if spec.continuous:
        actions = np.zeros((rows, spec.action_dim), np.float32)
    used_actions = actions[first : first + n]

    alive = np.zeros(env.n, np.bool_)
    alive[:n] = True
    returns, lengths = np.zeros(env.n), np.zeros(env.n, np.int64)
    for i, k in enumerate(wave):
        env.reset(i, start_seed(k))
    while alive.any():
        used[:] = env.obs[:n]
        for i, g in enumerate(generators):
            noise[first + i].normal_(generator=g)
        for c, (x, eps) in enumerate(chunks):
            lo = c * CHUNK
            # a chunk whose episodes are all over need not be asked
            if alive[max(0, lo - first) : lo + CHUNK - first].any():
                actions[lo : lo + CHUNK] = policy(x, eps).cpu().numpy()
        if spec.continuous and not np.isfinite(used_actions[alive[:n]]).all():
            raise FloatingPointError(f"{env.env_id}: the policy gave an action that is not finite")
        reward, terminated, truncated = env.step_alive(used_actions, alive)
        returns += reward
        lengths += alive
        alive &= ~(terminated | truncated)
    return [Episode(k, float(returns[i]), int(lengths[i])) for i, k in enumerate(wave)]
