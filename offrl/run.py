"""One run, in reading order: from a cell to a complete run directory.

The same cell again is skipped if it is complete, and continued, bit for bit, if it is not.
"""

import contextlib
import multiprocessing
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from offrl import checkpoint, manifest, preempt
from offrl.atomic import remove_leftovers
from offrl.cell import Cell
from offrl.claim import Claim, claim, holder
from offrl.compiler import HAS_COMPILER, compiles, wants_compiler
from offrl.data.atari import SIMULATOR
from offrl.data.dataset import Dataset, check_fits
from offrl.data.dynamics import check_dynamics
from offrl.data.memory import require_memory
from offrl.data.normalise import Normaliser, reward_scale
from offrl.data.subset import subset
from offrl.data.transitions import Transitions
from offrl.engine import reproducible
from offrl.envs.make import spec_of
from offrl.errors import UserError
from offrl.evaluations import Evaluations, Wait
from offrl.graph import engine_for
from offrl.loggers.interface import RunInfo
from offrl.loop import Diverged, Loop
from offrl.mirror import Mirror
from offrl.policy import save_policy
from offrl.record import EvalRow, Records
from offrl.rng import generator
from offrl.sources import D4RL, Game, Robot, Task
from offrl.versions import code, mismatch, numerics, reset_peak_memory


@dataclass(frozen=True)
class Outcome:
    """How a cell stands: "complete", "failed", "diverged", "interrupted" by a signal, after which
    it can go on, or "claimed" by another process.
    """

    status: str
    run_dir: Path
    message: str = ""


def run_dir_of(cell: Cell) -> Path:
    return Path(cell.settings.out).resolve() / cell.dirname


def status(cell: Cell) -> str:
    """What the run directory says: "none" if there is no run yet."""
    return manifest.state(run_dir_of(cell))[0]


def run(cell: Cell) -> Outcome:
    """Runs a cell to its end.  Never raises: a failure is an outcome, and never ends a sweep."""
    run_dir = run_dir_of(cell)
    try:
        if manifest.finished(run_dir, cell) and holder(run_dir) is None:
            return Outcome("complete", run_dir)
        _require_device(cell)
        require_out(cell)
        with claim(run_dir) as mine:
            if mine is None:
                by = holder(run_dir) or {"host": "unknown", "pid": "unknown"}
                why = f"another process runs it: {by['host']}, process {by['pid']}"
                return Outcome("claimed", run_dir, why)
            if manifest.finished(run_dir, cell):  # since just now, or killed while it cleaned up
                checkpoint.remove(run_dir)
                return Outcome("complete", run_dir)
            return _Run(cell, run_dir, mine).finish()
    except UserError as e:
        return Outcome("failed", run_dir, str(e))
    except (Exception, SystemExit):
        return Outcome("failed", run_dir, traceback.format_exc())


def _require_device(cell: Cell) -> None:
    if cell.runtime.device == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device=cuda: torch sees no CUDA device; use runtime=cpu")


def require_out(cell: Cell) -> None:
    """Raises UserError where `out` cannot be written; a launcher may lack a device, not this."""
    out = run_dir_of(cell).parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as e:
        raise UserError(f"out={cell.settings.out}: cannot be written: {e.strerror or e}") from e


class _Point(NamedTuple):
    """A step that a run can go on from."""

    step: int
    states: tuple[Any, ...]
    wait: Wait | None  # for its evaluation, if one is due


class _Run:
    """A run that this process owns: its directory, its manifest and the time that it took."""

    def __init__(self, cell: Cell, run_dir: Path, mine: Claim) -> None:
        self.cell, self.run_dir, self.claim = cell, run_dir, mine
        self.task: Task = cell.source.task(cell.env)
        self.device = torch.device(cell.runtime.device)
        simulator = SIMULATOR if isinstance(cell.env, Game) else ()
        threads = cell.runtime.threads
        self.numerics = numerics(self.device, threads, compiles(cell), simulator) | {"code": code()}
        for name in (manifest.NAME, "*.csv", "*.safetensors"):
            remove_leftovers(run_dir, name)
        begun = manifest.begun(run_dir)
        self._start(begun) if begun else self._start_over()

    def _start(self, content: manifest.Content) -> None:
        self.manifest, self.clock = content, manifest.Clock(content)

    def _start_over(self) -> None:
        """Clears the directory; the manifest goes last, so that a half-cleared one is known."""
        checkpoint.remove(self.run_dir)
        for name in ("eval.csv", "train.csv", "policy.safetensors", manifest.NAME):
            (self.run_dir / name).unlink(missing_ok=True)
        content = manifest.new(self.cell, self.task, self.numerics)
        if wants_compiler(self.cell) and not HAS_COMPILER:
            content["note"] = "eager: no C++ compiler was found (CXX, else g++)"
        self._start(content)

    def finish(self) -> Outcome:
        """Trains to the end and writes the status, whatever it is."""
        reproducible(self.cell.runtime.threads)
        reset_peak_memory()
        try:
            self._expect("numerics", mismatch(self.manifest["numerics"], self.numerics))
            self._train()
        except preempt.Preempted as e:
            self._write("interrupted", None)
            return Outcome("interrupted", self.run_dir, str(e))
        except Diverged as e:
            self.manifest["diverged_seed"] = e.seed  # the others end with it
            self._write("diverged", str(e))
            return Outcome("diverged", self.run_dir, str(e))
        except (Exception, SystemExit) as e:
            with contextlib.suppress(UserError):  # a full disk or a lost claim: `e` says it
                kind = "" if isinstance(e, UserError) else f"{type(e).__name__}: "
                self._write("failed", f"{kind}{e}")
            raise
        self._write("complete", None)
        checkpoint.remove(self.run_dir)
        return Outcome("complete", self.run_dir)

    def _train(self) -> None:
        s, algo = self.cell.settings, self.cell.algo
        with self.clock.timer("data"):
            data = self._data()
            normaliser = Normaliser.fit(data.states, data.index) if s.norm_obs else None
            scale = reward_scale(data) if s.norm_reward else 1.0
            # on a GPU the frames, too: its graph of an update gathers the batch
            transitions = Transitions(data, s.gamma, s.n_step, normaliser, self.device, scale)
        self.manifest["normaliser"] = normaliser.to_json() if normaliser else None
        self.manifest["reward_scale"] = scale
        timer = self.clock.timer  # only now: other data may have started the run over
        records = Records(self.run_dir)
        states = tuple(algo.init(generator(seed, "init", device=self.device)) for seed in s.seeds)
        step, states = checkpoint.load(self.run_dir, states) or (0, states)
        records.truncate_after(step)
        manifest.note_start(self.manifest, step)
        engine = engine_for(self.device, algo, states, bool(self.numerics["compile"]))
        loop = Loop(algo, s.seeds, transitions, self.device, timer)
        evaluations = Evaluations(
            self.cell, self.task.env, normaliser, self.cell.runtime.eval_workers
        )
        pending: _Point | None = None  # where an evaluation may still be going on
        self._write("running", None)
        with self._progress(step) as bar, self._mirror(step) as mirror, evaluations:

            def keep(point: _Point) -> None:
                """Writes what a point brought; the checkpoint last, for a restart goes on there."""
                with timer("evaluation"):
                    scores = self._append(point, records)
                with timer("checkpoint"):
                    self.claim.check()
                    records.flush()
                    save_policy(self.run_dir, algo, s.seeds, point.states, normaliser, point.step)
                    checkpoint.save(self.run_dir, point.step, point.states)
                    self.manifest["step"] = point.step
                    self._write("running", None)
                mirror.follow(records, point.step)
                losses = {k: f"{v:.3g}" for k, v in rows[-1].stats.items()}
                bar.set_postfix(({"score": f"{np.mean(scores):.1f}"} if scores else {}) | losses)

            while step < s.n_updates:
                due = min(s.n_updates, (step // s.eval_every + 1) * s.eval_every)
                stop = min(due, (step // loop.block + 1) * loop.block)
                rows = loop.train(engine, step, stop, bar.update)
                records.append_train(rows)
                step = stop
                if step < due and not preempt.asked():
                    continue
                if pending is not None:
                    keep(pending)
                states = tuple(engine.states)
                with timer("evaluation"):
                    wait = evaluations.start(step, states) if step == due else None
                pending = _Point(step, states, wait)
                if not evaluations.overlap or step == s.n_updates or preempt.asked():
                    keep(pending)
                    pending = None
                if preempt.asked() and step < s.n_updates:
                    raise preempt.Preempted(f"asked to end; the same command goes on at {step}")

    def _data(self) -> Dataset:
        """The cell's transitions; checks that they are the ones that the run began with."""
        cell = self.cell
        whole = cell.source.open(cell.env)
        check_fits(whole, spec_of(self.task.env), self.task.env_id)
        # D4RL's files are known by their digests; the simulator that recorded them is an old one
        if isinstance(cell.env, Robot) and not isinstance(cell.source, D4RL):
            check_dynamics(whole, self.task.env_id)
        data = subset(whole, cell.settings.buffer_size)
        require_memory(data)
        size = cell.settings.buffer_size
        if size is not None and size > len(whole):
            what = f"buffer_size={size}: {whole.id} has {len(whole)} transitions, all are used"
            tqdm.write(what, file=sys.stderr)
        known = self.manifest["dataset"]
        if known is not None and known["digest"] != whole.digest:
            self._expect("data", [f"digest of {whole.id}: {known['digest']} -> {whole.digest}"])
        returns = data.episode_returns()
        # a subset may be too small to hold a whole episode: then nothing is said of returns
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

    def _append(self, point: "_Point", records: Records) -> list[float]:
        """The rows of an evaluation, once it is done; its scores."""
        scores: list[float] = []
        if point.wait is None:
            return scores
        for seed, episodes in zip(self.cell.settings.seeds, point.wait(), strict=True):
            score = self.task.score.normalise(np.array([e.return_ for e in episodes]))
            records.append_eval(
                EvalRow(seed, point.step, *e, x) for e, x in zip(episodes, score, strict=True)
            )
            scores += score.tolist()
        return scores

    def _expect(self, what: str, differences: list[str]) -> None:
        """If there are any, stops, or starts the run over if the config says so."""
        if not differences:
            return
        if self.cell.settings.on_mismatch == "stop":
            raise UserError(
                f"{self.run_dir}: was begun with other {what}: {'; '.join(differences)}. "
                "Restore what it was, or start the run over with on_mismatch=restart"
            )
        self._start_over()

    def _write(self, status: str, error: str | None) -> None:
        self.claim.check()
        manifest.write(self.run_dir, self.manifest, self.clock, status, error)

    def _mirror(self, step: int) -> Mirror:
        cell = self.cell
        info = RunInfo(cell.run_id, cell.dirname, self.run_dir, cell.config)
        return Mirror(cell.logger, info, step)

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
