"""Gradient steps per second: ours, a plain loop, the peers and the floor, in turns."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.timing import peers
from benchmarks.timing.clock import Work, take_turns
from benchmarks.timing.floor import Convolution, Product, products, replay
from benchmarks.timing.plain import plain
from benchmarks.timing.problem import Problem, Training, draws, problem, random_data
from offrl.engine import mkl_is_slow, reproducible
from offrl.rng import generator

Row = dict[str, Any]


def speeds(
    algorithms: Sequence[str],
    overrides: Sequence[str],
    threads: Sequence[int],
    seconds: float,
    repeats: int,
    say: Callable[[str], object],
) -> list[Row]:
    """A row for each number of threads and algorithm, as results/speed.json holds them.

    The competitors of a row take turns, so their ratios are of one machine in one state.
    """
    data, rows = random_data(), []
    problems = [problem(name, data, overrides) for name in algorithms]
    for n in threads:
        reproducible(n)
        for p in problems:
            say(f"{p.name}, threads={n}")
            found = watched(p)
            windows = take_turns(competitors(p, found), seconds, repeats, p.algo.period)
            rows.append(
                {
                    "algorithm": p.name,
                    "threads": n,
                    "batch_size": p.batch_size,
                    "hidden": {k: list(v) for k, v in vars(p.algo).items() if k.endswith("hidden")},
                    "mflop": sum(x.flops for x in found) / p.algo.period / 1e6,
                    "windows": {k: [rounded(asdict(w)) for w in ws] for k, ws in windows.items()},
                }
            )
    return rows


def competitors(p: Problem, found: list[Product | Convolution]) -> dict[str, Work]:
    """Everything that can be timed for an algorithm, by name."""
    works: dict[str, Work | None] = {
        "eager": Training(p, compile=False),
        "compiled": Training(p, compile=True),
        "plain": plain(p),
        **{name: peers.peer(name, p) for name in peers.installed()},
        "floor": replay([c for x in found for c in x.by_torch()], p.algo.period),
    }
    if mkl_is_slow():
        works["floor_onednn"] = replay([c for x in found for c in x.by_onednn()], p.algo.period)
    return {name: work for name, work in works.items() if work is not None}


def watched(p: Problem) -> list[Product | Convolution]:
    """The products of the algorithm's second update."""
    draw = draws(p)
    state, _ = p.algo.update(p.algo.init(generator(0, "init")), *next(draw))
    return products(p.algo, state, *next(draw))


def rounded(row: Row) -> Row:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
