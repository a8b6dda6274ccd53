"""Training an online learner, to get a behaviour policy.

The learner obeys the same protocol as the offline ones; only the loop differs, because its data
grows.  It resumes in every bit: the replay is an append-only file whose length is the step, and at
every evaluation the environment is reset with seeds from the block's address, so that no
simulator state has to be saved.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from offrl import checkpoint
from offrl.atomic import remove_leftovers
from offrl.claim import Claim, claim
from offrl.data.replay import start_seed
from offrl.engine import Engine
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError
from offrl.evaluate import CHUNK, Episode, evaluate
from offrl.loop import SLICE
from offrl.record import EvalRow, Records, TrainRow, read_json, scalars, write_json
from offrl.rng import generator
from offrl.types import OnlineAlgorithm, Transition
from offrl.versions import mismatch, numerics


def policy_path(run: Path, step: int) -> Path:
    """Where an online run keeps the policy that it had after so many steps."""
    return run / "policies" / f"{step:09d}.safetensors"


class Replay:
    """Transitions in an append-only file of float32 rows: obs, next_obs, action, reward, done."""

    def __init__(self, path: Path, capacity: int, obs_dim: int, action_dim: int) -> None:
        shape = (capacity, 2 * obs_dim + action_dim + 2)
        mode: Literal["r+", "w+"] = "r+" if path.exists() else "w+"
        dtype: np.dtype[np.float32] = np.dtype(np.float32)
        self._rows = np.memmap(path, dtype, mode, shape=shape)
        self._splits = [obs_dim, obs_dim, action_dim, 1, 1]
        self._tensor = torch.from_numpy(self._rows)

    def write(
        self,
        i: int,
        obs: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        action: Tensor,
        reward: float,
        terminated: bool,
    ) -> None:
        self._rows[i] = np.concatenate((obs, next_obs, action.numpy(), (reward, terminated)))

    def gather(self, rows: Tensor, gamma: float) -> Transition:
        obs, next_obs, action, reward, done = torch.split(self._tensor[rows], self._splits, 1)
        reward, discount = reward.squeeze(1), gamma * (1 - done.squeeze(1))
        return Transition(
            *(x.contiguous() for x in (obs, action, reward, next_obs, action, discount, reward))
        )

    def actions(self, n: int) -> Tensor:
        """The first n actions, [n, A]."""
        return torch.split(self._tensor[:n], self._splits, 1)[2].contiguous()

    def flush(self) -> None:
        self._rows.flush()


@dataclass(frozen=True)
class Online:
    """One online run: conf/collect.yaml, with the algorithm built."""

    algo: OnlineAlgorithm[Any, Any, Any]
    env_id: str
    gamma: float
    seed: int
    n_steps: int
    start_steps: int
    eval_every: int
    eval_episodes: int
    out: Path
    compile: bool

    def train(self, report: Callable[[int, float, float], None]) -> None:
        """Runs to n_steps, from where it stopped; after every evaluation calls
        report(step, mean return, steps per second) and keeps the policy of that step.

        Raises UserError where `out` holds a training with other settings, or another process.
        """
        with claim(self.out) as mine:
            if mine is None:
                raise UserError(f"{self.out}: another process is training there")
            self._train(report, mine)

    def replay(self) -> Replay:
        spec = self.algo.spec
        return Replay(self.out / "replay.f32", self.n_steps, spec.obs_shape[0], spec.action_dim)

    def _train(self, report: Callable[[int, float, float], None], mine: Claim) -> None:
        (self.out / "policies").mkdir(exist_ok=True)
        remove_leftovers(self.out / "policies", "*")
        self._same_settings()
        env, eval_env = VectorEnv(self.env_id, 1), VectorEnv(self.env_id, self.eval_episodes)
        replay = self.replay()
        records = Records(self.out)

        state = self.algo.init(generator(self.seed, "init"))
        resumed = checkpoint.load(self.out, state)
        step, state = resumed or (0, state)
        records.truncate_after(step)
        if step == 0:
            self._keep_policy(0, state)
        engine = Engine(self.algo, [state], compile=self.compile)
        while step < self.n_steps:
            start = time.perf_counter()
            size = min(self.eval_every, self.n_steps - step)
            train_row = self._block(engine, env, replay, step, size)
            step += size
            speed = size / (time.perf_counter() - start)
            episodes = self.evaluate(engine.states[0], eval_env)
            mine.check()
            self._keep(step, engine.states[0], episodes, train_row, records, replay)
            report(step, float(np.mean([e.return_ for e in episodes])), speed)

    def _same_settings(self) -> None:
        """A training is continued only as it was begun; it may be made longer."""
        path = self.out / "settings.json"
        algo = {f"algo.{k}": str(v) for k, v in vars(self.algo).items()}
        own = ("env_id", "gamma", "seed", "start_steps", "eval_every", "eval_episodes")
        settings = algo | {k: getattr(self, k) for k in own}
        settings |= numerics("cpu", torch.get_num_threads(), self.compile)
        if not path.exists():
            write_json(path, settings)
        elif differences := mismatch(read_json(path), settings):
            raise UserError(
                f"{self.out}: holds a training that was begun otherwise: {'; '.join(differences)}. "
                "Restore what it was, or choose another out"
            )

    def evaluate(self, state: Any, env: VectorEnv) -> list[Episode]:
        """Greedy episodes from start states that are the same at every evaluation."""
        return evaluate(lambda o, z: self.algo.act(state, o, z), env, self.eval_episodes)

    def _block(
        self, engine: Engine, env: VectorEnv, replay: Replay, first: int, size: int
    ) -> dict[str, float]:
        """Steps first ... first + size - 1: act, store, learn.  The means of the Stats."""
        spec, address = self.algo.spec, (self.seed, "collect", first)
        g = generator(*address)
        uniform = 2 * torch.rand(size, spec.action_dim, generator=g) - 1
        normal = torch.randn(size, CHUNK, spec.action_dim, generator=g)
        draws = torch.rand(size, spec.batch_size, generator=g, dtype=torch.float64)
        rows_in = torch.zeros(CHUNK, *spec.obs_shape)
        env.reset(0, start_seed(self.seed, first, 0))
        alive = np.ones(1, np.bool_)
        episode, total, n_updates, noise = 0, None, 0, None
        for k in range(size):
            step = first + k
            if step < self.start_steps:
                action = spec.max_action * uniform[k]
            else:
                rows_in[0] = torch.from_numpy(env.obs[0])
                action = self.algo.explore(engine.states[0], rows_in, normal[k])[0]
            before = env.obs[0].copy()
            reward, terminated, truncated = env.step_alive(action.numpy()[None], alive)
            replay.write(step, before, env.obs[0], action, reward[0], terminated[0])
            if terminated[0] or truncated[0]:
                episode += 1
                env.reset(0, start_seed(self.seed, first, episode))
            if step < self.start_steps:
                continue
            if n_updates % SLICE == 0:
                noise = self.algo.noise(SLICE, generator(self.seed, "noise", step))
            i = n_updates % SLICE
            batch = replay.gather((draws[k] * (step + 1)).long(), self.gamma)
            stats = engine.step([batch], [tree_map(lambda x, i=i: x[i], noise)])[0]
            total = stats if total is None else tree_map(torch.add, total, stats)
            n_updates += 1
        return {} if total is None else {k: float(v) / n_updates for k, v in scalars(total).items()}

    def _keep(
        self,
        step: int,
        state: Any,
        episodes: list[Episode],
        train_row: dict[str, float],
        records: Records,
        replay: Replay,
    ) -> None:
        """Writes what this block made; the checkpoint last, for a restart begins from it."""
        replay.flush()
        records.append_eval(
            EvalRow(self.seed, step, e.episode, e.return_, e.length, e.return_) for e in episodes
        )
        if train_row:
            records.append_train([TrainRow(self.seed, step, train_row)])
        records.flush()
        self._keep_policy(step, state)
        checkpoint.save(self.out, step, state)

    def _keep_policy(self, step: int, state: Any) -> None:
        policy = {name: getattr(state, name) for name in self.algo.policy_fields}
        checkpoint.save_tensors(policy_path(self.out, step), policy, {})
