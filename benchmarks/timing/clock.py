"""Windows of time in which competitors take turns, and what else the machine did meanwhile."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

Work = Callable[[int], object]  # does so many gradient steps


@dataclass(frozen=True)
class Window:
    """What was seen while one competitor worked."""

    steps: int
    cpu_s: float  # of this process, all threads, and of its children
    wall_s: float
    others: float | None  # cores that other processes kept busy; None where the system hides it
    steal: float | None  # cores that the hypervisor took away


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._busy, self._steal = _machine()
        self._wall, self._cpu = time.perf_counter(), _own_cpu()

    def window(self, steps: int) -> Window:
        cpu, wall = _own_cpu() - self._cpu, time.perf_counter() - self._wall
        busy, steal = _machine()
        others, stolen = None, None
        if busy is not None and self._busy is not None:
            others = max(0.0, (busy - self._busy - cpu) / wall)
        if steal is not None and self._steal is not None:
            stolen = (steal - self._steal) / wall
        return Window(steps, cpu, wall, others, stolen)


def window(work: Work, seconds: float, chunk: int) -> Window:
    """Works in chunks of so many steps for `seconds`: of its own CPU time if it has one thread."""
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    clock, start, steps = Clock(), now(), 0
    while steps == 0 or now() - start < seconds:
        work(chunk)
        steps += chunk
    return clock.window(steps)


def take_turns(
    works: Mapping[str, Work], seconds: float, repeats: int, chunk: int
) -> dict[str, list[Window]]:
    """A B C A B C ...: every competitor's windows, one per round, after a warm-up of two chunks."""
    for work in works.values():
        work(2 * chunk)
    rounds = [
        {name: window(work, seconds, chunk) for name, work in works.items()} for _ in range(repeats)
    ]
    return {name: [r[name] for r in rounds] for name in works}


def _own_cpu() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _machine() -> tuple[float | None, float | None]:
    """Seconds of all cores since the machine started: (busy, stolen); (None, None) off Linux."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None, None
    user, nice, system, _, _, irq, softirq, steal = (int(x) for x in line.split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, steal / ticks
