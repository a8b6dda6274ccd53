"""A policy's first evaluation episode, as an animated GIF."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from offrl.atomic import write_atomic
from offrl.envs.make import EnvRef, make_envs
from offrl.evaluate import Act, evaluate
from offrl.rng import Address

EVERY = 2  # steps per frame
HEIGHT = 200  # pixels, at least


def film(
    policy: Act,
    env: EnvRef,
    path: Path,
    noise_dim: int = 0,
    noise_address: tuple[Address, ...] = (),
) -> None:
    """Writes episode 0 of `policy`; the noise is that of evaluate().

    Raises UserError where it cannot be rendered or written.
    """
    envs = make_envs(env, 1, pictures=True)
    frames: list[NDArray[np.uint8]] = []
    steps = 0

    def filmed(obs: Tensor, noise: Tensor) -> Tensor:
        nonlocal steps
        if steps % EVERY == 0:
            picture = envs.picture(0)
            k = max(1, len(picture) // HEIGHT)
            frames.append(picture[::k, ::k])
        steps += 1
        return policy(obs, noise)

    evaluate(filmed, envs, 1, noise_dim, noise_address)
    pause_ms = max(20, round(1000 * EVERY / envs.per_second))  # browsers slow down what is faster
    envs.close()
    data = imageio.imwrite("<bytes>", np.stack(frames), extension=".gif", duration=pause_ms, loop=0)
    assert data is not None
    write_atomic(path, data)
