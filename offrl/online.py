"""Training an online learner, to get a behaviour policy.

The learner obeys the same protocol as the offline ones; only the loop differs, because its data
grows.  It resumes in every bit: the replay is a set of append-only files whose lengths the
checkpoint has, and at every evaluation the environments are reset with seeds from the block's
address, so that no simulator state has to be saved.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from offrl import checkpoint
from offrl.atomic import remove_leftovers
from offrl.claim import Claim, claim
from offrl.data.atari import SIMULATOR
from offrl.data.buffer import ReplayBuffer
from offrl.data.replay import collect_seed
from offrl.engine import SLICE, Engine
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError, require_whole
from offrl.evaluate import CHUNK, Episode, evaluate
from offrl.record import EvalRow, Records, TrainRow, read_json, scalars, write_json
from offrl.rng import generator
from offrl.types import OnlineAlgorithm
from offrl.versions import mismatch, numerics


def policy_path(run: Path, step: int) -> Path:
    """Where an online run keeps the policy that it had after so many steps."""
    return run / "policies" / f"{step:09d}.safetensors"


@dataclass(frozen=True)
class Online:
    """One online run: conf/collect.yaml, with the algorithm built.

    Steps are those of all environments together.
    """

    algo: OnlineAlgorithm[Any, Any, Any]
    env_id: str
    make_env: Callable[[int], VectorEnv]  # so many environments, as the learner acts in them
    make_eval_env: Callable[[int], VectorEnv]  # and as it is evaluated
    gamma: float
    n_step: int
    seed: int
    train_steps: int
    start_steps: int  # before learning begins; continuous actions are uniform until then
    n_envs: int
    steps_per_update: int
    capacity: int  # the newest transitions that learning draws from
    eval_every: int
    eval_episodes: int
    out: Path
    compile: bool
    games: Mapping[str, object] = field(default_factory=dict)  # how they are played; robots: none

    def __post_init__(self) -> None:
        counts = ("n_envs", "steps_per_update", "n_step", "eval_every", "eval_episodes", "capacity")
        for key in ("seed", "train_steps", "start_steps", *counts):
            require_whole(key, getattr(self, key), 1 if key in counts else 0)
        for key in ("train_steps", "start_steps", "eval_every"):
            if getattr(self, key) % self.n_envs:
                raise UserError(
                    f"{key}={getattr(self, key)}: must be a multiple of n_envs={self.n_envs}"
                )
        if self.train_steps % self.eval_every:
            raise UserError(
                f"train_steps={self.train_steps}: must be a multiple of eval_every="
                f"{self.eval_every}, so that a longer training begins like it"
            )
        least = min(self.n_envs * (self.n_step - 1), self.eval_every)
        if self.start_steps < least:
            raise UserError(
                f"start_steps={self.start_steps}: must be at least {least}, so that learning "
                "begins with a whole transition"
            )
        if self.n_envs % self.steps_per_update:
            raise UserError(
                f"n_envs={self.n_envs}: must be a multiple of steps_per_update="
                f"{self.steps_per_update}, so that learning takes turns with acting"
            )
        if self.n_envs > CHUNK:
            raise UserError(f"n_envs={self.n_envs}: must be at most {CHUNK}")

    def train(self, report: Callable[[int, float, float], None]) -> None:
        """Runs to train_steps, from where it stopped; after every evaluation calls
        report(step, mean return, steps per second) and keeps the policy of that step.

        Raises UserError where `out` holds a training with other settings, or another process.
        """
        with claim(self.out) as mine:
            if mine is None:
                raise UserError(f"{self.out}: another process is training there")
            self._train(report, mine)

    def buffer(self) -> ReplayBuffer:
        return ReplayBuffer(
            self.out, self.algo.spec, self.train_steps, self.n_envs, self.gamma, self.n_step
        )

    def _train(self, report: Callable[[int, float, float], None], mine: Claim) -> None:
        (self.out / "policies").mkdir(exist_ok=True)
        remove_leftovers(self.out / "policies", "*")
        self._same_settings()
        env, eval_env = self.make_env(self.n_envs), self.make_eval_env(self.eval_episodes)
        buffer = self.buffer()
        records = Records(self.out)

        state = self.algo.init(generator(self.seed, "init"))
        resumed = checkpoint.load(self.out, (state, buffer.counts))
        step, (state, counts) = resumed or (0, (state, buffer.counts))
        buffer.rewind(counts)
        records.truncate_after(step)
        if step == 0:
            self._keep_policy(0, state)
        engine = Engine(self.algo, [state], compile=self.compile)
        while step < self.train_steps:
            start = time.perf_counter()
            size = min(self.eval_every, self.train_steps - step)
            train_row = self._block(engine, env, buffer, step, size)
            step += size
            speed = size / (time.perf_counter() - start)
            episodes = self.evaluate(engine.states[0], eval_env, step)
            mine.check()
            self._keep(step, engine.states[0], episodes, train_row, records, buffer)
            report(step, float(np.mean([e.return_ for e in episodes])), speed)

    def _same_settings(self) -> None:
        """A training is continued only as it was begun; it may be made longer."""
        path = self.out / "settings.json"
        algo = {f"algo.{k}": str(v) for k, v in vars(self.algo).items()}
        own = (
            *("env_id", "gamma", "n_step", "seed", "start_steps", "n_envs", "steps_per_update"),
            *("capacity", "eval_every", "eval_episodes"),
        )
        settings = algo | {k: getattr(self, k) for k in own} | dict(self.games)
        simulator = SIMULATOR if self.games else ()
        settings |= numerics("cpu", torch.get_num_threads(), self.compile, simulator)
        if not path.exists():
            write_json(path, settings)
        elif differences := mismatch(read_json(path), settings):
            raise UserError(
                f"{self.out}: holds a training that was begun otherwise: {'; '.join(differences)}. "
                "Restore what it was, or choose another out"
            )

    def evaluate(self, state: Any, env: VectorEnv, step: int) -> list[Episode]:
        """Episodes of act() from start states that are the same at every evaluation."""
        return evaluate(
            lambda o, z: self.algo.act(state, o, z),
            env,
            self.eval_episodes,
            self.algo.act_noise_dim,
            (self.seed, "eval", step),
        )

    def _block(
        self, engine: Engine, env: VectorEnv, buffer: ReplayBuffer, first: int, size: int
    ) -> dict[str, float]:
        """Steps first ... first + size - 1: act, store, learn.  The means of the Stats."""
        spec, n = self.algo.spec, self.n_envs
        g = generator(self.seed, "collect", first)
        turns, updates = size // n, size // self.steps_per_update
        uniform = 2 * torch.rand(turns, n, spec.action_dim, generator=g) - 1
        normal = torch.randn(turns, CHUNK, spec.action_dim, generator=g)
        draws = torch.rand(updates, spec.batch_size, generator=g, dtype=torch.float64)
        for i in range(n):
            buffer.begin(i, env.reset(i, collect_seed(self.seed, first, i)))
        alive = np.ones(n, np.bool_)
        rows_in = torch.zeros(CHUNK, *spec.obs_shape, dtype=torch.from_numpy(env.obs).dtype)
        episode, total, n_updates, noise = n, None, 0, None
        for k in range(turns):
            step = first + k * n
            if step < self.start_steps and self.algo.continuous:
                action = spec.max_action * uniform[k]
            else:
                rows_in[:n] = torch.from_numpy(env.obs)
                action = self.algo.explore(engine.states[0], rows_in, normal[k])[:n]
            reward, terminated, truncated = env.step_alive(action.numpy(), alive)
            for i in range(n):
                buffer.add(i, action[i].numpy(), reward[i], env.obs[i], bool(terminated[i]))
                if terminated[i] or truncated[i]:
                    buffer.cut(i)
                    buffer.begin(i, env.reset(i, collect_seed(self.seed, first, episode)))
                    episode += 1
            if step < self.start_steps:
                continue
            for u in range(k * n // self.steps_per_update, (k + 1) * n // self.steps_per_update):
                if n_updates % SLICE == 0:
                    noise = self.algo.noise(SLICE, generator(self.seed, "noise", step))
                i = n_updates % SLICE
                batch = buffer.gather(draws[u], self.capacity)
                stats = engine.step([batch], [tree_map(lambda x, i=i: x[i], noise)])[0]
                total = stats if total is None else tree_map(torch.add, total, stats)
                n_updates += 1
        for i in range(n):
            buffer.cut(i)
        return {} if total is None else {k: float(v) / n_updates for k, v in scalars(total).items()}

    def _keep(
        self,
        step: int,
        state: Any,
        episodes: list[Episode],
        train_row: dict[str, float],
        records: Records,
        buffer: ReplayBuffer,
    ) -> None:
        """Writes what this block made; the checkpoint last, for a restart begins from it."""
        buffer.flush()
        records.append_eval(
            EvalRow(self.seed, step, e.episode, e.return_, e.length, e.return_) for e in episodes
        )
        if train_row:
            records.append_train([TrainRow(self.seed, step, train_row)])
        records.flush()
        self._keep_policy(step, state)
        checkpoint.save(self.out, step, (state, buffer.counts))

    def _keep_policy(self, step: int, state: Any) -> None:
        policy = {name: getattr(state, name) for name in self.algo.policy_fields}
        checkpoint.save_tensors(policy_path(self.out, step), policy, {})
