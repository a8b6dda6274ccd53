"""How fast shards of RL Unplugged are converted, and the naive way on the same shard."""

import io
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from benchmarks.timing.rlu_writer import example, png, transition, write_records
from offrl.data.example import parse_example
from offrl.data.rlu_games import shard_name
from offrl.data.tfrecord import records
from offrl.envs.atari import AtariSettings, AtariVector
from offrl.rl_unplugged import Shards, convert_all

CONF = Path(__file__).resolve().parents[2] / "conf" / "atari" / "dopamine.yaml"
GAME, ROM = "Breakout", "breakout"
NAIVE = 5_000  # rows of the naive way: its time is that of a row, times the rows


def conversion(n: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Transitions per second, of a shard of `n` rows, two of them at once, and the naive way."""
    settings = AtariSettings(game=ROM, **OmegaConf.load(CONF))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"playing {n:,} steps of {GAME}")
        first = write_records(folder / shard_name(1, 0), rows(settings, n, 0))
        (folder / shard_name(1, 1)).hardlink_to(first)
        job = Shards(GAME, 1, (0,), "", name, "", (), False, 1)
        timed = {}
        for shards in ((0,), (0, 1), (0,), (0, 1)):  # in turns
            out = folder / f"out{len(timed)}{len(list(folder.iterdir()))}"
            say(f"converting {len(shards)} at once")
            start = time.perf_counter()
            found = convert_all(
                replace(job, shards=shards, out=str(out), workers=len(shards)), settings, say
            )
            seconds = time.perf_counter() - start
            for what in found.values():
                if not isinstance(what, Path):
                    raise what
                size = what.stat().st_size
            best = timed.get(len(shards), seconds)
            timed[len(shards)] = min(best, seconds)
        say("the naive way")
        start = time.perf_counter()
        naive(first, NAIVE)
        each = (time.perf_counter() - start) / min(NAIVE, n)
        shard_size = first.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "game": GAME,
        "transitions": n,
        "shard_bytes": shard_size,
        "file_bytes": size,
        "peak_bytes": peak,  # of a process that converts
        "per_second": {str(k): k * n / seconds for k, seconds in timed.items()},
        "naive_per_second": 1 / each,
    }


def render(record: dict[str, Any]) -> str:
    base = record["naive_per_second"]
    lines = [
        f"RL Unplugged, {record['transitions']:,} transitions of {record['game']}: "
        f"{record['shard_bytes'] / 1e6:.0f} MB -> {record['file_bytes'] / 1e6:.0f} MB, "
        f"{record['peak_bytes'] / 1e6:.0f} MB of memory",
        *(
            f"{k} shard{'s at once' if k != '1' else ''}: {x:,.0f} transitions/s, {x / base:.1f} x"
            for k, x in record["per_second"].items()
        ),
        f"every picture decoded, one process: {base:,.0f} transitions/s",
    ]
    return "\n".join(lines)


def naive(path: Path, n: int) -> float:
    """Decodes all eight pictures of every row and keeps the row, compressed; a checksum of them."""
    total, kept = 0.0, []
    for k, record in enumerate(records(path, lambda _: None)):
        if k == n:
            break
        features = parse_example(record)
        pictures = [x for key in ("o_t", "o_tp1") for x in features[key]]
        stacks = np.stack([np.asarray(Image.open(io.BytesIO(p))) for p in pictures])  # type: ignore
        kept.append(stacks)
        if len(kept) == 128:
            np.savez_compressed(io.BytesIO(), rows=np.stack(kept))
            kept.clear()
        total += float(stacks[0, 0, 0])
    return total


def rows(settings: AtariSettings, n: int, seed: int) -> Iterator[bytes]:
    """`n` rows of random play as RL Unplugged has them; the last game is cut."""
    env, one, g = AtariVector(settings, 1), np.ones(1, np.bool_), np.random.default_rng(seed)
    given = 0
    for game in range(n):
        blank = png(np.zeros((84, 84), np.uint8))
        stack = (blank, blank, blank, png(env.reset(0, seed + game)[-1]))
        action, steps, over = _action(env, g), [], False
        while not over and given + len(steps) < n:
            reward, terminated, truncated = env.step_alive(np.array([action]), one)
            following, then = (*stack[1:], png(env.obs[0, -1])), _action(env, g)
            steps.append((stack, following, action, then, reward[0], 1 - terminated[0]))
            stack, action, over = following, then, bool(terminated[0] or truncated[0])
        total = sum(s[4] for s in steps)
        for s in steps:
            yield example(transition(*s, game - 2**62, total))
        given += len(steps)
        if given >= n:
            return


def _action(env: AtariVector, g: np.random.Generator) -> int:
    return int(g.integers(env.spec.action_dim))
