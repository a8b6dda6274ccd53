"""Choosing behaviour policies from an online run, after D4RL's recipe, and recording them.

expert: of the five best evaluated policies the best one when exploring.  medium: one with a third
to a half of the expert's return.  random: the untrained one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offrl.atomic import write_atomic
from offrl.checkpoint import load_tensors, save_tensors
from offrl.data.digest import sha256_file
from offrl.data.replay import NAME, replay, summary
from offrl.data.rollout import exploring, roll_out
from offrl.envs.vector import VectorEnv
from offrl.errors import UserError
from offrl.evaluate import CHUNK
from offrl.online import Online, policy_path
from offrl.versions import git_state, numerics

SHORTLIST = 5  # of the best evaluated policies, for the expert
FRESH = 100  # episodes, from start states that no evaluation of the training has used
MEDIUM = (1 / 3, 1 / 2)  # of the expert's return


@dataclass(frozen=True)
class Candidate:
    step: int
    returns: NDArray[np.float64]  # of the exploring policy, over FRESH episodes


def publish(
    run: Online, config: Mapping[str, Any], robot: str, root: Path, report: Callable[[str], None]
) -> None:
    """Writes offrl/policies/<robot>-{random,medium,expert,replay}.safetensors and <robot>.json.

    Removes the robot's kept actions, which belong to the policies before.
    `config` is what the run was trained with, `root` the repository.  Raises UserError where no
    policy of the run has a medium return.
    """
    target, env_id = root / "offrl" / "policies", run.env_id
    curve = pd.read_csv(run.out / "eval.csv").groupby("step")["return"].mean()
    steps = [int(step) for step in curve.index.to_numpy()]
    env = VectorEnv(env_id, CHUNK)

    def measure(step: int, purpose: str = "record") -> Candidate:
        tensors, _ = load_tensors(policy_path(run.out, step))
        policy = exploring(run.algo, tensors)
        episodes = roll_out(policy, env, (purpose, robot, step), 0, FRESH)[:FRESH]
        candidate = Candidate(step, np.array([e.return_ for e in episodes]))
        report(f"step {step}: {candidate.returns.mean():.1f} over {FRESH} episodes ({purpose})")
        return candidate

    # the evaluations are greedy and few: the likeliest ones are compared on what will be recorded,
    # and the winner is measured again, on other episodes
    likeliest = [steps[i] for i in curve.to_numpy().argsort()[::-1][:SHORTLIST]]
    best = max((measure(s, "selection") for s in likeliest), key=lambda c: float(c.returns.mean()))
    expert = measure(best.step)
    chosen = {"random": measure(0), "medium": _medium(curve, expert, measure), "expert": expert}
    policies = {}
    for quality, candidate in chosen.items():
        tensors, _ = load_tensors(policy_path(run.out, candidate.step))
        path = target / f"{robot}-{quality}.safetensors"
        save_tensors(path, tensors, {"env_id": env_id, "step": str(candidate.step)})
        policies[quality] = {
            "sha256": sha256_file(path),
            "step": candidate.step,
            "fresh_episodes": FRESH,
            "return_mean": float(candidate.returns.mean()),
            "return_std": float(candidate.returns.std()),
            "return_min": float(candidate.returns.min()),
            "return_max": float(candidate.returns.max()),
        }
    path = target / f"{robot}-replay.safetensors"
    record = {
        "env_id": env_id,
        "algo": config["algo"],
        "training": {k: v for k, v in config.items() if k not in ("algo", "env", "out", "publish")},
        "trained_steps": max(steps),
        "numerics": numerics("cpu", int(config["threads"]), bool(config["compile"])),
        "git": git_state(root),
        "reference": {
            "min": policies["random"]["return_mean"],
            "max": policies["expert"]["return_mean"],
        },
        "policies": policies,
        "replay": publish_replay(run, path, chosen["medium"].step),
    }
    write_atomic(target / f"{robot}.json", f"{json.dumps(record, indent=1)}\n".encode())
    for stale in target.glob(f"{robot}-*-actions-*.safetensors"):
        stale.unlink()  # named by the record before


def publish_replay(run: Online, path: Path, steps: int) -> dict[str, Any]:
    """Writes the actions of the run's first `steps` steps; what is recorded of them.

    Raises UserError if they, played again, do not give the rewards of the run.
    """
    actions, rewards = run.buffer().first(steps)
    env = VectorEnv(run.env_id, 1)
    data = replay(env, actions.numpy(), run.seed, run.eval_every)
    env.close()
    if not np.array_equal(data["reward"], rewards.numpy()):
        raise UserError(
            f"{run.out}: played again, its actions give other rewards: a replay needs n_envs=1, "
            "n_step=1 and the simulator of the training"
        )
    save_tensors(path, {NAME: actions}, {"env_id": run.env_id})
    return {"sha256": sha256_file(path), "steps": steps} | summary(data)


def _medium(
    curve: "pd.Series[float]", expert: Candidate, measure: Callable[[int], Candidate]
) -> Candidate:
    """The policy nearest to the middle of MEDIUM, confirmed on fresh episodes."""
    low, high = (f * expert.returns.mean() for f in MEDIUM)
    before = curve[curve.index < expert.step]
    for step in (before - (low + high) / 2).abs().sort_values().index[:10]:
        candidate = measure(int(step))
        if low <= candidate.returns.mean() <= high:
            return candidate
    raise UserError(
        f"none of the ten likeliest policies has a return between {low:.0f} and {high:.0f}; "
        "evaluate more often (eval_every) or train with another seed"
    )
