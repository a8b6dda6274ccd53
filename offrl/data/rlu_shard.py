"""A shard of RL Unplugged's Atari data: one Example per transition, pictures as PNGs.

Every transition holds eight pictures, o_t and o_tp1, the oldest first, of which its neighbours hold
seven too: a picture is known by the bytes of its PNG, and kept and decoded once.
"""

import io
import math
import os
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from offrl.data.example import Feature, parse_example
from offrl.data.tfrecord import records
from offrl.envs.frames import SIZE, STACK
from offrl.errors import UserError


class Shard(NamedTuple):
    """N rows, in the order of the file; frames are numbered as they first appear."""

    frames: "Frames"
    stacks: NDArray[np.int32]  # [N, 8]: o_t, o_tp1
    action: NDArray[np.int64]  # [N]: a_t
    next_action: NDArray[np.int64]  # [N]: a_tp1
    reward: NDArray[np.float32]  # [N]: after a_t
    terminated: NDArray[np.bool_]  # [N]: the discount after a_t is 0
    episode: NDArray[np.int64]  # [N]
    episode_return: NDArray[np.float64]  # [N]: of the whole episode, here or not


def read_shard(path: Path, spill: IO[bytes], report: Callable[[int], object]) -> Shard:
    """Reads a file; the PNGs go to `spill`.  report(k): k more bytes of the file were read.

    Raises UserError, naming file and record, for what is not RL Unplugged's, and OSError where
    `spill` cannot be written.
    """
    frames = Frames(path, spill)
    stacks, integers, floats = array("i"), array("q"), array("d")
    number = -1
    for number, record in enumerate(records(path, report)):
        try:
            features = parse_example(record)
            pictures = _pictures(features, "o_t") + _pictures(features, "o_tp1")
            integers.extend(_integer(features, k) for k in ("a_t", "a_tp1", "episode_id"))
            numbers = [_number(features, k) for k in ("r_t", "d_t", "episode_return")]
            if not -1 <= numbers[0] <= 1:
                raise ValueError(f"r_t is {numbers[0]:g}, but rewards are clipped to [-1, 1]")
            if numbers[1] not in (0, 1):
                raise ValueError(f"d_t is {numbers[1]:g}, but a discount is 0 or 1")
            floats.extend(numbers)
        except ValueError as e:
            raise UserError(f"{path}: record {number}: {e}") from e
        stacks.extend(frames.numbers(pictures, number))
    if number < 0:
        raise UserError(f"{path}: has no records")
    spill.flush()
    action, next_action, episode = np.array(integers, np.int64).reshape(-1, 3).T
    reward, discount, episode_return = np.array(floats, np.float64).reshape(-1, 3).T
    return Shard(
        frames,
        np.array(stacks, np.int32).reshape(-1, 2 * STACK),
        action,
        next_action,
        reward.astype(np.float32),
        discount == 0,
        episode,
        episode_return,
    )


class Frames:
    """The distinct pictures of a shard, as PNGs in a file."""

    def __init__(self, path: Path, spill: IO[bytes]) -> None:
        self._path, self._spill = path, spill
        self._known: dict[bytes, int] = {}  # digest of the PNG -> number
        self._latest: dict[bytes, int] = {}  # PNG -> number, of the row before
        self._ends = array("q", [0])  # in the file
        self._record = array("q")  # where each was first seen

    def __len__(self) -> int:
        return len(self._record)

    def numbers(self, pictures: list[bytes], record: int) -> list[int]:
        """The numbers of a row's pictures.  Raises OSError."""
        latest = self._latest
        found = {png: latest[png] if png in latest else self._find(png, record) for png in pictures}
        self._latest = found
        return [found[png] for png in pictures]

    def _find(self, png: bytes, record: int) -> int:
        number = self._known.setdefault(blake2b(png, digest_size=16).digest(), len(self))
        if number == len(self):
            self._spill.write(png)
            self._ends.append(self._ends[-1] + len(png))
            self._record.append(record)
        return number

    def decoded(self, order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
        """The frames of these numbers, uint8 [size, 84, 84] at a time (the last has fewer).

        Raises UserError, naming file and record, for what is no such picture.
        """
        for at in range(0, len(order), size):
            numbers = order[at : at + size].tolist()
            block = np.empty((len(numbers), SIZE, SIZE), np.uint8)
            for k, number in enumerate(numbers):
                start, end = self._ends[number], self._ends[number + 1]
                png = os.pread(self._spill.fileno(), end - start, start)
                try:
                    block[k] = _decode(png)
                except ValueError as e:
                    where = f"{self._path}: record {self._record[number]}"
                    raise UserError(f"{where}: a picture is {e}") from e
            yield block


def _decode(png: bytes) -> NDArray[Any]:
    """[84, 84]; raises ValueError, which says what it is instead."""
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(png))
        if image.size != (SIZE, SIZE) or image.mode != "L":
            width, height = image.size
            raise ValueError(f"{width} x {height} of mode {image.mode}, not {SIZE} x {SIZE} of L")
        return np.frombuffer(image.tobytes(), np.uint8).reshape(SIZE, SIZE)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as e:
        raise ValueError(f"no PNG that can be decoded ({e})") from e


def _pictures(features: dict[str, Feature], name: str) -> list[bytes]:
    values = [x for x in _values(features, name, STACK) if isinstance(x, bytes)]
    if len(values) != STACK:
        raise ValueError(f"{name} holds no pictures")
    return values


def _integer(features: dict[str, Feature], name: str) -> int:
    (value,) = _values(features, name, 1)
    if not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not an integer")
    return value


def _number(features: dict[str, Feature], name: str) -> float:
    (value,) = _values(features, name, 1)
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite float")
    return value


def _values(features: dict[str, Feature], name: str, n: int) -> Feature:
    if name not in features:
        raise ValueError(f"has no {name}; it has {', '.join(sorted(features)) or 'no features'}")
    values = features[name]
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} values, not {n}")
    return values
