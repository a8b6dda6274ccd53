"""What a run costs beside its gradient steps, measured on real runs of benchmarks/train.py.

td3_bc on random data of HalfCheetah's sizes, one thread; each run is a process of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py

from benchmarks.timing.clock import Clock
from benchmarks.timing.problem import random_vectors
from offrl.record import read_json

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
N_ROWS = 1_000_000
STEPS = 2000  # of the runs whose speed counts
EVAL_EVERY, EVAL_EPISODES = 5000, 10  # the default protocol

Say = Callable[[str], object]


class Run(NamedTuple):
    """A finished process: seconds in all, its CPU time, and the manifest's split."""

    wall: float
    cpu: float
    data: float
    update: float
    evaluation: float


def costs(say: Say) -> dict[str, float | None]:
    """Seconds, shares and ratios, as results/speed.json holds them."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        found = _Costs(Path(name)).measure(say)
    return found | {"others": clock.window(0).others}


class _Costs:
    def __init__(self, folder: Path) -> None:
        self._folder, self._data, self._seed = folder, folder / "data.hdf5", 0

    def measure(self, say: Say) -> dict[str, float | None]:
        say(f"{N_ROWS:,} rows into a file")
        self._write()
        say("a first start, a second one, one that compiles, one that compiled before")
        first, second = self._train(2, "false"), self._train(2, "false")
        cold, warm = self._train(2, "true"), self._train(2, "true")
        say(f"one process and then two, {STEPS:,} gradient steps each")
        one = self._train(2 + STEPS, "true")
        two = [_finished(p) for p in [self._start(2 + STEPS, "true") for _ in range(2)]]

        def seconds(run: Run) -> float:
            """Of STEPS gradient steps: without compilation and data, which `warm` had as well."""
            return run.update + run.data - warm.update - warm.data

        training = seconds(one) / STEPS * EVAL_EVERY
        return {
            "n_rows": N_ROWS,
            "load_first_s": first.data,
            "load_again_s": second.data,
            "first_step_s": second.wall - second.evaluation,
            "compile_cold_s": cold.update,
            "compile_again_s": warm.update,
            "evaluation_s": one.evaluation,
            "evaluation_share": one.evaluation / (one.evaluation + training),
            # by CPU time, which tells of shared caches and memory, and not of other programs
            "two_processes": sum((one.cpu - warm.cpu) / (run.cpu - warm.cpu) for run in two),
        }

    def _write(self) -> None:
        """The data, as D4RL lays them out."""
        data = random_vectors(N_ROWS)
        with h5py.File(self._data, "w") as f:
            f["observations"] = data.states[data.index]
            f["next_observations"] = data.states[data.next_index]
            f["actions"], f["rewards"] = data.action, data.reward
            f["terminals"] = data.terminated
            ends = data.terminated.copy()
            ends[data.episode_start[1:] - 1] = True
            f["timeouts"] = ends

    def _train(self, n_updates: int, compile: str) -> Run:
        return _finished(self._start(n_updates, compile))

    def _start(self, n_updates: int, compile: str) -> "_Started":
        self._seed += 1  # each is another run
        arguments = [
            *("algo=td3_bc", "env=halfcheetah", "dataset=file", f"dataset.path='{self._data}'"),
            *(f"n_updates={n_updates}", f"eval_every={n_updates}", f"seeds=[{self._seed}]"),
            *(f"eval_episodes={EVAL_EPISODES}", f"runtime.compile={compile}"),
            f"out='{self._folder / 'runs'}'",
        ]
        own = {"OFFRL_DATA": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        return _Started(
            time.perf_counter(),
            subprocess.Popen(
                [sys.executable, str(TRAIN), *arguments],
                env=os.environ | {k: str(self._folder / v) for k, v in own.items()},
                stdout=subprocess.PIPE,
                text=True,
            ),
        )


class _Started(NamedTuple):
    at: float
    process: "subprocess.Popen[str]"


def _finished(started: _Started) -> Run:
    """Waits.  Raises CalledProcessError for a run that failed; it has said why on stderr."""
    assert started.process.stdout is not None
    out = started.process.stdout.read()
    _, status, used = os.wait4(started.process.pid, 0)
    wall = time.perf_counter() - started.at
    if status:
        raise subprocess.CalledProcessError(status, started.process.args)
    split = read_json(Path(out.splitlines()[-1]) / "manifest.json")["split_s"]
    cpu = used.ru_utime + used.ru_stime
    return Run(wall, cpu, split["data"], split["update"], split["evaluation"])
