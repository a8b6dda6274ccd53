"""One run, in reading order: from a cell to a complete run directory.

The same cell again is skipped if it is complete, and continued, bit for bit, if it is not.
"""

import multiprocessing
import shutil
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from offrl import checkpoint
from offrl.cell import Cell
from offrl.claim import claim, holder
from offrl.data.dataset import Dataset, check_dims
from offrl.data.normalise import Normaliser
from offrl.data.subset import subset
from offrl.data.transitions import Transitions
from offrl.engine import Engine
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError
from offrl.evaluate import evaluate
from offrl.loop import Diverged, Loop, Timer
from offrl.policy import Policy, save_policy
from offrl.record import EvalRow, Records, read_json, write_json
from offrl.rng import generator
from offrl.sources import Task
from offrl.versions import git_state, mismatch, numerics, peak_memory_mb, versions

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = "manifest.json"
SCHEMA = 1
COMPILE_FROM = 30_000  # updates from which on compiling pays the minute that it costs


@dataclass(frozen=True)
class Outcome:
    """How a cell stands: "complete", "failed", "diverged", or "claimed" by another process."""

    status: str
    run_dir: Path
    message: str = ""


def run_dir_of(cell: Cell) -> Path:
    return Path(cell.settings.out).expanduser().resolve() / cell.dirname


def status(cell: Cell) -> str:
    """What the run directory says: "none" if there is no run yet."""
    path = run_dir_of(cell) / MANIFEST
    return str(read_json(path)["status"]) if path.exists() else "none"


def run(cell: Cell) -> Outcome:
    """Runs a cell to its end.  Never raises: a failure is an outcome, and never ends a sweep."""
    run_dir = run_dir_of(cell)
    try:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"out={cell.settings.out}: cannot be written: {e.strerror}") from e
        with claim(run_dir) as owned:
            if owned is None:
                return Outcome("claimed", run_dir, f"another process runs it: {holder(run_dir)}")
            if status(cell) == "complete":
                return Outcome("complete", run_dir)
            return _Run(cell, run_dir).finish()
    except UserError as e:
        return Outcome("failed", run_dir, str(e))
    except Exception:
        return Outcome("failed", run_dir, traceback.format_exc())


class _Run:
    """A run that this process owns: its directory, its manifest and the time that it took."""

    def __init__(self, cell: Cell, run_dir: Path) -> None:
        self.cell, self.run_dir = cell, run_dir
        self.timer, self.started = Timer(), time.perf_counter()
        self.task: Task = cell.source.task(cell.robot)
        self.device = torch.device(cell.runtime.device)
        self.compile = _compile(cell)
        self.manifest = self._manifest()
        self.before: dict[str, Any] = {k: self.manifest[k] for k in ("wall_s", "split_s")}

    def finish(self) -> Outcome:
        """Trains to the end and writes the status, whatever it is."""
        torch.set_num_threads(self.cell.runtime.threads)
        torch.use_deterministic_algorithms(True)
        try:
            self._train()
        except (Diverged, FloatingPointError) as e:
            self._write("diverged", str(e))
            return Outcome("diverged", self.run_dir, str(e))
        except Exception as e:
            self._write("failed", f"{type(e).__name__}: {e}")
            raise
        self._write("complete", None)
        checkpoint.remove(self.run_dir)
        return Outcome("complete", self.run_dir)

    def _train(self) -> None:
        s, algo = self.cell.settings, self.cell.algo
        with self.timer("data"):
            data = self._data()
            normaliser = Normaliser.fit(data.states, data.index) if s.norm_obs else None
            transitions = Transitions(data, s.gamma, s.n_step, normaliser, self.device)
        self.manifest["normaliser"] = normaliser.to_json() if normaliser else None
        env = VectorEnv(self.task.env_id, s.eval_episodes)
        records = Records(self.run_dir)
        states = tuple(algo.init(generator(seed, "init", device=self.device)) for seed in s.seeds)
        step, states = checkpoint.load(self.run_dir, states) or (0, states)
        records.truncate_after(step)
        engine = Engine(algo, states, compile=self.compile, batched=self.device.type == "cuda")
        loop = Loop(algo, s.seeds, transitions, self.device, self.timer)
        self._write("running", None)
        with self._progress(step) as bar:
            while step < s.n_updates:
                stop = min(s.n_updates, (step // s.eval_every + 1) * s.eval_every)
                rows = loop.train(engine, step, stop, bar.update)
                records.append_train(rows)
                step = stop
                with self.timer("evaluation"):
                    states = tuple(engine.states)
                    scores = self._evaluate(states, normaliser, env, step, records)
                with self.timer("checkpoint"):
                    records.flush()
                    save_policy(self.run_dir, algo, s.seeds, states, normaliser, step)
                    checkpoint.save(self.run_dir, step, states)
                    self._write("running", None, step)
                losses = {k: f"{v:.3g}" for k, v in rows[-1].stats.items()}
                bar.set_postfix({"score": f"{np.mean(scores):.1f}", **losses})
        env.close()

    def _data(self) -> Dataset:
        """The cell's transitions; checks that they are the ones that the run began with."""
        cell = self.cell
        whole = cell.source.open(cell.robot)
        spec = cell.algo.spec
        check_dims(whole, spec.obs_shape[0], spec.action_dim, self.task.env_id)
        data = subset(whole, cell.settings.buffer_size)
        size = cell.settings.buffer_size
        if size is not None and size > len(whole):
            tqdm.write(f"buffer_size={size}: {whole.id} has {len(whole)} transitions, all are used")
        known = self.manifest["dataset"]
        if known is not None and known["digest"] != whole.digest:
            self._mismatch([f"digest of {whole.id}: {known['digest']} -> {whole.digest}"])
            self.manifest = self._manifest()
        returns = data.episode_returns()
        if not len(returns):
            returns = whole.episode_returns()  # a subset too small to hold a whole episode
        self.manifest["dataset"] = {
            "id": whole.id,
            "digest": whole.digest,
            "n_transitions": len(data),
            "n_episodes": data.n_episodes,
            "return_mean": float(returns.mean()) if len(returns) else None,
            "return_std": float(returns.std()) if len(returns) else None,
            "return_best": float(returns.max()) if len(returns) else None,
        }
        return data

    def _evaluate(
        self,
        states: tuple[Any, ...],
        normaliser: Normaliser | None,
        env: VectorEnv,
        step: int,
        records: Records,
    ) -> list[float]:
        s, scores = self.cell.settings, []
        for seed, state in zip(s.seeds, states, strict=True):
            policy = Policy(self.cell.algo, state, normaliser)
            episodes = evaluate(policy, env, s.eval_episodes, (seed, "eval", step))
            score = self.task.score.normalise(np.array([e.return_ for e in episodes]))
            records.append_eval(
                EvalRow(seed, step, *e, x) for e, x in zip(episodes, score, strict=True)
            )
            scores += score.tolist()
        return scores

    def _manifest(self) -> dict[str, Any]:
        """What stands in the directory if the run can go on from there, else a new manifest."""
        cell = self.cell
        now = numerics(self.device, cell.runtime.threads, self.compile)
        git = git_state(ROOT)
        path = self.run_dir / MANIFEST
        if path.exists():
            old: dict[str, Any] = read_json(path)
            if old.get("schema") != SCHEMA:
                raise UserError(f"{path}: schema {old.get('schema')}, not {SCHEMA}; remove the run")
            differences = mismatch(old["numerics"], now)
            if not differences:
                return old | {"resumed": [*old["resumed"], {"step": old["step"], "git": git}]}
            self._mismatch(differences)
        return {
            "schema": SCHEMA,
            "run_id": cell.run_id,
            "config": cell.config,
            "overrides": cell.overrides,
            "dataset": None,
            "score": {
                "name": self.task.score.name,
                "env_id": self.task.env_id,
                "ref_min": self.task.score.ref_min,
                "ref_max": self.task.score.ref_max,
            },
            "normaliser": None,
            "git": git,
            "resumed": [],
            "versions": versions(),
            "numerics": now,
            "step": 0,
            "wall_s": 0.0,
            "split_s": Timer().split,
        }

    def _mismatch(self, differences: list[str]) -> None:
        """Stops, or clears the directory for a new start if the config says so."""
        if self.cell.settings.on_mismatch == "stop":
            raise UserError(
                f"{self.run_dir}: was begun under other conditions: {'; '.join(differences)}. "
                "Restore them, or start it over with on_mismatch=restart"
            )
        for name in ("eval.csv", "train.csv", "policy.safetensors", MANIFEST):
            (self.run_dir / name).unlink(missing_ok=True)
        checkpoint.remove(self.run_dir)

    def _write(self, status: str, error: str | None, step: int | None = None) -> None:
        if step is not None:
            self.manifest["step"] = step
        m, wall = self.manifest, time.perf_counter() - self.started
        m |= {"status": status, "error": error, "peak_memory_mb": round(peak_memory_mb(), 1)}
        m["wall_s"] = round(self.before["wall_s"] + wall, 3)
        m["split_s"] = {
            k: round(self.before["split_s"][k] + v, 3) for k, v in self.timer.split.items()
        }
        busy = m["split_s"]["data"] + m["split_s"]["update"]
        m["steps_per_s"] = round(m["step"] / busy, 1) if busy else None
        write_json(self.run_dir / MANIFEST, m)

    def _progress(self, step: int) -> "tqdm[Any]":
        """One bar per run, on its own line in a sweep; silent when stderr is no terminal."""
        worker = "".join(c for c in multiprocessing.current_process().name if c.isdigit())
        return tqdm(
            total=self.cell.settings.n_updates,
            initial=step,
            desc=self.cell.dirname,
            unit="step",
            disable=None,
            leave=False,
            position=int(worker) - 1 if worker else 0,
            mininterval=0.5,
        )


def _compile(cell: Cell) -> bool:
    """Whether to compile: decided once, from the whole length of the run."""
    wanted = cell.runtime.compile == "true" or (
        cell.runtime.compile == "auto" and cell.settings.n_updates >= COMPILE_FROM
    )
    return wanted and shutil.which("g++") is not None  # eager is the fallback, see numerics
