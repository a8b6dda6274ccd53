"""Records as a training run leaves them, and cells as a suite names them, without either."""

import copy
import csv
import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVAL_HEADER = ["seed", "step", "episode", "return", "length", "score"]
REFERENCES: dict[str, dict[str, Any]] = {
    "offrl": {"name": "offrl-v5", "env_id": "Hopper-v5", "ref_min": 20.0, "ref_max": 2020.0},
    "d4rl": {"name": "d4rl", "env_id": "Hopper-v4", "ref_min": -20.272305, "ref_max": 3234.3},
    "file": {"name": "return", "env_id": "Hopper-v4", "ref_min": None, "ref_max": None},
    "atari": {"name": "human", "env_id": "atari/pong", "ref_min": -20.7, "ref_max": 14.6},
}


def config(algo: str = "td3_bc", seeds: Sequence[int] = (0,), **changes: Any) -> dict[str, Any]:
    """A scientific config; `source`, `quality`, `env` and plain keys may be changed."""
    source, quality = changes.pop("source", "offrl"), changes.pop("quality", "medium")
    env = changes.pop("env", "hopper")
    weight = changes.pop("min_q_weight", None)
    versioned = {
        "offrl": f"offrl/{env}/{quality}-v0",
        "d4rl": f"d4rl/{env}-{quality}-v2",
        "file": f"file/{quality}",
        "atari": f"atari/{env}/{quality}-v0",
    }
    return {
        "algo": {"name": algo, "_target_": "offrl.algos.x.X", "alpha": changes.pop("alpha", 2.5)}
        | ({} if weight is None else {"min_q_weight": weight}),
        "env": {"name": env, "task": env.capitalize()},
        "dataset": {"source": source, "quality": quality, "id": versioned[source]},
        "seeds": list(seeds),
        "n_updates": 5000,
        "eval_every": 1000,
        "eval_episodes": 2,
        "buffer_size": 100000,
        "norm_obs": True,
        "batch_size": 256,
        "n_step": 1,
        **changes,
    }


@dataclass
class FakeCell:
    """A cell of offrl.plan.plan, as far as a report looks."""

    config: dict[str, Any]
    fixed: list[str] = field(default_factory=lambda: ["experiment=demo"])
    swept: tuple[str, ...] = ("algo", "dataset", "norm_obs", "seeds")

    @property
    def run_id(self) -> str:
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def overrides(self) -> list[str]:
        c = self.config
        values = {
            "algo": c["algo"]["name"],
            "env": c["env"]["name"],
            "dataset": f"{c['dataset']['source']}/{c['dataset']['quality']}",
            "norm_obs": str(c["norm_obs"]).lower(),
            "seeds": json.dumps(c["seeds"], separators=(",", ":")),
        }
        return [*self.fixed, *(f"{key}={values[key]}" for key in self.swept)]

    @property
    def command(self) -> str:
        return shlex.join(["python", "benchmarks/train.py", *self.overrides])


def returns(seed: int, step: int, episode: int) -> float:
    """An ugly float for every episode: it must survive a file."""
    return 400.0 + 100.0 * seed + step / 10 + episode / 3


def write_run(
    root: Path,
    cell: FakeCell,
    status: str = "complete",
    evaluations: Sequence[int] | None = None,
    value: Callable[[int, int, int], float] = returns,
    folder: str | None = None,
    **changes: Any,
) -> Path:
    """A run directory; `changes` replace keys of its manifest."""
    c = cell.config
    source = c["dataset"]["source"]
    reference = copy.deepcopy(REFERENCES[source])
    reference["env_id"] = reference["env_id"].replace("Hopper", c["env"]["task"])
    steps = [*range(c["eval_every"], c["n_updates"], c["eval_every"]), c["n_updates"]]
    manifest = {
        "schema": 1,
        "run_id": cell.run_id,
        "status": status,
        "error": None,
        "config": c,
        "overrides": cell.overrides,
        "step": c["n_updates"],
        "dataset": {
            "id": c["dataset"]["id"],
            "digest": "d" * 64,
            "n_transitions": 100000,
            "n_episodes": 120,
            "return_mean": 820.0,
            "return_std": 200.0,
            "return_best": 1620.0,
        },
        "score": reference,
        "normaliser": {"mean": [0.1], "std": [1.3]},
        "git": {"commit": "c" * 40, "dirty": False},
        "versions": {"python": "3.11.9", "ale-py": "0.12.1"},
        "numerics": {"device": "cpu", "threads": 1, "mujoco": "3.3.7", "gymnasium": "1.4.0"},
        "wall_s": 12.5,
        "split_s": {"data": 1.0},
        "peak_memory_mb": 400.0,
        "steps_per_s": 400.0,
        **changes,
    }
    run = root / (folder or f"{c['algo']['name']}_{cell.run_id}")
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps(manifest))
    with (run / "eval.csv").open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(EVAL_HEADER)
        for seed in c["seeds"]:
            for step in steps if evaluations is None else evaluations:
                for episode in range(c["eval_episodes"]):
                    r = value(seed, step, episode)
                    writer.writerow([seed, step, episode, r, 100 + episode, score(r, reference)])
    return run


def score(value: float, reference: dict[str, Any]) -> float:
    if reference["ref_min"] is None:
        return value
    low, high = reference["ref_min"], reference["ref_max"]
    return float(100 * (value - low) / (high - low))
